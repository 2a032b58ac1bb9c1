"""The table that a run ends with, and what it shows in plain words.

Knows the results of a run and how figures are written out; computes no metric and hides no null result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from letterwise.config import ANSWER_MODES, AnswerMode
from letterwise.results import (
    QUESTION_TYPES,
    Baseline,
    Difference,
    Environment,
    Estimate,
    EvaluationResults,
    Interval,
    ModelRole,
    QuestionType,
    TransferResults,
    read_results,
)

SPELLING_METRICS = ("spelling_accuracy", "character_level_accuracy", "levenshtein_distance", "generalization")
QUESTION_METRICS = tuple(f"{question_type}_accuracy" for question_type in QUESTION_TYPES)
METRICS_IN_BRIEF = ("spelling_accuracy", *QUESTION_METRICS)
"""The three accuracies that a run is about."""
NOT_SHARES = ("levenshtein_distance", "generalization", "letter_count_mae")
"""Metrics written as plain numbers, and what their names begin with; all others are shares, written in percent."""

COLUMNS = ("metric", "best baseline", "base", "control", "tuned", "tuned − base", "p", "n")
NOTE = (
    "Brackets: 95% intervals (differences: paired bootstrap, in percentage points for shares). "
    "p: exact McNemar, base against tuned, not corrected for the number of rows. "
    "levenshtein_distance: lower is better. Only mode direct speaks of transfer inside the model."
)
NOTHING = "–"
SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True)
class SummaryRow:
    """One metric of every model; what was not measured is None."""

    metric: str
    mode: AnswerMode | None = None
    """None where there is no question to answer."""
    baseline_name: str | None = None
    """The better of the two baselines, e.g. 'letter frequency'."""
    baseline: Baseline | None = None
    base: Estimate | None = None
    control: Estimate | None = None
    finetuned: Estimate | None = None
    difference: Difference | None = None
    """finetuned minus base, on the same items."""
    n: int | None = None


def summary_rows(results: EvaluationResults) -> list[SummaryRow]:
    """The rows of the table: spelling, then the questions answered directly, then in the other modes.

    A metric that no model has is left out.
    """
    rows = [_row(results, metric) for metric in SPELLING_METRICS]
    rows += [_row(results, metric, mode) for mode in ANSWER_MODES for metric in QUESTION_METRICS]
    return [row for row in rows if row.base or row.control or row.finetuned]


def render_rich(rows: Sequence[SummaryRow], title: str) -> Table:
    """The table for a terminal; mode, n and intervals stand on a second line so that it fits into 80 columns."""
    table = Table(title=title, caption=NOTE, caption_justify="left", box=SIMPLE_HEAD, padding=0)
    for name in COLUMNS[:-1]:
        table.add_column(
            name.replace(" ", "\n", 1),
            justify="left" if name == "metric" else "right",
            no_wrap=name in ("metric", "best baseline", "p"),
        )
    for row in rows:
        _, baseline, *values, n = summary_cells(row)
        mode = f"({row.mode}) " if row.mode else ""
        table.add_row(
            f"{row.metric}\n{mode}n = {n}", baseline.replace(" ", "\n"), *(v.replace(" [", "\n[") for v in values)
        )
    return table


def render_markdown(rows: Sequence[SummaryRow]) -> str:
    """The table as Markdown, without a note below it."""
    lines = [COLUMNS, ("---", *("---:" for _ in COLUMNS[1:])), *(summary_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def conclusion(results: EvaluationResults, transfer: TransferResults | None) -> str:
    """What came out, in a sentence each for spelling, letter counts and letter positions.

    A change is called significant when its 95% interval excludes zero and McNemar's p is below 0.05; a model is
    above a baseline when its whole interval is. A null or negative result is worded as plainly as a positive one.
    """
    if results.finetuned_model is None:
        return "No tuned model was evaluated, so nothing can be said about training."
    sentences = [_spelling_sentence(results)]
    sentences += [_question_sentence(results, transfer, question_type) for question_type in QUESTION_TYPES]
    if results.control_model is None:
        sentences.append("No control was evaluated, so a gain may come from the format alone.")
    return " ".join(sentence for sentence in sentences if sentence)


def headline_markdown(run_folder: Path) -> str:
    """The table, its note, and a line that says on what, when and where it was measured.

    Raises:
        LetterwiseError: `evaluation_results.json` or `environment.json` is missing or broken.
    """
    results = read_results(run_folder / "evaluation_results.json", EvaluationResults)
    environment = read_results(run_folder / "environment.json", Environment)
    n = results.base_model.n
    sizes = [
        f"{n[metric]:,} {what}"
        for metric, what in zip(
            ("spelling_accuracy", *QUESTION_METRICS), ("words", "count questions", "position questions"), strict=True
        )
        if metric in n
    ]
    hardware = environment.gpu or f"{environment.cpu}, {environment.cores} cores"
    line = (
        f"Held-out words, {results.split} split, n = {', '.join(sizes)}. Measured on {environment.created[:10]} on "
        f"{hardware} ({environment.memory_gib:.0f} GiB of memory, {environment.dtype}). Base model: "
        f"{results.base_model.id}, revision {results.base_model.revision}."
    )
    return f"{render_markdown(summary_rows(results))}\n{line} {NOTE}\n"


def share_text(value: float, interval: Interval | None = None) -> str:
    """A share in percent with its interval, e.g. '35.2% [32.3, 38.2]'."""
    text = f"{value:z.1%}" + (f" [{interval[0]:z.1%}, {interval[1]:z.1%}]".replace("%", "") if interval else "")
    return text.replace("-", "−")


def number_text(value: float, interval: Interval | None = None) -> str:
    """A plain number with its interval, e.g. '0.174 [0.112, 0.236]'."""
    text = f"{value:z.3f}" + (f" [{interval[0]:z.3f}, {interval[1]:z.3f}]" if interval else "")
    return text.replace("-", "−")


def p_text(p_value: float) -> str:
    """A p-value to three decimals, or '<0.001'."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def value_text(metric: str, value: float, interval: Interval | None = None) -> str:
    """A metric's value with its interval, as a share or as a plain number."""
    return (number_text if metric.startswith(NOT_SHARES) else share_text)(value, interval)


