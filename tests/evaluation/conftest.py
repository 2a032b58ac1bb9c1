"""Synthetic prediction tables with known effects: spelling is learned, and carries over to the questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from letterwise.config import ANSWER_MODES
from letterwise.evaluation.metrics import character_level_accuracy, levenshtein_distance
from letterwise.results import MODEL_ROLES, POSITION_COUNT_PREDICTION_COLUMNS, SPELLING_PREDICTION_COLUMNS
from letterwise.tasks.questions import count_question, position_question

Tables = tuple[pd.DataFrame, pd.DataFrame]
MakeTables = Callable[..., Tables]

SPELLING = {"base": 0.05, "finetuned": 0.8, "control": 0.1, "format_only": 0.02, "ceiling": 0.1}
ANSWERING = {"base": (0.3, 0.3), "finetuned": (0.3, 0.8), "control": (0.3, 0.3)}  # word misspelled, word spelled
ANSWERING |= {"format_only": (0.2, 0.2), "ceiling": (0.9, 0.9)}


def _spelling_row(role: str, subset: str, index: int, word: str, right: bool) -> dict[str, object]:
    predicted = word if right else word[1:] + word[0]
    return {
        "model": role,
        "id": f"{subset}-{index}",
        "subset": subset,
        "word": word,
        "word_length": len(word),
        "n_tokens": 2 + index % 3,
        "generated_text": " ".join(predicted),
        "predicted_spelling": predicted,
        "correct": predicted == word,
        "character_level_accuracy": character_level_accuracy(predicted, word),
        "levenshtein_distance": levenshtein_distance(predicted, word),
    }


def _question_row(role: str, mode: str, index: int, word: str, right: bool) -> dict[str, object]:
    about_count = index % 2 == 0
    position = 1 + index // 2 % len(word)
    letter = word[index % len(word)]
    answer = str(word.count(letter)) if about_count else word[position - 1]
    wrong = str(int(answer) + 1) if about_count else "a" if answer != "a" else "b"
    predicted = answer if right else wrong
    question = count_question(word, letter) if about_count else position_question(word, position)
    readable = mode != "computed" and index % 10 > 0
    return {
        "model": role,
        "mode": mode,
        "id": f"question-{index}",
        "question": question.question,
        "question_type": "letter_count" if about_count else "letter_position",
        "word": word,
        "letter": letter if about_count else None,
        "position": None if about_count else position,
        "position_class": None if about_count else {1: "first", len(word): "last"}.get(position, "inner"),
        "word_length": len(word),
        "n_tokens": 2 + index % 3,
        "answer": answer,
        "predicted": predicted,
        "correct": right,
        "confidence": 0.5,
        "generated_text": None if mode == "computed" else predicted,
        "generated_answer": predicted if readable else None,
        "generated_correct": right and readable,
        "spelled": None if mode == "direct" else word,
    }


@pytest.fixture(scope="session")
def make_tables() -> MakeTables:
    """Makes a spelling and a question table; each word is asked about twice, once for each question type."""

    def make(
        words: int = 200, training: int = 60, roles: Sequence[str] = MODEL_ROLES, modes: Sequence[str] = ANSWER_MODES
    ) -> Tables:
        rng = np.random.default_rng(7)
        letters = list("aabcdeeefghiilmnoorssttu")
        vocabulary = ["".join(rng.choice(letters, size=rng.integers(4, 12))) for _ in range(3 * words)]
        vocabulary = list(dict.fromkeys(vocabulary))[: words + training]
        held_out, tokens = vocabulary[:words], vocabulary[words:]
        spelling, questions = [], []
        for role in roles:
            spelled = rng.random(words) < SPELLING[role]
            spelling += [_spelling_row(role, "held_out", i, w, spelled[i]) for i, w in enumerate(held_out)]
            spelling += [
                _spelling_row(role, "training_tokens", i, w, rng.random() < 1.2 * SPELLING[role])
                for i, w in enumerate(tokens)
            ]
            for mode in modes:
                chance = np.where(np.repeat(spelled, 2), ANSWERING[role][1], ANSWERING[role][0])
                right = rng.random(2 * words) < chance
                questions += [_question_row(role, mode, i, held_out[i // 2], bool(right[i])) for i in range(2 * words)]
        return (
            pd.DataFrame(spelling, columns=list(SPELLING_PREDICTION_COLUMNS)).astype(SPELLING_PREDICTION_COLUMNS),
            pd.DataFrame(questions, columns=list(POSITION_COUNT_PREDICTION_COLUMNS)).astype(
                POSITION_COUNT_PREDICTION_COLUMNS
            ),
        )

    return make
