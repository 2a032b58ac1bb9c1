"""Micro-batching: requests that wait at the same time share a forward pass.

A bounded queue refuses early what it could not answer soon (`admission`). Knows nothing about HTTP or what the items
mean.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as tracing_context
from opentelemetry.context import Context

from letterwise.api.services.admission import Admission

_log = logging.getLogger(__name__)


class Overloaded(Exception):  # noqa: N818 - it is a state of the service, not a mistake
    """The queue is full, or moves too slowly."""


@dataclass(frozen=True)
class Operation:
    """A kind of work whose items can share a batch; two equal operations share one."""

    name: str
    """'score' or 'generate'."""
    key: Any
    """What else the items must have in common: hashable."""
    run: Callable[[list[Any]], Sequence[Any]]
    """Takes items and gives a result for each, in a worker thread."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operation) and (self.name, self.key) == (other.name, other.key)

    def __hash__(self) -> int:
        return hash((self.name, self.key))


@dataclass(frozen=True)
class Batch:
    """What happened to a batch, for metrics and traces."""

    operation: str
    arrivals_ns: list[int]
    """When each item came, by `time.time_ns`."""
    contexts: list[Context]
    """The trace context in which each item came."""
    started_ns: int
    ended_ns: int


@dataclass(slots=True)
class _Entry:
    item: Any
    future: asyncio.Future[Any]
    arrived_ns: int
    context: Context


class Batcher:
    """Runs items in batches on one worker thread, oldest first."""

    def __init__(
        self,
        max_batch_size: int,
        max_wait_seconds: float,
        queue_size: int,
        max_queue_seconds: float,
        on_batch: Callable[[Batch], None] = lambda batch: None,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            max_batch_size: most items in one batch.
            max_wait_seconds: how long a batch that meets an idle worker waits for more items.
            queue_size: most items that may wait.
            max_queue_seconds: nothing more is let in that would wait for longer.
            on_batch: called after each batch.
            on_refusal: called when a request is refused.
        """
        self.max_batch_size = max_batch_size
        self.max_wait_seconds = max_wait_seconds
        self.admission = Admission(max_batch_size, queue_size, max_queue_seconds)
        self.on_batch = on_batch
        self.on_refusal = on_refusal
        self._queues: dict[Operation, deque[_Entry]] = {}
        self._arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._worker: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def alive(self) -> bool:
        """Whether somebody works: it has been started, and its worker has not ended."""
        return self._worker is not None and not self._worker.done()

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return sum(map(len, self._queues.values()))

    @property
    def closed(self) -> bool:
        """Whether there is an overload, and nothing can be let in at the moment."""
        return self.admission.closed(self._waiting(), self._longest_wait())

    def _longest_wait(self) -> float:
        now_ns = time.time_ns()
        oldest_ns = min((entries[0].arrived_ns for entries in self._queues.values()), default=now_ns)
        return (now_ns - oldest_ns) / 1e9

    def _waiting(self) -> Counter[str]:
        waiting: Counter[str] = Counter()
        for operation, entries in self._queues.items():
            waiting[operation.name] += len(entries)
        return waiting

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())
        self._worker.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the worker; items still waiting are cancelled. A batch that is being run is waited for."""
        self._stopping = True
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        # In a thread, so that meanwhile whoever waited can be told.
        await asyncio.to_thread(self._executor.shutdown)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        """Let nobody wait for a worker that is no more; unless it was stopped, say so."""
        if not self._stopping:
            error = None if worker.cancelled() else worker.exception()
            _log.critical("The model is asked nothing any more: restart the service.", exc_info=error)
        for entries in self._queues.values():
            _cancel(entries)
        self._queues.clear()

    def admit(self, items: int, operation: str) -> None:
        """Let a request in that will submit so many items, first to an operation of this name, or refuse it.

        Raises:
            Overloaded: it would not be answered soon.
        """
        if not items:
            return
        if not self.admission.admits(operation, items, self._waiting(), self._longest_wait()):
            self.on_refusal()
            raise Overloaded

    async def submit(self, operation: Operation, items: Sequence[Any]) -> list[Any]:
        """Wait for the results of some items, in their order; they may be spread over several batches.

        Raises:
            Exception: what the operation raised.
            RuntimeError: there is no worker.
        """
        if not items:
            return []
        if not self.alive:
            raise RuntimeError("The batcher does not work.")
        loop = asyncio.get_running_loop()
        now, context = time.time_ns(), tracing_context.get_current()
        entries = [_Entry(item, loop.create_future(), now, context) for item in items]
        self._queues.setdefault(operation, deque()).extend(entries)
        self._arrived.set()
        try:
            return list(await asyncio.gather(*(entry.future for entry in entries)))
        finally:
            for entry in entries:  # whoever asked may be gone
                entry.future.cancel()

    async def _work(self) -> None:
        while True:
            if not self._queues:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(self.max_wait_seconds)
            operation = min(self._queues, key=lambda operation: self._queues[operation][0].arrived_ns)
            queue = self._queues[operation]
            taken = [queue.popleft() for _ in range(min(self.max_batch_size, len(queue)))]
            if not queue:
                del self._queues[operation]
            if entries := [entry for entry in taken if not entry.future.done()]:
                try:
                    await self._run(operation, entries)
                finally:
                    _cancel(entries)  # those without an answer: nobody is left waiting, whatever happened

    async def _run(self, operation: Operation, entries: list[_Entry]) -> None:
        started = time.time_ns()
        self.admission.begin(operation.name, len(entries))
        try:
            results = await asyncio.get_running_loop().run_in_executor(
                self._executor, _results, operation, [entry.item for entry in entries]
            )
        except Exception as error:
            self.admission.cancel()
            for entry in entries:
                if not entry.future.done():
                    entry.future.set_exception(error)
            return
        self.admission.end()
        ended = time.time_ns()
        for entry, result in zip(entries, results, strict=True):
            if not entry.future.done():
                entry.future.set_result(result)
        self._report(
            Batch(
                operation.name,
                [entry.arrived_ns for entry in entries],
                [entry.context for entry in entries],
                started,
                ended,
            )
        )

    def _report(self, batch: Batch) -> None:
        try:
            self.on_batch(batch)
        except Exception:
            _log.exception("A batch was answered, but could not be counted.")


def _cancel(entries: Iterable[_Entry]) -> None:
    for entry in entries:
        entry.future.cancel()


def _results(operation: Operation, items: list[Any]) -> Sequence[Any]:
    """A result for each item; whatever goes wrong is an exception that a future can carry."""
    try:
        results = operation.run(items)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise
        # A panic in Rust, as of `tokenizers`, is no Exception.
        raise RuntimeError(f"The model failed: {error!r}") from error
    if len(results) != len(items):
        raise RuntimeError(f"The model gave {len(results)} results for {len(items)} items.")
    return results