def difference_text(difference: Difference) -> str:
    """Signed, in percentage points for shares, e.g. '+10.5 [+7.0, +14.1]'."""
    scale, decimals = (1, 3) if difference.metric.startswith(NOT_SHARES) else (100, 1)
    return signed_text(difference.difference, difference.interval, scale, decimals)


def signed_text(value: float, interval: Interval | None = None, scale: int = 100, decimals: int = 1) -> str:
    """A share's change in percentage points, e.g. '−3.2', with its interval if it has one."""
    signed, *ends = (f"{scale * number:+z.{decimals}f}".replace("-", "−") for number in (value, *(interval or ())))
    return f"{signed} [{', '.join(ends)}]" if ends else signed


def find_estimate(results: EvaluationResults, metric: str, mode: AnswerMode | None, role: ModelRole) -> Estimate | None:
    """A metric of one model; None where it was not measured. The headline figures of a model are of mode `direct`."""
    source = results.model(role) if mode in (None, "direct") else results.answer_modes.get(mode, {}).get(role)
    if source is None or metric not in source.metrics:
        return None
    return Estimate(value=source.metrics[metric], interval=source.intervals.get(metric), n=source.n.get(metric))


def in_mode(metric: str, mode: AnswerMode | None) -> str:
    """A metric's name in the comparisons of models: of other modes than `direct` it ends in theirs."""
    return metric if mode in (None, "direct") else f"{metric}_{mode}"


def find_difference(results: EvaluationResults, comparison: str, metric: str) -> Difference | None:
    """How a metric differs between two models, such as 'base_to_finetuned'; None where they were not compared."""
    return next((entry for entry in results.significance.get(comparison, []) if entry.metric == metric), None)


def is_significant(difference: Difference) -> bool:
    """Whether the interval excludes zero and, where there is a p-value, it is below 0.05."""
    low, high = difference.interval
    excludes_zero = low > 0 or high < 0
    return excludes_zero and (difference.p_value is None or difference.p_value < SIGNIFICANCE_LEVEL)


def best_baseline(results: EvaluationResults, metric: str) -> tuple[str, Baseline] | None:
    """Name and figures of the stronger baseline of a metric's questions; None where they have none."""
    prefix = metric.removesuffix("_accuracy") + "_"
    found = {name: baseline for name, baseline in results.baselines.items() if name.startswith(prefix)}
    if not found:
        return None
    best = max(found, key=lambda name: found[name].value)
    return best.removeprefix(prefix).replace("_", " "), found[best]


