"""Where the tuned model is wrong: kinds of mistakes, and real examples chosen by rule, from the predictions.

Knows the columns of both prediction tables; knows nothing about how they are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

import pandas as pd

from letterwise.errors import LetterwiseError
from letterwise.reporting.report_model import (
    ErrorAnalysis,
    QuestionErrors,
    QuestionExample,
    SpellingErrors,
    SpellingExample,
)
from letterwise.results import QUESTION_TYPES, ModelRole, QuestionType

FIRST_LETTER = "the word's first letter"
EXAMPLES = 5
"""How many of the mistaken, learned and lost are shown."""
EXAMPLES_OF_A_KIND = 2
"""How many of each kind of mistake are shown."""


def analyse_errors(spelling: pd.DataFrame, position_count: pd.DataFrame) -> ErrorAnalysis:
    """Sort what base and tuned model answered into kinds, and choose examples by rule.

    Args:
        spelling: `SPELLING_PREDICTION_COLUMNS`, of the base and the tuned model at least.
        position_count: `POSITION_COUNT_PREDICTION_COLUMNS`, in mode `direct` at least.

    Raises:
        LetterwiseError: one of the two models was not asked to spell held-out words.
    """
    words = spelling[spelling["subset"] == "held_out"]
    direct = position_count[position_count["mode"] == "direct"]
    if not {"base", "finetuned"} <= set(words["model"]):
        raise LetterwiseError("The predictions do not hold base and tuned model; run `letterwise run` to its end.")
    return ErrorAnalysis(
        spelling=_spelling_errors(words),
        questions=[
            _question_errors(asked, question_type)
            for question_type in QUESTION_TYPES
            if not (asked := direct[direct["question_type"] == question_type]).empty
        ],
    )


def _paired(table: pd.DataFrame) -> pd.DataFrame:
    """The tuned model's rows, each with what the base model answered; the most confident first, ties by id."""
    base = table[table["model"] == "base"].set_index("id")
    tuned = table[table["model"] == "finetuned"]
    return tuned.join(base, on="id", rsuffix="_base").sort_values(["confidence", "id"], ascending=[False, True])


def _spelling_errors(words: pd.DataFrame) -> SpellingErrors:
    pairs = _paired(words)
    wrong = pairs[~pairs["correct"]]
    learned = pairs[pairs["correct"] & ~pairs["correct_base"]].sort_values(
        ["word_length", "id"], ascending=[False, True]
    )
    kinds = pd.Series(
        [_kind_of_spelling(*row) for row in wrong[["word", "predicted_spelling"]].to_numpy()], wrong.index, dtype=str
    )
    # Of no words at all the column of lengths would still be one of text.
    longer = wrong[["word", "predicted_spelling"]].map(len).astype(int).max(axis=1)
    return SpellingErrors(
        n=len(pairs),
        wrong=len(wrong),
        kinds=dict(Counter(kinds)),
        one_edit_away=int(((wrong["levenshtein_distance"] * longer).round() == 1).sum()),
        mistaken=_spelling_examples(wrong),
        learned=_spelling_examples(learned),
        examples={
            str(kind): _spelling_examples(rows.head(EXAMPLES_OF_A_KIND))
            for kind, rows in wrong.groupby(kinds, sort=False)
        },
    )


def _kind_of_spelling(word: str, spelled: str) -> str:
    if not spelled:
        return "no letters written"
    if sorted(spelled) == sorted(word.lower()):
        return "the right letters in another order"
    if len(spelled) < len(word):
        return "too few letters"
    return "too many letters" if len(spelled) > len(word) else "as many letters, some of them wrong"


def _spelling_examples(pairs: pd.DataFrame) -> list[SpellingExample]:
    return [
        SpellingExample(
            word=row["word"],
            n_tokens=row["n_tokens"],
            spelled=row["predicted_spelling"],
            spelled_by_base=row["predicted_spelling_base"],
            confidence=row["confidence"],
        )
        for row in pairs.head(EXAMPLES).to_dict("records")
    ]


def _question_errors(asked: pd.DataFrame, question_type: QuestionType) -> QuestionErrors:
    pairs = _paired(asked)
    base, tuned = pairs["correct_base"], pairs["correct"]
    roles: tuple[ModelRole, ...] = ("base", "control", "finetuned")
    favourite, times = Counter(pairs["predicted"].fillna("no answer")).most_common(1)[0]
    wrong = pairs[~tuned]
    kinds = pd.Series([_kind_of_answer(row) for row in wrong.to_dict("records")], wrong.index, dtype=str)
    unread = Counter(pairs[pairs["generated_answer"].isna()]["generated_text"].dropna())
    written, written_n = unread.most_common(1)[0] if unread else (None, 0)
    return QuestionErrors(
        question_type=question_type,
        n=len(pairs),
        both_right=int((base & tuned).sum()),
        only_base_right=int((base & ~tuned).sum()),
        only_finetuned_right=int((~base & tuned).sum()),
        both_wrong=int((~base & ~tuned).sum()),
        kinds={
            role: dict(Counter(map(_kind_of_answer, rows.to_dict("records"))))
            for role in roles
            if not (rows := asked[asked["model"] == role]).empty
        },
        favourite_answer=favourite,
        favourite_answers=times,
        mistaken=_question_examples(wrong),
        lost=_question_examples(pairs[base & ~tuned]),
        examples={
            str(kind): _question_examples(rows.head(EXAMPLES_OF_A_KIND))
            for kind, rows in wrong.groupby(kinds, sort=False)
        },
        written=written,
        written_n=written_n,
    )


def _kind_of_answer(row: Mapping[Hashable, object]) -> str:
    if row["correct"]:
        return "right"
    predicted, word = row["predicted"], str(row["word"]).lower()
    if row["question_type"] == "letter_count":
        error = int(str(predicted)) - int(str(row["answer"]))
        if abs(error) == 1:
            return "one too many" if error > 0 else "one too few"
        return "two or more too many" if error > 0 else "two or more too few"
    place = int(str(row["position"])) - 1
    if predicted == word[0]:
        return FIRST_LETTER
    if predicted == word[-1]:
        return "the word's last letter"
    if predicted in (word[max(place - 1, 0) : place], word[place + 1 : place + 2]):
        return "a neighbour of the letter asked for"
    return "another letter of the word" if str(predicted) in word else "a letter that the word does not have"


def _question_examples(pairs: pd.DataFrame) -> list[QuestionExample]:
    return [
        QuestionExample(
            question=row["question"],
            answer=row["answer"],
            base=row["predicted_base"],
            finetuned=row["predicted"],
            confidence=row["confidence"],
        )
        for row in pairs.head(EXAMPLES).to_dict("records")
    ]
