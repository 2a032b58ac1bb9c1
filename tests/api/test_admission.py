"""Who is let in: everybody while there is room, and in an overload who will be answered almost as fast as alone."""

from __future__ import annotations

import pytest

from letterwise.api.services.admission import LOAD_SECONDS, OVERLOAD, OVERLOAD_FACTOR, Admission, BatchTimes


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    """Of a model that takes 50 ms and 10 ms an item to score, and ten times as long to generate."""
    admission = Admission(max_batch_size=32, queue_size=64, max_wait_seconds=0.5, clock=clock)
    for size in (1, 2, 4, 8, 16, 32):
        admission.times.observe("score", size, 0.05 + 0.01 * size)
        admission.times.observe("generate", size, 0.5 + 0.1 * size)
    return admission


def test_times_are_medians_interpolated_between_sizes() -> None:
    times = BatchTimes()
    assert times.expected("score", 5) == 0
    for seconds in (0.1, 30.0, 0.2):  # one of them compiled something
        times.observe("score", 4, seconds)
    times.observe("score", 8, 0.4)
    assert [times.expected("score", size) for size in (0, 1, 4, 6, 8, 16)] == pytest.approx(
        [0, 0.2, 0.2, 0.3, 0.4, 0.5]
    )
    assert times.expected("generate", 4) == 0


def test_an_old_time_of_a_small_batch_gives_way_to_a_shorter_one_of_a_large_batch() -> None:
    times = BatchTimes()
    times.observe("score", 1, 5.0)
    times.observe("score", 8, 0.1)
    assert times.expected("score", 1) == pytest.approx(0.1)


def test_what_comes_alone_is_let_in_however_large(admission: Admission) -> None:
    assert admission.admits("generate", 1000, {}, 0)


def test_a_request_may_wait_as_long_as_the_setting_says(admission: Admission, clock: Clock) -> None:
    """32 items that run take 370 ms, as do the 32 before it."""
    admission.begin("score", 32)
    assert admission.admits("score", 1, {"score": 31}, 0)
    assert not admission.admits("score", 1, {"score": 32}, 0)
    clock.now += 0.3
    assert admission.admits("score", 1, {"score": 32}, 0)


def test_a_queue_has_a_size(admission: Admission) -> None:
    admission.max_wait_seconds = 60
    assert admission.admits("score", 24, {"score": 40}, 0)
    assert not admission.admits("score", 25, {"score": 40}, 0)


def test_a_queue_that_stands_still_takes_nothing_more(admission: Admission) -> None:
    assert admission.admits("score", 1, {"score": 1}, 0.4)
    assert not admission.admits("score", 1, {"score": 1}, 0.6)


def offer(admission: Admission, clock: Clock, per_second: int, seconds: float = 3.0) -> int:
    """So many requests a second, all of which meet a batch that has just begun; gives how many were let in."""
    admitted = 0
    for _ in range(round(per_second * seconds)):
        clock.now += 1 / per_second
        admission.begin("score", 32)
        admitted += not admission.closed({}, 0) and admission.admits("score", 1, {}, 0)
    return admitted


def test_as_much_as_can_be_answered_is_no_overload(admission: Admission, clock: Clock) -> None:
    """32 in 370 ms are 86 a second."""
    assert offer(admission, clock, 86) == 86 * 3
    assert not admission.overloaded
    offer(admission, clock, round(86 * OVERLOAD * 1.2))
    assert admission.overloaded
    clock.now += LOAD_SECONDS
    assert not admission.overloaded


def test_in_an_overload_those_are_let_in_that_come_late_in_a_run(admission: Admission, clock: Clock) -> None:
    """Alone a request takes 60 ms: 114 ms are allowed, for the rest of the batch that runs and for its own."""
    assert OVERLOAD_FACTOR == 1.9
    assert offer(admission, clock, 860) < 86 * 3
    admission.begin("score", 4)  # 90 ms
    assert admission.closed({}, 0)
    # In the last 5 ms of a run four more come, with which a batch takes 100 ms.
    clock.now += 0.08
    assert admission.closed({}, 0)
    clock.now += 0.006
    assert not admission.closed({}, 0)
    assert admission.admits("score", 1, {}, 0)
    assert admission.admits("score", 1, {"score": 4}, 0.002)


def test_in_an_overload_those_who_wait_are_not_held_up_by_more(admission: Admission, clock: Clock) -> None:
    offer(admission, clock, 860)
    admission.begin("score", 4)
    clock.now += 0.09
    assert admission.admits("score", 1, {"score": 4}, 0.005)  # 5 items take 100 ms
    assert not admission.admits("score", 1, {"score": 4}, 0.015)
    assert not admission.admits("score", 1, {"score": 5}, 0.005)


def test_in_an_overload_a_batch_request_may_take_as_much_longer_as_it_is_larger(
    admission: Admission, clock: Clock
) -> None:
    offer(admission, clock, 860)
    admission.begin("score", 4)
    clock.now += 0.075  # 15 ms are left
    assert not admission.admits("score", 1, {}, 0)
    assert admission.admits("score", 16, {}, 0)  # takes 210 ms alone


def test_in_an_overload_short_work_has_its_turn_beside_long_work(admission: Admission, clock: Clock) -> None:
    offer(admission, clock, 860)
    admission.begin("score", 1)
    assert not admission.admits("score", 1, {}, 0)
    admission.begin("generate", 1)
    clock.now += 0.57  # as much is left as of the other
    assert admission.admits("score", 1, {}, 0)


def test_a_door_that_is_opened_counts_nobody_twice(admission: Admission, clock: Clock) -> None:
    for _ in range(round(86 * OVERLOAD * 1.1)):
        admission.admits("score", 1, {}, 0)
    before = admission._current_load()
    admission.begin("score", 1)
    clock.now += 0.06
    assert not admission.closed({}, 0)
    assert admission._current_load() <= before


def test_a_batch_that_failed_teaches_nothing(admission: Admission, clock: Clock) -> None:
    admission.begin("score", 1)
    clock.now += 9
    admission.cancel()
    assert admission.times.expected("score", 1) == pytest.approx(0.06)
    for _ in range(9):
        admission.begin("score", 1)
        clock.now += 0.04
        admission.end()
    assert admission.times.expected("score", 1) == pytest.approx(0.04)
