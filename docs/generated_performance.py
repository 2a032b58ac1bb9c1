"""What docs/performance.md, docs/scaling.md and docs/api.md show of the benchmarks' results.

Called from cog blocks and run by `make docs`. Knows the files in benchmarks/results; measures nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from letterwise.files import read_json
from letterwise.reporting.templating import markdown_table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
NOT_MEASURED = "This has not been recorded yet."


def _recorded(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return read_json(path) if path.is_file() else None


def engines() -> str:
    """Ways to run the model, side by side."""
    measured = _recorded("engines")
    if measured is None:
        return NOT_MEASURED
    header = ("engine", "answer alone", "answer in a batch", "spelling alone", "spelling in a batch", "same answers")
    rows = [
        (
            row["engine"],
            *(
                f"{row[name]:,.1f} ms"
                for name in ("answer_alone_ms", "answer_of_32_ms", "spelling_alone_ms", "spelling_of_32_ms")
            ),
            f"{row['agrees']} of {row['of']}",
        )
        for row in measured["rows"]
    ]
    return (
        f"{markdown_table(header, rows)}\n\n{_where(measured)} Medians of {measured['turns']} turns; a batch is of 32."
    )


def service() -> str:
    """The service beside the plain stack."""
    measured = _recorded("serve")
    if measured is None:
        return NOT_MEASURED
    header = ("service", "route", "mode", "users", "requests/s", "p50", "p95", "p99", "errors")
    rows = [
        (
            row["stack"],
            row["route"],
            row["mode"],
            str(row["users"]),
            f"{row['requests_per_second']:,.1f}",
            *(f"{row[name]:,.0f} ms" for name in ("p50_ms", "p95_ms", "p99_ms")),
            str(row["errors"]),
        )
        for row in measured["rows"]
    ]
    ratios = " ".join(
        f"On {row['route']} in mode direct, {row['requests_per_second_with_32_users']:.1f} times the requests per "
        f"second of the plain stack with 32 users, at a p95 of {row['p95_ms_with_32_users']:,.0f} ms; a single "
        f"user's p50 is {row['p50_of_one_user']:.2f} times the plain stack's."
        for row in measured["ratios_to_plain_stack"]
    )
    return (
        f"{ratios}\n\n{markdown_table(header, rows)}\n\n{_where(measured)} Medians of {measured['turns']} turns of "
        f"{measured['seconds']:g} s each."
    )


def overload() -> str:
    """What becomes of ten times as many requests as can be answered."""
    measured = _recorded("serve_overload")
    if measured is None:
        return NOT_MEASURED
    header = ("phase", "offered/s", "answered/s", "answered p50", "answered p95", "refused p50", "broken")
    rows = []
    for name, phase in measured["phases"].items():
        answered, refused = phase["answered_ms"] or {}, phase["refused_ms"] or {}
        rows.append(
            (
                name,
                f"{phase['offered_per_second']:,.1f}",
                f"{phase['answered_per_second']:,.1f}",
                _ms(answered.get("p50")),
                _ms(answered.get("p95")),
                _ms(refused.get("p50")),
                str(phase["broken"]),
            )
        )
    return (
        f"{markdown_table(header, rows)}\n\nThe p95 of the accepted requests in the overload is "
        f"{measured['p95_ratio_to_unloaded']} times that of one user with pauses, and "
        f"{measured['p95_ratio_to_capacity']} times that of 32 users who fill the service. {_where(measured)}"
    )


def soak() -> str:
    """Minutes of load with faults."""
    measured = _recorded("serve_soak")
    if measured is None:
        return NOT_MEASURED
    lives = "; ".join(
        f"{life['last_quarter'] / 1024:.1f} GiB in the last quarter of {life['seconds'] / 60:.0f} minutes "
        f"({life['second_quarter'] / 1024:.1f} in the second), {life['max'] / 1024:.1f} at most, loading included, "
        f"{'flat' if life['flat'] else 'NOT flat'}"
        for life in measured["memory_mib"]
        if life.get("flat") is not None
    )
    return (
        f"{measured['minutes']:g} minutes, {measured['clients']} clients, {measured['requests']:,} requests, "
        f"{measured['reloads']} reloads: {measured['lost']} answers lost, "
        f"{measured['in_flight_at_sigterm']} in flight when the service was told to stop, "
        f"{len(measured['problems'])} problems. Memory while no model was being loaded: "
        f"{lives or 'not told by so short a run'}. {_where(measured)}"
    )


def spell_check() -> str:
    """The spell checker beside its peers."""
    measured = _recorded("spell_check")
    if measured is None:
        return NOT_MEASURED
    header = (
        "checker",
        "right suggestion",
        "n",
        "false alarms, technical words",
        "false alarms, dictionary words",
        "processor time",
    )
    rows = [
        (
            name,
            _share(figures["top_1_accuracy"]),
            f"{figures['top_1_accuracy']['n']:,}",
            _share(figures["false_alarm_rate"]["corrections"]),
            _share(figures["false_alarm_rate"]["dictionary"]),
            f"{figures['milliseconds_per_misspelling']['processor']:,.2f} ms",
        )
        for name, figures in measured["variants"].items()
    ]
    return f"{markdown_table(header, rows)}\n\n{_where(measured)} Brackets: 95% Wilson intervals."


def evaluation_memory() -> str:
    """What evaluating needs beside the model, by the number of words."""
    measured = _recorded("evaluation_memory")
    if measured is None:
        return NOT_MEASURED
    header = ("words", "rows of the tables", "peak memory while asking", "peak memory in all", "time")
    rows = [
        (
            f"{row['words']:,}",
            f"{row['rows']:,}",
            f"{row['asking_peak_mib']:,.0f} MiB",
            f"{row['peak_mib']:,.0f} MiB",
            f"{row['seconds']:,.0f} s",
        )
        for row in measured["rows"]
    ]
    return (
        f"{markdown_table(header, rows)}\n\n"
        f"Of this, {measured['rows'][0]['peak_mib_before']:,.0f} MiB are the libraries. "
        f"A row more takes {measured['bytes_per_row_asking']:,.0f} bytes while asking, "
        f"{measured['bytes_per_row_in_all']:,.0f} in all, and {measured['microseconds_per_row']:,.0f} µs. "
        f"{_where(measured)}"
    )


def data_building() -> str:
    """Time and memory of building and auditing data, by the number of texts."""
    measured = _recorded("data_building")
    if measured is None:
        return NOT_MEASURED
    header = ("training texts", "words", "data and audit", "peak memory")
    rows = [
        (
            f"{row['texts']:,}",
            f"{row['words_seconds']:.1f} s",
            f"{row['data_seconds']:.1f} s",
            f"{row['peak_mib']:,.0f} MiB",
        )
        for row in measured["rows"]
    ]
    slope = 1000 * measured["seconds_per_thousand_texts"]
    return (
        f"{markdown_table(header, rows)}\n\nEach with {measured['held_out_words']:,} held-out words and "
        f"{measured['questions']:,} questions. 30,000 texts take {measured['target_seconds']:.1f} s, words included. "
        f"A straight line, {measured['seconds_without_texts']:.1f} s and {slope:.0f} ms for each thousand texts, "
        f"is off by {measured['largest_deviation_from_the_line']:.0%} at most. "
        f"{measured['rows'][0]['peak_mib_before']:,.0f} MiB are "
        f"the libraries. Medians of {measured['rounds']} rounds. {_where(measured)}"
    )


def harness_agreement() -> str:
    """The evaluation harness beside our own evaluation on the same questions; nothing where that was not recorded."""
    measured = _recorded("harness_agreement")
    if measured is None:
        return ""
    tasks = measured["tasks"]
    rows = [
        (kind, f"{found['n']:,}", f"{found['ours']:.1%}", f"{found['harness']:.1%}", str(len(found["differing"])))
        for kind, found in tasks.items()
    ]
    asked = sum(found["n"] for found in tasks.values())
    gaps = [max(two) - min(two) for found in tasks.values() for two in (d["our_two_best"] for d in found["differing"])]
    differing = (
        f"Of {asked:,} answers {len(gaps)} differ; there the two best candidates are at most {max(gaps):.2g} apart in "
        "probability, which is within the rounding of sums in another order."
        if gaps
        else f"All {asked:,} answers are the same."
    )
    what = measured["environment"]["base_model"]
    if measured["adapter"]:
        what = f"{what}, merged with the adapter {measured['adapter']}"
    header = ("task", "questions", "our evaluation", f"harness {measured['lm_eval']}", "answers that differ")
    return f"{markdown_table(header, rows)}\n\n{differing} Asked was {what}, in float32. {_where(measured)}\n"


def _where(measured: Any) -> str:
    environment = measured["environment"]
    date = environment["created"][:10]
    return f"Measured on {date} on {environment['cores']} cores of {environment['cpu']}."


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"


def _share(figure: Any) -> str:
    low, high = figure["interval"]
    return f"{figure['value']:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
