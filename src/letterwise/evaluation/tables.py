"""Selecting from the prediction tables: one model, one answer mode, one question type, or two models' items in pairs.

Knows the columns of the tables (`letterwise.results`); knows nothing about metrics.
"""

from __future__ import annotations

import pandas as pd

from letterwise.config import AnswerMode
from letterwise.errors import LetterwiseError
from letterwise.results import ModelRole, QuestionType

_ANSWERS = ["letter", "position_class", "answer", "predicted", "generated_answer"]


def of_model(table: pd.DataFrame, role: ModelRole) -> pd.DataFrame:
    """The rows of one model, of either table."""
    return table[table["model"] == role]


def held_out(spelling: pd.DataFrame) -> pd.DataFrame:
    """The rows about held-out words."""
    return spelling[spelling["subset"] == "held_out"]


def training_tokens(spelling: pd.DataFrame) -> pd.DataFrame:
    """The rows about training tokens."""
    return spelling[spelling["subset"] == "training_tokens"]


def in_mode(questions: pd.DataFrame, mode: AnswerMode) -> pd.DataFrame:
    """The questions answered in one mode."""
    return questions[questions["mode"] == mode]


def of_type(questions: pd.DataFrame, question_type: QuestionType) -> pd.DataFrame:
    """The questions of one type, with what was asked and answered as texts, also where the table keeps categories."""
    rows = questions[questions["question_type"] == question_type]
    categories = rows.select_dtypes("category").columns.intersection(_ANSWERS)
    return rows.astype(dict.fromkeys(categories, "string"))


def count_errors(counts: pd.DataFrame) -> pd.Series[float]:
    """Absolute errors of the predicted letter counts; NaN for a prediction that is not a number."""
    # Not everything that pandas reads as a number is a count: '1e9', 'inf', '-2'.
    is_count = counts["predicted"].astype("string").str.fullmatch("[0-9]{1,6}").fillna(False).astype(bool)
    predicted = pd.to_numeric(counts["predicted"].where(is_count)).astype(float)
    return (predicted - counts["answer"].astype(float)).abs()


def pair_items(table: pd.DataFrame, column: str, first: ModelRole, second: ModelRole) -> pd.DataFrame | None:
    """Two models' values of one column on the same items; None if one of them was not asked.

    Returns:
        One row per item, with columns `word`, `first` and `second`.

    Raises:
        LetterwiseError: the two were not asked the same items, each once.
    """
    one, other = (of_model(table, role).set_index("id") for role in (first, second))
    if one.empty or other.empty:
        return None
    same = one.index.equals(other.index) or set(one.index) == set(other.index)
    if not (one.index.is_unique and other.index.is_unique and same):
        raise LetterwiseError(
            f"The predictions of {first} and {second} are not about the same items; evaluate both models again."
        )
    return pd.DataFrame({"word": one["word"], "first": one[column], "second": other[column]})
