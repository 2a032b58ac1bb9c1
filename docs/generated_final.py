"""What docs/transfer_learning.md shows of the final run: goals, every accuracy, each seed, what failed, and the cost.

Called from cog blocks and run by `make docs`. Knows the recorded final run; of what is not there it says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from final_run import FinalRun, figure, markdown, of_final_run, read_findings
from final_shares import NOTE as SHARE_NOTE
from final_shares import mean_share, one_share, shares_of_ceiling
from generated_study import NOT_RECORDED, machine

from letterwise.config import AnswerMode
from letterwise.reporting.other_controls import NAMES, TRAINED_ON
from letterwise.reporting.over_seeds import FIGURES, SEED_NOTE, accuracy, gains
from letterwise.reporting.report_document import Items
from letterwise.reporting.report_findings import HEADLINES
from letterwise.reporting.summary import NOTHING, difference_text, share_text
from letterwise.reporting.templating import markdown_table
from letterwise.results import QUESTION_TYPES, EvaluationResults, QuestionType, TrainingLogEntry

WANTED_N, WANTED_SEEDS = 1000, 3
WANTED_SHARE_OF_CEILING = 0.5


@dataclass(frozen=True)
class Goal:
    """An accuracy that the study is after."""

    metric: str
    mode: AnswerMode | None
    wanted: float


GOALS = (
    Goal("spelling_accuracy", None, 0.95),
    Goal("letter_position_accuracy", "direct", 0.60),
    Goal("letter_count_accuracy", "direct", 0.60),
    Goal("letter_position_accuracy", "spell_first", 0.95),
    Goal("letter_count_accuracy", "spell_first", 0.85),
)


def goals() -> str:
    """The goals of the study, whether or not the final run is recorded."""
    wanted = [f"{_what(goal.metric, goal.mode)}: {goal.wanted:.0%}" for goal in GOALS]
    shares = (
        f"share of the ceiling adapter's gain that spelling alone brings from as many training tokens, in mode "
        f"`direct`: {WANTED_SHARE_OF_CEILING:.0%}"
    )
    return (
        f"Means over {WANTED_SEEDS} seeds, each figure on {WANTED_N:,} or more held-out words of several tokens:\n\n"
        + markdown([Items([*wanted, "gain over the control in each of these: its whole interval above zero", shares])])
    )


@of_final_run
def headline(run: FinalRun) -> str:
    """The goals beside what was reached, every accuracy of every model, each seed, and the figure of it."""
    return "\n\n".join(
        [
            _verdict(run),
            figure("goals.png", "Accuracies of each model, means and seeds, beside the goals of the study"),
            _goals_table(run),
            _accuracies(run),
            _by_seed(run),
            figure("answer_modes.png", "Count and position accuracy of each model in each answer mode"),
            figure("learning_curves.png", "Spelling, count and position accuracy over the training steps"),
        ]
    )


@of_final_run
def asked(run: FinalRun) -> str:
    """How often each trained model was asked about the words of the final figures, by the logs of evaluations."""
    if not all(recorded.asked for recorded in run.seeds.values()):
        return NOT_RECORDED
    split = next(iter(run.evaluations.values())).split
    times = {
        (seed, name): sum(entry.split == split and model.revision in entry.models.values() for entry in recorded.asked)
        for seed, recorded in run.seeds.items()
        for role, name in NAMES.items()
        if role != "base" and (model := recorded.results.model(role))
    }
    otherwise = [f"{name} of seed {seed}: {n} times" for (seed, name), n in times.items() if n != 1]
    once = f"{len(times) - len(otherwise)} of {len(times)} trained models were asked about {split} words once"
    return f"By the logs of finished evaluations in the run's folders, {once}{_named(otherwise)}."


@of_final_run
def failures(run: FinalRun) -> str:
    """Goals that were missed or not measured, gains that are not above zero, and what training made worse."""
    missed = [*_missed_accuracies(run), *_missed_shares(run)]
    seeds, n = len(run.seeds), _smallest_n(run)
    few = [f"seeds: {seeds} instead of {WANTED_SEEDS}"] if seeds < WANTED_SEEDS else []
    few += [f"smallest n of a seed: {n:,} instead of {WANTED_N:,}"] if n < WANTED_N else []
    unproven = [
        f"{_what(goal.metric, goal.mode)}: no gain over the control above zero in every seed "
        f"({_each(map(difference_text, gains(run.evaluations, goal.metric, goal.mode).values()))})"
        for goal in GOALS
        if not _gained(run, goal)
    ]
    findings = read_findings()
    worse = findings.conclusion.made_worse if findings else ["not recorded"]
    worse = [f"worse than before training, seed {run.config.training_seed}: {each}" for each in worse]
    shown = markdown([Items([*missed, *few, *unproven, *worse])])
    return shown or "No goal was missed, and nothing that the report of the run compares became worse."


def _missed_accuracies(run: FinalRun) -> Iterator[str]:
    for goal in GOALS:
        found = accuracy(run.evaluations, goal.metric, goal.mode, "finetuned")
        if not found:
            yield f"{_what(goal.metric, goal.mode)}: not measured"
        elif found.mean < goal.wanted:
            reached = share_text(found.mean, found.interval)
            yield f"{_what(goal.metric, goal.mode)}: {reached} instead of {goal.wanted:.0%}"


def _missed_shares(run: FinalRun) -> Iterator[str]:
    for kind in QUESTION_TYPES:
        shares = shares_of_ceiling(run, kind)
        mean = mean_share(shares)
        if not mean:
            yield f"{_of_ceiling(kind)}: no value ({_each(map(one_share, shares.values()))})"
        elif mean.value < WANTED_SHARE_OF_CEILING:
            yield f"{_of_ceiling(kind)}: {mean.text} instead of {WANTED_SHARE_OF_CEILING:.0%}"


@of_final_run
def limits(run: FinalRun) -> str:
    """What the report of the final run says that its figures do not allow to say."""
    findings = read_findings()
    return markdown([Items(findings.conclusion.limitations)]) if findings else NOT_RECORDED


@of_final_run
def cost(run: FinalRun) -> str:
    """Steps, tokens and time of every training of the final run, and where it ran."""
    rows, seconds = [], 0.0
    for seed, recorded in run.seeds.items():
        last: dict[str, TrainingLogEntry] = {entry.model: entry for entry in recorded.log}
        for role, name in NAMES.items():
            if entry := last.get(role):
                minutes = f"{entry.seconds / 60:.1f}"
                rows.append((str(seed), name, TRAINED_ON[role], f"{entry.step:,}", f"{entry.tokens:,}", minutes))
                seconds += entry.seconds
    places = [recorded.environment for recorded in run.seeds.values()]
    machines = sorted({machine(each) for each in places})
    dates = sorted({each.created[:10] for each in places})
    return (
        markdown_table(("seed", "adapter", "trained on", "steps", "tokens", "minutes"), rows)
        + f"\n\nIn all {seconds / 3600:.1f} hours of training, evaluation left out, on {' and '.join(machines)}, "
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}."
    )


def _goals_table(run: FinalRun) -> str:
    rows = []
    for goal in GOALS:
        found = accuracy(run.evaluations, goal.metric, goal.mode, "finetuned")
        differences = gains(run.evaluations, goal.metric, goal.mode)
        rows.append(
            (
                _what(goal.metric, goal.mode),
                f"{goal.wanted:.0%}",
                share_text(found.mean, found.interval) if found else NOTHING,
                _each(map(share_text, found.values.values())) if found else NOTHING,
                _yes(bool(found) and found.mean >= goal.wanted) if found else NOTHING,
                _each(map(difference_text, differences.values())),
                _yes(_gained(run, goal)),
            )
        )
    for kind in QUESTION_TYPES:
        shares = shares_of_ceiling(run, kind)
        mean = mean_share(shares)
        rows.append(
            (
                _of_ceiling(kind),
                f"{WANTED_SHARE_OF_CEILING:.0%}",
                mean.text if mean else NOTHING,
                _each(one_share(shares[seed]) if seed in shares else NOTHING for seed in run.seeds),
                _yes(mean.value >= WANTED_SHARE_OF_CEILING) if mean else NOTHING,
                NOTHING,
                NOTHING,
            )
        )
    header = ("goal", "wanted", "reached: mean", "each seed", "met", "gain over the control, each seed", "above zero")
    return f"{markdown_table(header, rows)}\n\n{SHARE_NOTE}"


def _of_ceiling(kind: QuestionType) -> str:
    return f"share of the ceiling's gain, {_what(f'{kind}_accuracy', 'direct')}"


def _verdict(run: FinalRun) -> str:
    found = [(goal, accuracy(run.evaluations, goal.metric, goal.mode, "finetuned")) for goal in GOALS]
    met = [_what(goal.metric, goal.mode) for goal, each in found if each and each.mean >= goal.wanted]
    gained = [_what(goal.metric, goal.mode) for goal in GOALS if _gained(run, goal)]
    smallest = _smallest_n(run)
    size = "as wanted" if smallest >= WANTED_N else f"fewer than the {WANTED_N:,} wanted"
    seeds = "as wanted" if len(run.seeds) >= WANTED_SEEDS else f"of the {WANTED_SEEDS} wanted"
    return (
        f"Of {len(GOALS)} accuracies {len(met)} reach their goal{_named(met)}. The gain over the control is above zero "
        f"in every seed in {len(gained)} of them{_named(gained)}. Trained with {len(run.seeds)} "
        f"{'seed' if len(run.seeds) == 1 else 'seeds'}, {seeds}; the smallest n of a seed is {smallest:,}, {size}. "
        f"{_equal_tokens(run)}"
    )


def _smallest_n(run: FinalRun) -> int:
    """Of the accuracies that have a goal."""
    found = [accuracy(run.evaluations, goal.metric, goal.mode, "finetuned") for goal in GOALS]
    return min((each.n for each in found if each), default=0)


def _accuracies(run: FinalRun) -> str:
    evaluations = run.evaluations
    first = next(iter(evaluations.values()))
    roles = [role for role in NAMES if first.model(role)]
    rows = []
    for metric, mode in FIGURES:
        cells = [accuracy(evaluations, metric, mode, role) for role in roles]
        sizes = {cell.n for cell in cells if cell}
        if sizes:
            shares = [share_text(cell.mean, cell.interval) if cell else NOTHING for cell in cells]
            rows.append((_what(metric, mode), _majority(first, metric), *shares, f"{min(sizes):,}"))
    trained = "; ".join(f"{NAMES[role]}: {TRAINED_ON[role]}" for role in roles)
    header = ("accuracy", "majority class", *(NAMES[role] for role in roles), "n")
    return (
        f"{markdown_table(header, rows)}\n\nHeld-out words, {first.split} split; means over the seeds that have the "
        f"model. Trained on: {trained}. {SEED_NOTE}"
    )


def _by_seed(run: FinalRun) -> str:
    """The tuned model and its gain over the control, seed by seed."""
    rows = []
    for metric, mode in FIGURES:
        found, over_control = accuracy(run.evaluations, metric, mode, "finetuned"), gains(run.evaluations, metric, mode)
        if found:
            cells = [
                f"{share_text(found.values[seed]) if seed in found.values else NOTHING}; "
                f"{difference_text(over_control[seed]) if seed in over_control else NOTHING}"
                for seed in run.seeds
            ]
            rows.append((_what(metric, mode), *cells))
    header = ("tuned; gain over the control", *(f"seed {seed}" for seed in run.seeds))
    return markdown_table(header, rows)


def _equal_tokens(run: FinalRun) -> str:
    """How many tokens tuned adapter and ceiling trained on."""
    last = {entry.model: entry.tokens for entry in next(iter(run.seeds.values())).log}
    if not {"finetuned", "ceiling"} <= last.keys():
        return ""
    return f"The tuned adapter trained on {last['finetuned']:,} tokens, the ceiling on {last['ceiling']:,}."


def _gained(run: FinalRun, goal: Goal) -> bool:
    """Whether the gain over the control is above zero in every seed."""
    found = gains(run.evaluations, goal.metric, goal.mode)
    return len(found) == len(run.seeds) and all(each.interval[0] > 0 for each in found.values())


def _majority(results: EvaluationResults, metric: str) -> str:
    baseline = results.baselines.get(f"{metric.removesuffix('_accuracy')}_majority_class")
    return share_text(baseline.value) if baseline else NOTHING


def _what(metric: str, mode: AnswerMode | None) -> str:
    return HEADLINES[metric] + (f", `{mode}`" if mode else "")


def _named(names: list[str]) -> str:
    return f" ({'; '.join(names)})" if names else ""


def _each(texts: Iterable[str]) -> str:
    return "; ".join(texts) or NOTHING


def _yes(met: bool) -> str:
    return "yes" if met else "no"
