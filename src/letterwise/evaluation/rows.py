"""One answered item as a row of its table, right or wrong.

Knows the columns of the prediction tables; knows nothing about how a model is asked.
"""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa

from letterwise.config import AnswerMode
from letterwise.engines.engine import Generation
from letterwise.evaluation.answering import Answer, spelling_confidence
from letterwise.evaluation.metrics import character_level_accuracy, levenshtein_distance
from letterwise.evaluation.pieces import table_schema
from letterwise.evaluation.spelling_store import LETTERS_AND_OTHER
from letterwise.results import POSITION_COUNT_PREDICTION_COLUMNS, SPELLING_PREDICTION_COLUMNS, ModelRole
from letterwise.tasks.questions import Question
from letterwise.tasks.spelling import parse_spelling

Subset = Literal["held_out", "training_tokens", "questioned"]

# The last two are kept in the pieces only: what the answer modes need.
SPELLING_SCHEMA = (
    table_schema(SPELLING_PREDICTION_COLUMNS)
    .append(pa.field("token_texts", pa.list_(pa.string())))
    .append(pa.field("letter_probabilities", pa.list_(pa.list_(pa.float64()))))
)
QUESTION_SCHEMA = table_schema(POSITION_COUNT_PREDICTION_COLUMNS)


def spelling_row(
    role: ModelRole, subset: Subset, place: int, word: str, n_tokens: int, generation: Generation
) -> dict[str, Any]:
    """A row of `SPELLING_SCHEMA`."""
    predicted = parse_spelling(generation.text)
    truth = word.lower()
    return {
        "model": role,
        "id": f"{subset}-{place:06d}",
        "subset": subset,
        "word": word,
        "word_length": len(word),
        "n_tokens": n_tokens,
        "generated_text": generation.text,
        "predicted_spelling": predicted,
        "correct": predicted == truth,
        "character_level_accuracy": character_level_accuracy(predicted, truth),
        "levenshtein_distance": levenshtein_distance(predicted, truth),
        "confidence": spelling_confidence(generation),
        "token_texts": list(generation.token_texts),
        "letter_probabilities": [
            [step.get(letter, 0.0) for letter in LETTERS_AND_OTHER] for step in generation.letter_probabilities
        ],
    }


def question_row(
    role: ModelRole, mode: AnswerMode, question: Question, n_tokens: int, answer: Answer
) -> dict[str, Any]:
    """A row of `QUESTION_SCHEMA`."""
    return {
        "model": role,
        "mode": mode,
        "id": question.id,
        "question": question.question,
        "question_type": question.question_type,
        "word": question.word,
        "letter": question.letter,
        "position": question.position,
        "position_class": question.position_class,
        "word_length": len(question.word),
        "n_tokens": n_tokens,
        "answer": question.answer,
        "predicted": answer.predicted,
        "correct": answer.predicted == question.answer,
        "confidence": answer.confidence,
        "generated_text": answer.generated_text,
        "generated_answer": answer.generated_answer,
        "generated_correct": answer.generated_answer == question.answer,
        "spelled": answer.spelled,
    }
