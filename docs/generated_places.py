"""The final run in short, and where in a word its models, or another family's, find the letter that is asked for.

Called from cog blocks in README.md and docs/transfer_learning.md and run by `make docs`. Knows the recorded final run
and the one on another family; of what is not there it says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import generated
from final_run import FinalRun, of_final_run
from generated_study import NOT_RECORDED
from update_results import EVALUATION

from letterwise.config import load_config
from letterwise.reporting.other_controls import NAMES, TRAINED_ON
from letterwise.reporting.over_seeds import INTERVAL_NOTE, OverSeeds, accuracy
from letterwise.reporting.summary import NOTHING, share_text
from letterwise.reporting.templating import markdown_table
from letterwise.results import EvaluationResults, ModelRole, TrainedRole, read_results

SPELLING, COUNTS, POSITIONS = "spelling_accuracy", "letter_count_accuracy", "letter_position_accuracy"
PLACES = {"first": "the first letter", "inner": "an inner letter", "last": "the last letter"}


@of_final_run
def in_short(run: FinalRun) -> str:
    """Means over the seeds, beside the controls that qualify them."""
    spelled, positions, counts = (_share(run.evaluations, what, "finetuned") for what in (SPELLING, POSITIONS, COUNTS))
    places = ", ".join(f"{told} {_share(run.evaluations, _at(place), 'finetuned')}" for place, told in PLACES.items())
    seeds = f"{len(run.seeds)} {'seed' if len(run.seeds) == 1 else 'seeds'}"
    others = ", ".join(_trained_otherwise(run, role) for role in ("format_only", "random_label", "ceiling"))
    return (
        f"The table is of the run's own seed. Over {seeds} the tuned model spells {spelled} of the held-out words and "
        f"answers, in mode `direct`, {positions} of the positions ({places}) and {counts} of the counts. Further "
        f"adapters, each trained with the run's own seed, positions and counts: {others}. {INTERVAL_NOTE}"
    )


@of_final_run
def by_place(run: FinalRun) -> str:
    """Accuracy of positions in mode `direct` by the place asked for, beside what the first letter alone would bring."""
    return _by_place(run.evaluations, "means over the seeds that have the model")


def by_place_of_second_family() -> str:
    """The same of the run on another family."""
    folder = generated.RESULTS / generated.SECOND_FAMILY
    if not (folder / EVALUATION).is_file():
        return NOT_RECORDED
    results = read_results(folder / EVALUATION, EvaluationResults)
    return _by_place({load_config(folder / "config.yaml").seed: results}, "one seed")


def _by_place(evaluations: Mapping[int, EvaluationResults], of_what: str) -> str:
    sizes = {place: found.n for place in PLACES if (found := _found(evaluations, _at(place), "base"))}
    if sizes.keys() != PLACES.keys():
        return NOT_RECORDED
    first = next(iter(evaluations.values()))
    roles = [role for role in NAMES if first.model(role)]
    rows = [
        (asked, *(_share(evaluations, _at(place), role) for role in roles), f"{sizes[place]:,}")
        for place, asked in PLACES.items()
    ]
    header = ("asked for", *(NAMES[role] for role in roles), "n")
    return (
        f"{markdown_table(header, rows)}\n\nPositions in mode `direct`, {of_what}. Who names the first letter whatever "
        f"is asked is right on {sizes['first'] / sum(sizes.values()):.1%} of these questions, and on some more, where "
        "it comes again."
    )


def _trained_otherwise(run: FinalRun, role: TrainedRole) -> str:
    own = next(iter(run.seeds.values()))
    tokens = max((entry.tokens for entry in own.log if entry.model == role), default=0)
    shares = f"{_share(run.evaluations, POSITIONS, role)} and {_share(run.evaluations, COUNTS, role)}"
    return f"{NAMES[role]} ({TRAINED_ON[role]}; {tokens:,} tokens) {shares}"


def _at(place: str) -> str:
    return f"{POSITIONS}_{place}"


def _share(evaluations: Mapping[int, EvaluationResults], metric: str, role: ModelRole) -> str:
    found = _found(evaluations, metric, role)
    return share_text(found.mean, found.interval) if found else NOTHING


def _found(evaluations: Mapping[int, EvaluationResults], metric: str, role: ModelRole) -> OverSeeds | None:
    """In mode `direct`, or of spelling."""
    return accuracy(evaluations, metric, None, role)
