"""Which items are answered right: by length, tokens, the letter's place in its token, count and frequency of the word.

From predictions and a tokenizer to `ItemAnalysis`. Asks no model, and reads and writes no file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pandas as pd
from transformers import PreTrainedTokenizerBase
from wordfreq import zipf_frequency

from letterwise.analysis_results import (
    ITEM_PROPERTIES,
    SPELLED,
    TOKEN_PLACES,
    ItemAnalysis,
    ItemProperty,
    ItemResults,
)
from letterwise.config import ANSWER_MODES
from letterwise.evaluation.regression import odds_ratios
from letterwise.evaluation.statistics import wilson_interval
from letterwise.evaluation.tables import in_mode, of_model, of_type
from letterwise.results import MODEL_ROLES, POSITION_CLASSES, QUESTION_TYPES, Estimate, QuestionType
from letterwise.tasks.questions import COUNT_CLASSES, Question, question_context
from letterwise.words.dictionary import tokens_in_context

ZIPF_BINS = {"below 2": 2.0, "2 to 3": 3.0, "3 to 4": 4.0, "4 to 5": 5.0, "5 and above": float("inf")}
"""Name → the Zipf frequency that is the first above it."""
NUMBERS: tuple[ItemProperty, ...] = ("word_length", "n_tokens", "zipf")
CATEGORIES: dict[QuestionType, tuple[ItemProperty, ...]] = {
    "letter_count": ("true_count",),
    "letter_position": ("position_class", "token_place"),
}
"""What else a type of question has, in groups."""


def analyse_items(
    spelling: pd.DataFrame, position_count: pd.DataFrame, tokenizer: PreTrainedTokenizerBase
) -> ItemAnalysis:
    """Everything that ``item_analysis.json`` holds.

    Args:
        spelling: `SPELLING_PREDICTION_COLUMNS`, of all models; may have no rows.
        position_count: `POSITION_COUNT_PREDICTION_COLUMNS`, of all models; may have no rows.
        tokenizer: of these models; a fast one.

    Returns:
        An entry for each of base, tuned and control model, question type and answer mode that was evaluated. The
        regressions are about the questions whose word the model was asked to spell.

    Raises:
        LetterwiseError: a question is worded as none of this version is, or the tokenizer is not a fast one.
    """
    spelled = spelling[spelling["subset"] != "training_tokens"]
    analysis = ItemAnalysis()
    for question_type in QUESTION_TYPES:
        asked = of_type(position_count, question_type)
        properties = item_properties(asked.drop_duplicates("id"), tokenizer)
        for model in MODEL_ROLES:
            words = of_model(spelled, model).drop_duplicates("word").set_index("word")["correct"]
            for mode in ANSWER_MODES:
                answers = in_mode(of_model(asked, model), mode)[["id", "word", "correct"]]
                if answers.empty:
                    continue
                items = answers.merge(properties, on="id", validate="one_to_one")
                of_spelled = items.assign(**{SPELLED: items["word"].map(words)}).dropna(subset=[SPELLED])
                of_spelled = of_spelled.astype({SPELLED: bool})
                analysis.items.append(
                    ItemResults(
                        model=model,
                        question_type=question_type,
                        mode=mode,
                        accuracy=_accuracy(items["correct"]),
                        accuracy_by=_accuracies(items, question_type),
                        odds_ratios=odds_ratios(of_spelled, SPELLED, NUMBERS, CATEGORIES[question_type]),
                    )
                )
    return analysis


def item_properties(questions: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """What an item is like, whoever answers it.

    Args:
        questions: `POSITION_COUNT_PREDICTION_COLUMNS`, each question once, of one type.
        tokenizer: a fast one.

    Returns:
        One row per question: `id`; `word_length`; `n_tokens`, the word's tokens in this very question (in the
        predictions it is their number in the spelling prompt); `zipf`, the word's Zipf frequency; `position_class` and
        `token_place`, where the asked letter stands in the word and within its token, none for counts; `true_count` as
        '0', '1', '2' or '3+', none for positions. Groups are ordered categoricals.
    """
    columns = (questions[name] for name in ("id", "question", "answer", "question_type", "word", "letter", "position"))
    asked = [
        Question(
            *(identity, text, answer, kind, word),
            letter=letter if pd.notna(letter) else None,
            position=int(position) if pd.notna(position) else None,
        )
        for identity, text, answer, kind, word, letter, position in zip(*columns, strict=True)
    ]
    parts = _parts_in_question(asked, tokenizer)
    places = [
        _token_place(split, question.position) if question.position else None
        for question, split in zip(asked, parts, strict=True)
    ]
    frequencies = {word: zipf_frequency(word, "en") for word in questions["word"].unique()}
    return pd.DataFrame(
        {
            "id": questions["id"].to_numpy(),
            "word_length": [len(question.word) for question in asked],
            "n_tokens": [len(split) for split in parts],
            "zipf": [frequencies[question.word] for question in asked],
            "position_class": pd.Categorical([each.position_class for each in asked], POSITION_CLASSES, ordered=True),
            "token_place": pd.Categorical(places, TOKEN_PLACES, ordered=True),
            "true_count": pd.Categorical([each.count_class for each in asked], COUNT_CLASSES, ordered=True),
        }
    )


def _parts_in_question(questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    """Each question's word, cut as the tokenizer cuts it in that question."""
    by_context: dict[str, list[int]] = defaultdict(list)
    for row, question in enumerate(questions):
        by_context[question_context(question)].append(row)
    parts: dict[int, list[str]] = {}
    for context, rows in by_context.items():
        words = [questions[row].word for row in rows]
        parts.update(zip(rows, tokens_in_context(tokenizer, context, words), strict=True))
    return [parts[row] for row in range(len(questions))]


def _token_place(parts: list[str], position: int) -> str:
    """Where the letter at a 1-based position of the word stands within its token."""
    place = position - 1
    for part in parts:
        if place < len(part):
            break
        place -= len(part)
    if len(part) == 1:
        return "only"
    return "first" if place == 0 else "last" if place == len(part) - 1 else "inner"


def _accuracies(items: pd.DataFrame, question_type: QuestionType) -> dict[ItemProperty, dict[str, Estimate]]:
    # Right-open bins, as 'below 2' says.
    bins = pd.cut(items["zipf"], [float("-inf"), *ZIPF_BINS.values()], right=False, labels=list(ZIPF_BINS))
    groups = items.assign(zipf=bins)
    return {
        name: {str(group): _accuracy(right) for group, right in groups.groupby(name, observed=True)["correct"]}
        for name in ITEM_PROPERTIES
        if name in (*NUMBERS, *CATEGORIES[question_type])
    }


def _accuracy(right: pd.Series[bool]) -> Estimate:
    n, successes = len(right), int(right.sum())
    return Estimate(value=successes / n, interval=wilson_interval(successes, n), n=n)
