"""Admission in front of a simulated model: what users get at loads from light to ten times capacity.

The clock is simulated too, so a minute takes milliseconds and every run is the same.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from letterwise.api.services.admission import Admission
from letterwise.api.settings import ServiceSettings

ALONE, ITEM, LARGEST = 0.05, 0.01, 32
"""A batch takes 50 ms and 10 ms an item, at most 32 items: 86 requests a second, 60 ms for one alone."""
QUEUE_SIZE = ServiceSettings.model_fields["queue_size"].default
MAX_WAIT = ServiceSettings.model_fields["max_queue_ms"].default / 1000
CAPACITY = LARGEST / (ALONE + ITEM * LARGEST)


@dataclass
class Simulation:
    """One worker, one queue, requests of one item; times in seconds."""

    seed: int = 0
    now: float = 0.0
    answered: list[float] = field(default_factory=list)
    """Latency of each request that was answered."""
    refused: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.admission = Admission(LARGEST, QUEUE_SIZE, MAX_WAIT, clock=lambda: self.now)
        self.admission.times.observe("score", 1, ALONE + ITEM)  # the warm-up
        self.events: list[tuple[float, int, str]] = []
        self.queue: list[tuple[float, bool]] = []
        self.batch: list[tuple[float, bool]] = []

    def at(self, time: float, what: str) -> None:
        heapq.heappush(self.events, (time, len(self.events), what))

    def open_loop(self, rate: float, seconds: float) -> Simulation:
        """Requests at random, whether or not earlier ones were answered."""
        due = 0.0
        while (due := due + self.random.expovariate(rate)) < seconds:
            self.at(due, "request")
        return self.run(seconds)

    def closed_loop(self, users: int, seconds: float) -> Simulation:
        """Users who ask again as soon as they are answered, and a second after a refusal."""
        for _ in range(users):
            self.at(self.random.uniform(0, 0.05), "user")
        return self.run(seconds)

    def run(self, seconds: float) -> Simulation:
        while self.events and self.events[0][0] < seconds:
            self.now, _, what = heapq.heappop(self.events)
            if what == "done":
                self.admission.end()
                for arrived, is_user in self.batch:
                    self.answered.append(self.now - arrived)
                    if is_user:
                        self.at(self.now + 0.001, "user")
                self.batch = []
            else:
                self.ask(is_user=what == "user")
            if self.queue and not self.batch:
                self.batch, self.queue = self.queue[:LARGEST], self.queue[LARGEST:]
                self.admission.begin("score", len(self.batch))
                took = (ALONE + ITEM * len(self.batch)) * self.random.uniform(0.95, 1.1)
                self.at(self.now + took, "done")
        return self

    def ask(self, is_user: bool) -> None:
        waiting = {"score": len(self.queue)} if self.queue else {}
        longest = self.now - self.queue[0][0] if self.queue else 0.0
        if not self.admission.closed(waiting, longest) and self.admission.admits("score", 1, waiting, longest):
            self.queue.append((self.now, is_user))
            return
        self.refused += 1
        if is_user:
            self.at(self.now + 1, "user")

    def p95(self) -> float:
        return float(np.percentile(self.answered, 95))


@pytest.fixture(scope="module")
def unloaded() -> float:
    return Simulation().open_loop(2, 60).p95()


@pytest.mark.parametrize("users", [1, 8, 32])
def test_users_within_the_capacity_are_never_refused(users: int) -> None:
    simulation = Simulation().closed_loop(users, 60)
    assert simulation.refused == 0
    assert len(simulation.answered) / 60 > {1: 15, 8: 40, 32: 70}[users]


@pytest.mark.parametrize("times", [4, 10, 30])
def test_in_an_overload_accepted_requests_are_almost_as_fast_as_alone(times: float, unloaded: float) -> None:
    simulation = Simulation().open_loop(times * CAPACITY, 30)
    assert simulation.p95() < 2 * unloaded
    assert len(simulation.answered) / 30 > 0.4 * CAPACITY
    assert simulation.refused


def test_a_little_too_much_costs_no_throughput() -> None:
    simulation = Simulation().open_loop(1.3 * CAPACITY, 60)
    assert len(simulation.answered) / 60 > 0.9 * CAPACITY
    assert max(simulation.answered) < MAX_WAIT + 2 * (ALONE + ITEM * LARGEST)


def test_after_an_overload_everybody_is_let_in_again() -> None:
    simulation = Simulation().open_loop(10 * CAPACITY, 10)
    refused = simulation.refused
    simulation.events.clear()
    simulation.queue, simulation.batch = [], []
    simulation.admission.cancel()
    for number in range(200):
        simulation.at(13 + number / 20, "request")
    simulation.run(30)
    assert simulation.refused == refused
