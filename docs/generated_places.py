"""Where in a word the models of the final run find the letter that is asked for.

Called from a cog block in docs/transfer_learning.md and run by `make docs`. Knows the recorded final run; of what
is not there it says so.
"""

from __future__ import annotations

from final_run import FinalRun, of_final_run
from generated_study import NOT_RECORDED

from letterwise.reporting.other_controls import NAMES
from letterwise.reporting.over_seeds import accuracy
from letterwise.reporting.summary import NOTHING, share_text
from letterwise.reporting.templating import markdown_table
from letterwise.results import ModelRole

PLACES = {"first": "the first letter", "inner": "an inner letter", "last": "the last letter"}


@of_final_run
def by_place(run: FinalRun) -> str:
    """Accuracy of positions in mode `direct` by the place asked for, beside what the first letter alone would bring."""
    sizes = {place: _n(run, place) for place in PLACES}
    if not all(sizes.values()):
        return NOT_RECORDED
    first = next(iter(run.evaluations.values()))
    roles = [role for role in NAMES if first.model(role)]
    rows = [
        (asked, *(_cell(run, place, role) for role in roles), f"{sizes[place]:,}") for place, asked in PLACES.items()
    ]
    header = ("asked for", *(NAMES[role] for role in roles), "n")
    return (
        f"{markdown_table(header, rows)}\n\nPositions in mode `direct`, means over the seeds that have the model. Who "
        f"names the first letter whatever is asked is right on {sizes['first'] / sum(sizes.values()):.1%} of these "
        "questions, and on some more, where it comes again."
    )


def _cell(run: FinalRun, place: str, role: ModelRole) -> str:
    found = accuracy(run.evaluations, f"letter_position_accuracy_{place}", "direct", role)
    return share_text(found.mean, found.interval) if found else NOTHING


def _n(run: FinalRun, place: str) -> int:
    found = accuracy(run.evaluations, f"letter_position_accuracy_{place}", "direct", "base")
    return found.n if found else 0