def standing(value: float, interval: Interval | None, baseline: float) -> str:
    """Where a model stands with regard to a baseline: 'above' when its whole interval is."""
    if value <= baseline:
        return "at or below"
    return "above" if interval and interval[0] > baseline else "not measurably above"


def _row(results: EvaluationResults, metric: str, mode: AnswerMode | None = None) -> SummaryRow:
    cells = {role: find_estimate(results, metric, mode, role) for role in ("base", "control", "finetuned")}
    best = best_baseline(results, metric)
    sizes = (cell.n for cell in cells.values() if cell)
    return SummaryRow(
        metric=metric,
        mode=mode,
        baseline_name=best[0] if best else None,
        baseline=best[1] if best else None,
        difference=find_difference(results, "base_to_finetuned", in_mode(metric, mode)),
        n=next(sizes, None),
        **cells,
    )


def summary_cells(row: SummaryRow) -> tuple[str, ...]:
    """A row written out: one text for each of `COLUMNS`."""
    p_value = row.difference.p_value if row.difference else None
    return (
        row.metric + (f" ({row.mode})" if row.mode else ""),
        f"{value_text(row.metric, row.baseline.value)} ({row.baseline_name})" if row.baseline else NOTHING,
        *(
            value_text(row.metric, cell.value, cell.interval) if cell and cell.value is not None else NOTHING
            for cell in (row.base, row.control, row.finetuned)
        ),
        difference_text(row.difference) if row.difference else NOTHING,
        p_text(p_value) if p_value is not None else NOTHING,
        f"{row.n:,}" if row.n else NOTHING,
    )


def _spelling_sentence(results: EvaluationResults) -> str:
    metric = "spelling_accuracy"
    models = [model for model in (results.base_model, results.finetuned_model) if model and metric in model.metrics]
    if len(models) < 2:
        return ""
    difference = find_difference(results, "base_to_finetuned", metric)
    if difference is None:
        verb = "went"
    elif not is_significant(difference):
        verb = "did not change significantly, going"
    else:
        verb = "rose" if difference.difference > 0 else "fell"
    before, after = (share_text(model.metrics[metric], model.intervals.get(metric)) for model in models)
    return f"Spelling accuracy on held-out words {verb} from {before} to {after}."


def _question_sentence(
    results: EvaluationResults, transfer: TransferResults | None, question_type: QuestionType
) -> str:
    row = _row(results, f"{question_type}_accuracy", "direct")
    if row.finetuned is None or row.finetuned.value is None:
        return ""
    over_base = find_difference(results, "base_to_finetuned", row.metric)
    over_control = find_difference(results, "control_to_finetuned", row.metric)
    sentence = (
        f"{question_type.replace('_', ' ').capitalize()}s {_verdict(over_base, over_control)}: the tuned model answers "
        f"{share_text(row.finetuned.value, row.finetuned.interval)} correctly"
    )
    if row.baseline:
        sentence += f", {standing(row.finetuned.value, row.finetuned.interval, row.baseline.value)} the "
        sentence += f"{row.baseline_name} baseline ({share_text(row.baseline.value)})"
    for difference, other in ((over_base, "base model"), (over_control, "control")):
        if difference:
            sentence += f"; {_change(difference)} against the {other}"
    phi = transfer.item_phi.get(question_type) if transfer else None
    if phi and phi.value is not None and phi.interval:
        sentence += f"; {_association(phi.value, phi.interval)}"
    return sentence + "."


def _verdict(over_base: Difference | None, over_control: Difference | None) -> str:
    if over_base is None:
        return "were not compared with the base model"
    if not is_significant(over_base):
        return "did not change significantly"
    if over_base.difference < 0:
        return "got worse"
    if over_control is None:
        return "improved over the base model"
    if is_significant(over_control) and over_control.difference > 0:
        return "improved over both the base model and the control"
    return "improved over the base model but not over the control"


def _change(difference: Difference) -> str:
    points, _, interval = difference_text(difference).partition(" ")
    text = f"{points} points {interval}"
    if difference.p_value is None:
        return text
    p = p_text(difference.p_value)
    return f"{text}, p {p.replace('<', '< ') if '<' in p else f'= {p}'},"


def _association(phi: float, interval: Interval) -> str:
    text = f"(phi = {number_text(phi, interval)})"
    if interval[0] > 0:
        return f"words that it spells correctly are answered about correctly more often {text}"
    if interval[1] < 0:
        return f"words that it spells correctly are answered about correctly less often {text}"
    return f"spelling a word and answering about it are not measurably associated {text}"
