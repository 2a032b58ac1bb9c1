"""A service on the embedded model is broken in each way: which alerts tell whom, once, and when it is over.

Takes a quarter of an hour, and as long again to make its adapters the first time, so it runs only where MONITORING_TEST
is set: `make monitoring-test`. Writes benchmarks/results/monitoring_alerts.json, and pictures of the dashboards to
docs/dashboards; docs/monitoring.md shows both.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from breakable_deployment import HURRY, QUEUE_SIZE, Deployment, deployed
from breakable_service import Faults
from dashboard_pictures import draw_dashboard
from live_monitoring import wait_for
from programs import MONITORING, ROOT

from letterwise.config import ExperimentConfig
from letterwise.files import write_json
from letterwise.models import EMBEDDED, resolve_base
from letterwise.run_environment import describe_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("MONITORING_TEST"), reason="takes long: make monitoring-test"),
]

RESULTS = ROOT / "benchmarks" / "results" / "monitoring_alerts.json"
PICTURES = ROOT / "docs" / "dashboards"
PATIENCE = 600
"""Seconds that anything may take on a busy machine; without load it takes tens."""
PAGED = ["pagerduty", "slack-service"]
Told = list[tuple[dict[str, str], list[str]]]
"""Labels of an alert, and who is told of it, once each."""


def alert(name: str, *receivers: str, **labels: str) -> tuple[dict[str, str], list[str]]:
    return {"alertname": f"Letterwise{name}", **labels}, list(receivers)


@dataclass
class Watch:
    """The deployment, and what became of each alert so far."""

    deployment: Deployment
    begin: float = field(default_factory=time.time)
    """In seconds since 1970."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    def until(self, status: str, alerts: Told, since: float) -> list[float]:
        """Wait until everybody was told that these alerts fire, or are over; seconds that each took."""
        receivers = self.deployment.receivers

        def told() -> bool:
            heard = [[told.receiver for told in receivers.of(status, labels, since)] for labels, _ in alerts]
            for (labels, wanted), found in zip(alerts, heard, strict=True):
                assert all(found.count(name) <= 1 for name in wanted), f"{labels} was told more than once: {found}"
                assert set(found) <= set(wanted), f"{labels} was told to {found}, and concerns {wanted}"
            return all(len(found) == len(wanted) for (_, wanted), found in zip(alerts, heard, strict=True))

        wait_for(told, f"{status} of {[labels for labels, _ in alerts]}", PATIENCE)
        return [max(told.at for told in receivers.of(status, labels, since)) - since for labels, _ in alerts]

    def calm(self, alerts: Told) -> None:
        """Wait until none of them is pending or firing."""

        def none_of_them() -> bool:
            now = [found["labels"] for found in self.deployment.prometheus.alerts()]
            return not any(labels.items() <= found.items() for labels, _ in alerts for found in now)

        wait_for(none_of_them, f"calm about {[labels for labels, _ in alerts]}", PATIENCE)

    def see(self, fault: str, alerts: Told, broken: Callable[[], AbstractContextManager[None]]) -> None:
        """Let something be broken until it is told, and mended until that is told; writes down how long each took."""
        self.calm(alerts)
        start = time.monotonic()
        with broken():
            told = self.until("firing", alerts, start)
            mended = time.monotonic()
        over = self.until("resolved", alerts, mended)
        self.write_down(fault, alerts, told, over)

    def write_down(self, fault: str, alerts: Told, told: Sequence[float], over: Sequence[float | None]) -> None:
        receivers = self.deployment.receivers
        assert receivers.repetitions == []
        assert all(re.match(r"https://.+/docs/monitoring\.md#letterwise\w+$", each.runbook) for each in receivers.told)
        assert not any("runbooks" in each.labels for each in receivers.told)
        for (labels, concerned), after, cleared in zip(alerts, told, over, strict=True):
            row = {
                **{"fault": fault, "alert": labels["alertname"], "task": labels.get("task"), "receivers": concerned},
                **{"told_after_seconds": round(after, 1)},
                **{"over_after_seconds": None if cleared is None else round(cleared, 1)},
            }
            self.rows.append(row)
            print(f"\n{row}", end="")


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    with deployed(tmp_path_factory.mktemp("deployment")) as deployment:
        wait_for(lambda: deployment.prometheus.query(USUAL), "history of the canary", PATIENCE)
        yield Watch(deployment)


CANARY = 'source="canary", question_type="position_count", mode="computed"'
USUAL = f"avg_over_time(letterwise_correlation{{{CANARY}}}[20s] offset 40s) > 0.7"
"""The correlation from which it falls."""
COMPUTED = {"mode": "computed"}

