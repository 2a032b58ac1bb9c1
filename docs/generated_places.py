"""The final run in short, and where in a word its models find the letter that is asked for.

Called from cog blocks in README.md and docs/transfer_learning.md and run by `make docs`. Knows the recorded final run;
of what is not there it says so.
"""

from __future__ import annotations

from final_run import FinalRun, of_final_run
from generated_study import NOT_RECORDED

from letterwise.reporting.other_controls import NAMES, TRAINED_ON
from letterwise.reporting.over_seeds import INTERVAL_NOTE, OverSeeds, accuracy
from letterwise.reporting.summary import NOTHING, share_text
from letterwise.reporting.templating import markdown_table
from letterwise.results import ModelRole, TrainedRole

SPELLING, COUNTS, POSITIONS = "spelling_accuracy", "letter_count_accuracy", "letter_position_accuracy"
PLACES = {"first": "the first letter", "inner": "an inner letter", "last": "the last letter"}


@of_final_run
def in_short(run: FinalRun) -> str:
    """Means over the seeds, beside the controls that qualify them."""
    places = ", ".join(f"{asked} {_share(run, _at(place), 'finetuned')}" for place, asked in PLACES.items())
    seeds = f"{len(run.seeds)} {'seed' if len(run.seeds) == 1 else 'seeds'}"
    others = ", ".join(_trained_otherwise(run, role) for role in ("format_only", "random_label", "ceiling"))
    return (
        f"The table is of the run's own seed. Over {seeds} the tuned model spells {_share(run, SPELLING, 'finetuned')} "
        f"of the held-out words and answers, in mode `direct`, {_share(run, POSITIONS, 'finetuned')} of the positions "
        f"({places}) and {_share(run, COUNTS, 'finetuned')} of the counts. Further adapters, each trained with the "
        f"run's own seed, positions and counts: {others}. {INTERVAL_NOTE}"
    )


@of_final_run
def by_place(run: FinalRun) -> str:
    """Accuracy of positions in mode `direct` by the place asked for, beside what the first letter alone would bring."""
    sizes = {place: found.n for place in PLACES if (found := _found(run, _at(place), "base"))}
    if sizes.keys() != PLACES.keys():
        return NOT_RECORDED
    first = next(iter(run.evaluations.values()))
    roles = [role for role in NAMES if first.model(role)]
    rows = [
        (asked, *(_share(run, _at(place), role) for role in roles), f"{sizes[place]:,}")
        for place, asked in PLACES.items()
    ]
    header = ("asked for", *(NAMES[role] for role in roles), "n")
    return (
        f"{markdown_table(header, rows)}\n\nPositions in mode `direct`, means over the seeds that have the model. Who "
        f"names the first letter whatever is asked is right on {sizes['first'] / sum(sizes.values()):.1%} of these "
        "questions, and on some more, where it comes again."
    )


def _trained_otherwise(run: FinalRun, role: TrainedRole) -> str:
    own = next(iter(run.seeds.values()))
    tokens = max((entry.tokens for entry in own.log if entry.model == role), default=0)
    shares = f"{_share(run, POSITIONS, role)} and {_share(run, COUNTS, role)}"
    return f"{NAMES[role]} ({TRAINED_ON[role]}; {tokens:,} tokens) {shares}"


def _at(place: str) -> str:
    return f"{POSITIONS}_{place}"


def _share(run: FinalRun, metric: str, role: ModelRole) -> str:
    found = _found(run, metric, role)
    return share_text(found.mean, found.interval) if found else NOTHING


def _found(run: FinalRun, metric: str, role: ModelRole) -> OverSeeds | None:
    """In mode `direct`, or of spelling."""
    return accuracy(run.evaluations, metric, None, role)
