"""Admission: how long will a request take that comes now, and is that too long?

A queue that grows makes every answer late and none more; refusing early keeps the answers that are given fast. Knows
batches by kind, size and time; knows nothing about what they hold, nor HTTP.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from itertools import accumulate
from statistics import median

_REMEMBERED = 9
"""Batches of one size whose median counts: one that was held up, or compiled something, does not."""

_MARGINAL = 0.25
"""What an item more is expected to cost, as a share of the mean, in a batch larger than any so far. Rather too little:
once such batches are run, they are measured; those that are never let in are not."""

OVERLOAD = 2.0
"""Seconds of the model's work asked for in a second, from which on answers are kept fast rather than many."""
OVERLOAD_FACTOR = 1.9
"""Then a request is let in when its answer is expected within this many times what it takes alone: twice, less what is
spent around the model and what the expectation misses."""
LOAD_SECONDS = 0.4
"""Time constant of the average over which the load is taken: longer than a full batch, after which all users may ask
again at once, and short enough that few have been let in before an overload is noticed."""


class BatchTimes:
    """How long a batch takes, by kind and size: the median of the last ones, interpolated between sizes."""

    def __init__(self) -> None:
        self._measured: dict[str, dict[int, deque[float]]] = {}
        self._curves: dict[str, tuple[list[int], list[float]]] = {}

    def observe(self, kind: str, size: int, seconds: float) -> None:
        """Learn from a batch that is over."""
        sizes = self._measured.setdefault(kind, {})
        sizes.setdefault(size, deque(maxlen=_REMEMBERED)).append(seconds)
        known = sorted(sizes)
        # A smaller batch takes no longer than a larger one, so an old figure that says otherwise is out of date.
        falling = accumulate((median(sizes[each]) for each in reversed(known)), min)
        self._curves[kind] = known, list(falling)[::-1]

    def expected(self, kind: str, size: int) -> float:
        """Seconds that a batch will take; 0 while nothing is known about its kind."""
        if not size or kind not in self._curves:
            return 0.0
        sizes, seconds = self._curves[kind]
        place = bisect_left(sizes, size)
        if place == len(sizes):
            return seconds[-1] * (1 + _MARGINAL * (size / sizes[-1] - 1))
        if sizes[place] == size or place == 0:
            return seconds[place]
        share = (size - sizes[place - 1]) / (sizes[place] - sizes[place - 1])
        return seconds[place - 1] + share * (seconds[place] - seconds[place - 1])


class Admission:
    """Lets requests in while they can be answered soon.

    As long as there is room, a request may wait for `max_wait_seconds`. When much more is asked than can be answered,
    only those are let in that will be answered almost as fast as alone: they come when the batch at work is nearly
    over, and join one that is not large. The queue stays short, and the refused ones know at once.

    Args:
        max_batch_size: most items in one batch.
        queue_size: most items that may wait.
        max_wait_seconds: longest expected wait for the model.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        max_batch_size: int,
        queue_size: int,
        max_wait_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_batch_size = max_batch_size
        self.queue_size = queue_size
        self.max_wait_seconds = max_wait_seconds
        self.times = BatchTimes()
        self._clock = clock
        self._running: tuple[str, int, float] | None = None
        self._load, self._load_at = 0.0, 0.0

    def begin(self, kind: str, size: int) -> None:
        """A batch begins."""
        self._running = kind, size, self._clock()

    def end(self) -> None:
        """The batch is over."""
        if self._running:
            kind, size, began = self._running
            self.times.observe(kind, size, self._clock() - began)
        self._running = None

    def cancel(self) -> None:
        """The batch failed; how long it took says nothing."""
        self._running = None

    @property
    def overloaded(self) -> bool:
        """Whether much more is asked than can be answered."""
        return self._current_load() > OVERLOAD

    def admits(self, kind: str, items: int, waiting: Mapping[str, int], longest_wait: float) -> bool:
        """Whether a request may come in.

        Args:
            kind: of its first batch.
            items: how many it brings.
            waiting: items that wait already, by kind.
            longest_wait: seconds that one of them has waited.
        """
        self._count(kind, items)
        if not self._running and not waiting:
            return True  # however large it is, it will not become smaller
        queued = sum(waiting.values())
        if queued and queued + items > self.queue_size:
            return False
        ahead = self._remaining() + sum(self._batches(each, count) for each, count in waiting.items() if each != kind)
        if self.overloaded:
            return self._is_fast(kind, items, waiting, longest_wait, ahead)
        batches_before = waiting.get(kind, 0) // self.max_batch_size
        wait = ahead + self._batches(kind, batches_before * self.max_batch_size)
        return not queued or max(longest_wait, wait) <= self.max_wait_seconds

    def closed(self, waiting: Mapping[str, int], longest_wait: float) -> bool:
        """Whether in an overload not even one item more of what is being done may come in.

        Not to be followed by `admits` when it says so: the request has been counted.
        """
        kinds = (*waiting, *self._running_kind())
        if not kinds or not self.overloaded:
            return False
        load, at = self._load, self._load_at
        if self.admits(kinds[0], 1, waiting, longest_wait):
            self._load, self._load_at = load, at  # it is counted when it is asked for by its name
            return False
        return True

    def _is_fast(self, kind: str, items: int, waiting: Mapping[str, int], longest_wait: float, ahead: float) -> bool:
        """Whether the answer will come almost as fast as alone, and those of the waiting ones still will."""
        # Short work may wait for long work as long work does, else it would never have its turn.
        others = (self.times.expected(each, 1) for each in (*waiting, *self._running_kind()))
        alone = max(self._batches(kind, items), *others)
        limit = OVERLOAD_FACTOR * alone
        # Whoever waits is delayed by all that still join its batch. The sooner the first one comes, the smaller that
        # batch must be, so the door opens when those who come until the end of the run just fit.
        full = self.times.expected(kind, self.max_batch_size)
        each = (full - self.times.expected(kind, 1)) / max(1, self.max_batch_size - 1)
        arrivals = self._current_load() * self.max_batch_size / full if full else 0.0
        door = (limit - alone) / (1 + each * arrivals)
        own = self._batches(kind, waiting.get(kind, 0) + items)
        return ahead <= door and longest_wait + ahead + own <= limit

    def _count(self, kind: str, items: int) -> None:
        work = items * self.times.expected(kind, self.max_batch_size) / self.max_batch_size
        self._load = self._current_load() + work / LOAD_SECONDS
        self._load_at = self._clock()

    def _current_load(self) -> float:
        """Seconds of work asked for in a second, averaged with weights that fall off exponentially."""
        return self._load * math.exp((self._load_at - self._clock()) / LOAD_SECONDS)

    def _running_kind(self) -> tuple[str, ...]:
        return (self._running[0],) if self._running else ()

    def _remaining(self) -> float:
        """Seconds until the running batch is over; one that is late is expected to be over at any moment."""
        if not self._running:
            return 0.0
        kind, size, began = self._running
        return max(0.0, self.times.expected(kind, size) - (self._clock() - began))

    def _batches(self, kind: str, items: int) -> float:
        """Seconds for so many items, in as few batches as they fit in."""
        full, rest = divmod(items, self.max_batch_size)
        return full * self.times.expected(kind, self.max_batch_size) + self.times.expected(kind, rest)