FAULTS: dict[str, tuple[Faults, Told]] = {
    "every answer is an error": (
        Faults(failing=True),
        [
            alert("HighErrorRate", *PAGED, task="spelling"),
            alert("HighErrorRate", *PAGED, task="position_count"),
            alert("CanarySilent", "slack-service"),
        ],
    ),
    "every answer is slow": (Faults(seconds=0.6), [alert("HighLatency", "slack-service")]),
    "the canary is dead": (Faults(deaf_to_the_canary=True), [alert("CanarySilent", "slack-service")]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_broken_in_the_model_is_told(fault: str, watch: Watch) -> None:
    faults, alerts = FAULTS[fault]
    watch.see(fault, alerts, lambda: broken(watch.deployment, faults))


@contextmanager
def broken(deployment: Deployment, faults: Faults) -> Iterator[None]:
    deployment.service.break_(faults)
    try:
        yield
    finally:
        deployment.service.break_(Faults())


def test_a_queue_that_does_not_move_is_told(watch: Watch) -> None:
    @contextmanager
    def hanging() -> Iterator[None]:
        with broken(watch.deployment, Faults(hanging=True)):
            # The first call hangs alone; of those behind it none is taken, and there is room for all.
            wait_for(lambda: watch.deployment.prometheus.query("letterwise_queue_length > 0"), "queue", PATIENCE)
            threads = watch.deployment.service.ask_at_once(round(0.85 * QUEUE_SIZE))
            yield
        for thread in threads:
            thread.join(60)

    watch.see("the model hangs while many ask", [alert("QueueSaturated", "slack-service")], hanging)


def test_a_degraded_adapter_is_told_by_its_accuracy_and_by_what_becomes_of_the_correlation(watch: Watch) -> None:
    at_once = [
        alert("SpellingAccuracyDropped", "slack-model"),
        alert("LetterCountAccuracyDropped", "slack-model", **COMPUTED),
        alert("LetterPositionAccuracyDropped", "slack-model", **COMPUTED),
    ]
    fell = [alert("CorrelationFell", "slack-model", **COMPUTED)]
    low = [alert("CorrelationLow", "email", **COMPUTED)]
    fault, deployment = "a degraded adapter is served", watch.deployment
    watch.calm([*at_once, *fell, *low])
    wait_for(lambda: deployment.prometheus.query(USUAL), "correlation to fall from", PATIENCE)
    start = time.monotonic()
    try:
        deployment.service.serve("damaged")
        told = watch.until("firing", [*at_once, *fell], start)
        # While it falls, its level is no news; once it has been low for as long as it is compared with, that is.
        fallen = watch.until("resolved", fell, start)
        told_low = watch.until("firing", low, start)
    finally:
        mended = time.monotonic()
        deployment.service.serve("whole")
    over = watch.until("resolved", [*at_once, *low], mended)
    watch.write_down(fault, at_once, told[:3], over[:3])
    watch.write_down(fault, fell, told[3:], [None])
    watch.write_down(fault, low, told_low, over[3:])
    assert fallen[0] > told[3]


def test_an_adapter_that_is_broken_is_not_taken_and_nobody_is_woken(watch: Watch) -> None:
    deployment, since = watch.deployment, time.monotonic()
    service = deployment.service
    whole, torn = service.revision(), service.folder / "torn"
    torn.mkdir()
    for path in service.adapters["whole"].iterdir():
        content = path.read_bytes()
        (torn / path.name).write_bytes(content[: len(content) // 2] if path.suffix == ".safetensors" else content)
    service.adapters = {**service.adapters, "torn": torn}
    service.link("torn")
    service.reload()
    log = service.folder / "service.log"
    wait_for(lambda: "The model was not replaced" in log.read_text(encoding="utf-8"), "refusal", PATIENCE)
    service.link("whole")
    assert service.revision() == whole
    assert deployment.receivers.of("firing", {"severity": "critical"}, since) == []


def test_a_service_that_is_gone_and_one_that_does_not_get_ready_are_told(watch: Watch) -> None:
    service = watch.deployment.service
    not_ready, started = [alert("NotReady", *PAGED)], 0.0

    @contextmanager
    def gone() -> Iterator[None]:
        nonlocal started
        service.stop()
        yield
        service.break_(Faults(loading=True))
        started = time.monotonic()
        service.start()

    watch.see("the service is gone", [alert("TargetDown", *PAGED)], gone)
    told = watch.until("firing", not_ready, started)
    mended = time.monotonic()
    service.break_(Faults())
    service.wait_until_served("whole")
    watch.write_down("the model does not load", not_ready, told, watch.until("resolved", not_ready, mended))


def test_a_service_that_prometheus_does_not_know_is_told(watch: Watch) -> None:
    @contextmanager
    def unknown() -> Iterator[None]:
        watch.deployment.scrape(False)
        try:
            yield
        finally:
            watch.deployment.scrape(True)

    watch.see("Prometheus finds no service", [alert("TargetAbsent", *PAGED)], unknown)


def test_the_times_are_written_down_and_what_the_dashboards_showed_is_drawn(watch: Watch) -> None:
    faults = {row["fault"] for row in watch.rows}
    assert len(faults) == len(FAULTS) + 5, "a fault before this one was not told as it should be"
    config = ExperimentConfig(run_name="monitoring", base_model=EMBEDDED)
    environment = describe_environment(config, resolve_base(EMBEDDED)).model_dump(mode="json")
    write_json(RESULTS, {"hurry": asdict(HURRY), "rows": watch.rows, "environment": environment})
    for path in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        picture = PICTURES / f"{path.stem}.png"
        draw_dashboard(path, watch.deployment.prometheus, watch.begin, f"{HURRY.range_seconds}s", picture)
