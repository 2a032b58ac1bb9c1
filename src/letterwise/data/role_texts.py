"""What each adapter is trained on, made from the training rows, and the audit of all of it but the ceiling's.

Knows which role has which texts; knows nothing about tokens or optimisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from letterwise.data import audit
from letterwise.data.ceiling import question_texts
from letterwise.data.controls import other_spelling, repeated_words, shuffled_spelling
from letterwise.data.texts import spelling_examples
from letterwise.errors import LetterwiseError
from letterwise.results import TrainedRole
from letterwise.tasks.spelling import SpellingExample


def texts_of_role(
    role: TrainedRole, rows: Sequence[Mapping[str, str | None]], seed: int
) -> tuple[list[SpellingExample], list[str]]:
    """The training texts of one adapter, and of what kind each is; texts of a kind may share a sequence.

    Whatever the rows say, no adapter but the ceiling is trained on a text that is not spelling only; the length
    templates, an ablation that the audit of the data names, are left out of that.

    Raises:
        LetterwiseError: a text is impure, or the words do not suffice for the ceiling's questions.
    """
    if role == "ceiling":
        return question_texts(rows, seed)
    examples = _spelled(role, rows, seed)
    for row, example in zip(rows, examples, strict=True):
        impure = audit.impurities(example.text)
        if impure and not str(row["template"]).startswith("length_"):
            raise LetterwiseError(
                f"A training text of the {role} adapter is not spelling only ({', '.join(impure)}): "
                f"{example.text.strip()!r}; build the data again."
            )
    return examples, [str(row["template"]) for row in rows]


def _spelled(role: TrainedRole, rows: Sequence[Mapping[str, str | None]], seed: int) -> list[SpellingExample]:
    if role == "control":
        return shuffled_spelling(rows, seed)
    if role == "random_label":
        return other_spelling(rows, seed)
    if role == "format_only":
        return repeated_words(rows)
    return spelling_examples(rows)
