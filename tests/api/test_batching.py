from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from letterwise.api.services.batching import Batch, Batcher, Operation, Overloaded


def run(test: Callable[[Batcher], Awaitable[None]], **given: float) -> list[Batch]:
    """Run a test with a working batcher; returns the batches that were run."""
    batches: list[Batch] = []

    async def main() -> None:
        settings = {"max_batch_size": 4, "max_wait_seconds": 0.01, "queue_size": 8, "max_queue_seconds": 10, **given}
        batcher = Batcher(**settings, on_batch=batches.append)  # type: ignore[arg-type]
        batcher.start()
        try:
            await test(batcher)
        finally:
            await batcher.stop()

    asyncio.run(main())
    return batches


DOUBLE = Operation("score", "double", lambda items: [2 * item for item in items])


def test_items_that_wait_together_share_a_batch() -> None:
    async def test(batcher: Batcher) -> None:
        results = await asyncio.gather(*(batcher.submit(DOUBLE, [number]) for number in range(4)))
        assert results == [[0], [2], [4], [6]]

    (batch,) = run(test)
    assert len(batch.arrivals_ns) == 4
    assert max(batch.arrivals_ns) <= batch.started_ns <= batch.ended_ns


def test_more_items_than_fit_are_spread_over_batches_in_order() -> None:
    async def test(batcher: Batcher) -> None:
        assert await batcher.submit(DOUBLE, range(10)) == [2 * number for number in range(10)]  # type: ignore[arg-type]

    assert [len(batch.arrivals_ns) for batch in run(test)] == [4, 4, 2]


def test_operations_do_not_mix_and_the_oldest_goes_first() -> None:
    seen: list[list[str]] = []

    def note(items: list[str]) -> list[str]:
        seen.append(items)
        return items

    one, other = Operation("score", "one", note), Operation("score", "other", note)

    async def test(batcher: Batcher) -> None:
        await asyncio.gather(batcher.submit(other, ["b"]), batcher.submit(one, ["a"]), batcher.submit(other, ["c"]))

    run(test)
    assert seen == [["b", "c"], ["a"]]


def test_a_full_queue_refuses() -> None:
    gate = threading.Event()
    refused: list[int] = []

    def wait(items: list[int]) -> list[int]:
        gate.wait(10)
        return items

    async def test(batcher: Batcher) -> None:
        batcher.on_refusal = lambda: refused.append(1)
        slow = Operation("score", "slow", wait)
        tasks = [asyncio.create_task(batcher.submit(slow, [number])) for number in range(12)]
        while batcher.waiting != 8:  # four are being run
            await asyncio.sleep(0.001)
        with pytest.raises(Overloaded):
            batcher.admit(1, "score")
        gate.set()
        await asyncio.gather(*tasks)
        batcher.admit(100, "score")  # nothing waits, so even a large request is let in

    run(test)
    assert refused == [1]


def test_nothing_is_let_in_while_others_wait_too_long() -> None:
    gate = threading.Event()

    def wait(items: list[int]) -> list[int]:
        gate.wait(10)
        return items

    async def test(batcher: Batcher) -> None:
        operation = Operation("score", "slow", wait)
        tasks = [asyncio.create_task(batcher.submit(operation, [number])) for number in range(5)]
        while batcher.waiting != 1:  # four are being run
            await asyncio.sleep(0.001)
        batcher.admit(1, "score")
        await asyncio.sleep(0.1)
        with pytest.raises(Overloaded):
            batcher.admit(1, "score")
        gate.set()
        await asyncio.gather(*tasks)
        batcher.admit(1, "score")

    run(test, max_queue_seconds=0.09)


def test_a_failure_reaches_whoever_asked_and_the_worker_goes_on() -> None:
    def fail(_: list[int]) -> list[int]:
        raise RuntimeError("out of memory")

    async def test(batcher: Batcher) -> None:
        with pytest.raises(RuntimeError, match="out of memory"):
            await batcher.submit(Operation("score", "fail", fail), [1])
        assert await batcher.submit(DOUBLE, [1]) == [2]

    run(test)


class Panic(BaseException):
    """What a panic in Rust becomes in Python: no Exception."""


@pytest.mark.parametrize("trouble", [Panic("index out of bounds"), StopIteration(), asyncio.CancelledError()], ids=repr)
def test_the_worker_outlives_whatever_the_model_raises(trouble: BaseException) -> None:
    def fail(_: list[int]) -> list[int]:
        raise trouble

    async def test(batcher: Batcher) -> None:
        with pytest.raises(RuntimeError, match="The model failed"):
            await batcher.submit(Operation("score", "fail", fail), [1])
        assert await batcher.submit(DOUBLE, [1]) == [2]

    run(test)


def test_results_that_are_too_few_are_a_failure_and_the_worker_goes_on() -> None:
    async def test(batcher: Batcher) -> None:
        with pytest.raises(RuntimeError, match="1 results for 2 items"):
            await batcher.submit(Operation("score", "few", lambda items: items[:1]), [1, 2])
        assert await batcher.submit(DOUBLE, [1]) == [2]

    run(test)


def test_a_batch_that_cannot_be_counted_is_answered_and_the_worker_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Batch) -> None:
        raise OSError("the collector is gone")

    async def test(batcher: Batcher) -> None:
        batcher.on_batch = fail
        assert await batcher.submit(DOUBLE, [1]) == [2]
        assert await batcher.submit(DOUBLE, [2]) == [4]
        assert batcher.alive

    run(test)
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2
    assert "the collector is gone" in caplog.text


def test_a_worker_that_ends_says_so_and_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError("a bug of ours")

    async def test(batcher: Batcher) -> None:
        monkeypatch.setattr(batcher.admission, "begin", fail)
        tasks = [asyncio.create_task(batcher.submit(DOUBLE, [number])) for number in range(6)]  # more than a batch
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 6
        assert not batcher.alive
        with pytest.raises(RuntimeError, match="does not work"):
            await batcher.submit(DOUBLE, [1])

    run(test)
    (record,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert "restart the service" in record.message
    assert "a bug of ours" in caplog.text


def test_stopping_is_no_death(caplog: pytest.LogCaptureFixture) -> None:
    async def test(batcher: Batcher) -> None:
        assert batcher.alive
        await batcher.stop()
        assert not batcher.alive

    run(test)
    assert caplog.records == []


def test_an_item_that_nobody_waits_for_any_more_is_not_run() -> None:
    gate, seen = threading.Event(), []

    def note(items: list[int]) -> list[int]:
        gate.wait(10)
        seen.extend(items)
        return items

    async def test(batcher: Batcher) -> None:
        operation = Operation("score", "note", note)
        first = asyncio.create_task(batcher.submit(operation, [1]))
        await asyncio.sleep(0.05)  # it is being run
        gone = asyncio.create_task(batcher.submit(operation, [2]))
        stays = asyncio.create_task(batcher.submit(operation, [3]))
        await asyncio.sleep(0)
        gone.cancel()
        gate.set()
        await asyncio.gather(first, stays)

    run(test)
    assert seen == [1, 3]
