"""The final run in short, and where in a word its models find the letter that is asked for.

Called from cog blocks in README.md and docs/transfer_learning.md and run by `make docs`. Knows the recorded final run;
of what is not there it says so.
"""

from __future__ import annotations

from final_run import FinalRun, of_final_run
from generated_study import NOT_RECORDED

from letterwise.reporting.other_controls import NAMES
from letterwise.reporting.over_seeds import OverSeeds, accuracy
from letterwise.reporting.summary import NOTHING, share_text
from letterwise.reporting.templating import markdown_table
from letterwise.results import ModelRole

SPELLING, COUNTS, POSITIONS = "spelling_accuracy", "letter_count_accuracy", "letter_position_accuracy"
PLACES = {"first": "the first letter", "inner": "an inner letter", "last": "the last letter"}


@of_final_run
def in_short(run: FinalRun) -> str:
    """Means over the seeds, beside the controls that qualify them."""
    positions, counts = (
        {role: _share(run, metric, role) for role in ("finetuned", "format_only", "ceiling")}
        for metric in (POSITIONS, COUNTS)
    )
    places = ", ".join(f"{asked} {_share(run, _at(place), 'finetuned')}" for place, asked in PLACES.items())
    seeds = f"{len(run.seeds)} {'seed' if len(run.seeds) == 1 else 'seeds'}"
    return (
        f"The table is of the run's own seed. Over {seeds} the tuned model spells "
        f"{_share(run, SPELLING, 'finetuned')} of the held-out words and answers, in mode `direct`, "
        f"{positions['finetuned']} of the positions ({places}) and {counts['finetuned']} of the counts. "
        "Adapters trained on about as many tokens answer "
        f"{positions['format_only']} and {counts['format_only']} when their texts repeat the word instead of spelling "
        f"it, {positions['ceiling']} and {counts['ceiling']} when they are the questions themselves."
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


def _at(place: str) -> str:
    return f"{POSITIONS}_{place}"


def _share(run: FinalRun, metric: str, role: ModelRole) -> str:
    found = _found(run, metric, role)
    return share_text(found.mean, found.interval) if found else NOTHING


def _found(run: FinalRun, metric: str, role: ModelRole) -> OverSeeds | None:
    """In mode `direct`, or of spelling."""
    return accuracy(run.evaluations, metric, None, role)
