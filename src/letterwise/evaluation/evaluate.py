"""Run models on held-out words and questions, and keep every answer.

Work is done and saved in pieces, so that an interrupted evaluation goes on where it stopped. Knows nothing about how
models were trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise.config import AnswerMode, EvaluationConfig
from letterwise.engines.engine import Engine, Generation
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.evaluation.answering import (
    Answer,
    answer_questions,
    computed_answer,
    spell_words,
    spelling_confidence,
    spelling_token_limit,
)
from letterwise.evaluation.metrics import character_level_accuracy, levenshtein_distance
from letterwise.files import atomic_path, fingerprint
from letterwise.results import POSITION_COUNT_PREDICTION_COLUMNS, SPELLING_PREDICTION_COLUMNS, ModelRole, Task
from letterwise.tasks.questions import Question
from letterwise.tasks.spelling import SPELLING_CONTEXT, parse_spelling
from letterwise.words.dictionary import tokens_in_context

PIECE = 250
"""Items answered between two saves."""

Subset = Literal["held_out", "training_tokens", "questioned"]


@dataclass(frozen=True, slots=True)
class QuickEvaluation:
    """Accuracies on a few validation items, as measured during training."""

    metrics: dict[str, float]
    n: dict[str, int]


@dataclass(frozen=True, slots=True)
class EvaluationItems:
    """What every model is asked."""

    words: list[str]
    """Held-out words to spell."""
    training_tokens: list[str]
    """Training words to spell, for `generalization`."""
    questions: list[Question]


def quick_evaluation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    words: Sequence[str],
    questions: Sequence[Question],
    batch_size: int,
) -> QuickEvaluation:
    """Spelling accuracy by greedy decoding, and count and position accuracy in mode `direct` by scoring."""
    engine = TransformersEngine(model, tokenizer, batch_size)
    limit = spelling_token_limit(tokenizer, max(map(len, words)))
    spellings = spell_words(engine, words, limit)
    right = [parse_spelling(spelling.text) == word for spelling, word in zip(spellings, words, strict=True)]
    metrics, n = {"spelling_accuracy": sum(right) / len(right)}, {"spelling_accuracy": len(right)}
    agreement = [
        character_level_accuracy(parse_spelling(spelling.text), word)
        for spelling, word in zip(spellings, words, strict=True)
    ]
    metrics["character_level_accuracy"], n["character_level_accuracy"] = sum(agreement) / len(agreement), len(agreement)
    for kind in ("letter_count", "letter_position"):
        asked = [question for question in questions if question.question_type == kind]
        if asked:
            answers = answer_questions(engine, asked, "direct", {}, generate=False)
            correct = sum(a.predicted == q.answer for a, q in zip(answers, asked, strict=True))
            metrics[f"{kind}_accuracy"], n[f"{kind}_accuracy"] = correct / len(asked), len(asked)
    return QuickEvaluation(metrics, n)


def evaluate_model(
    role: ModelRole,
    load: Callable[[], Engine],
    tokenizer: PreTrainedTokenizerBase,
    items: EvaluationItems,
    settings: EvaluationConfig,
    tasks: Sequence[Task],
    identity: str,
    pieces_folder: Path,
    on_items: Callable[[int], None] = lambda finished: None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ask one model everything.

    Args:
        role: base, finetuned or control.
        load: gives the model's engine; called only when something is left to ask.
        tokenizer: of the model.
        items: what to ask.
        settings: modes and batch size.
        tasks: 'spelling', 'position_count' or both.
        identity: fingerprint of the model; saved answers of another model are not used.
        pieces_folder: where finished pieces are kept until all is done.
        on_items: called with the number of items just finished or found finished.

    Returns:
        The rows of ``spelling/predictions.parquet`` and of ``position_count/predictions.parquet``.
    """
    session = _Session(role, load, tokenizer, settings, identity, pieces_folder, on_items)
    spelling: list[pd.DataFrame] = []
    answers: list[pd.DataFrame] = []
    questioned_words = {question.word for question in items.questions}
    # A word has the same room in either task, so that its spelling does not depend on what else is asked.
    longest = max(map(len, [*items.words, *questioned_words]), default=1)
    if "spelling" in tasks:
        spelling.append(session.spell(items.words, "held_out", longest))
        longest_token = max(map(len, items.training_tokens), default=1)
        spelling.append(session.spell(items.training_tokens, "training_tokens", longest_token))
    if "position_count" in tasks:
        asked = sorted(questioned_words - set(items.words) if "spelling" in tasks else questioned_words)
        needs_spelling = any(mode != "direct" for mode in settings.modes)
        if needs_spelling and asked:
            questioned = session.spell(asked, "questioned", longest)
            if "spelling" in tasks:
                spelling.append(questioned)
        answers.extend(session.answer(items.questions, mode) for mode in settings.modes)
    return (
        _table(spelling, SPELLING_PREDICTION_COLUMNS),
        _table(answers, POSITION_COUNT_PREDICTION_COLUMNS),
    )


def number_of_items(items: EvaluationItems, settings: EvaluationConfig, tasks: Sequence[Task]) -> int:
    """How many items `evaluate_model` reports to `on_items` at most."""
    spelled = len(items.words) + len(items.training_tokens) if "spelling" in tasks else 0
    if "position_count" in tasks:
        asked = {question.word for question in items.questions}
        needs_spelling = any(mode != "direct" for mode in settings.modes)
        spelled += len(asked - set(items.words) if "spelling" in tasks else asked) if needs_spelling else 0
        spelled += len(items.questions) * len(settings.modes)
    return spelled


class _Session:
    """One model being asked, with its spellings at hand and its finished pieces on disk."""

    def __init__(
        self,
        role: ModelRole,
        load: Callable[[], Engine],
        tokenizer: PreTrainedTokenizerBase,
        settings: EvaluationConfig,
        identity: str,
        pieces_folder: Path,
        on_items: Callable[[int], None],
    ) -> None:
        self.role = role
        self.load = load
        self.tokenizer = tokenizer
        self.settings = settings
        self.identity = identity
        self.folder = pieces_folder
        self.on_items = on_items
        self.spellings: dict[str, Generation] = {}
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = self.load()
        return self._engine

    def spell(self, words: Sequence[str], subset: Subset, longest: int) -> pd.DataFrame:
        """Spelling rows of the words; the spellings stay at hand for the answer modes."""
        limit = spelling_token_limit(self.tokenizer, longest)
        lengths = [len(pieces) for pieces in tokens_in_context(self.tokenizer, SPELLING_CONTEXT, words)]

        def rows(chunk: range) -> list[dict[str, Any]]:
            asked = [words[place] for place in chunk]
            return [
                _spelling_row(self.role, subset, place, word, lengths[place], spelling)
                for place, word, spelling in zip(chunk, asked, spell_words(self.engine, asked, limit), strict=True)
            ]

        table = self._in_pieces([*words, subset, limit], len(words), rows)
        if subset != "training_tokens":
            for row in table.to_dict("records"):
                self.spellings[row["word"]] = Generation(
                    row["generated_text"],
                    tuple(row["token_texts"]),
                    tuple(dict(zip(_LETTERS_AND_OTHER, values, strict=True)) for values in row["letter_probabilities"]),
                )
        return table

    def answer(self, questions: Sequence[Question], mode: AnswerMode) -> pd.DataFrame:
        """Rows of the questions in one mode."""
        words = [question.word for question in questions]
        lengths = [len(pieces) for pieces in tokens_in_context(self.tokenizer, SPELLING_CONTEXT, words)]

        def rows(chunk: range) -> list[dict[str, Any]]:
            asked = [questions[place] for place in chunk]
            if mode == "computed":
                answers = [computed_answer(question, self.spellings[question.word]) for question in asked]
            else:
                answers = answer_questions(self.engine, asked, mode, self.spellings)
            return [
                _question_row(self.role, mode, question, lengths[place], answer)
                for place, question, answer in zip(chunk, asked, answers, strict=True)
            ]

        return self._in_pieces([mode, *(question.id + question.question for question in questions)], len(words), rows)

    def _in_pieces(
        self, what: Sequence[Any], total: int, rows: Callable[[range], list[dict[str, Any]]]
    ) -> pd.DataFrame:
        key = fingerprint([self.identity, self.role, list(what)])
        tables = []
        for start in range(0, total, PIECE):
            chunk = range(start, min(start + PIECE, total))
            path = self.folder / f"{self.role}-{key}-{start:06d}.parquet"
            if not path.is_file():
                answered = pd.DataFrame(rows(chunk))
                with atomic_path(path) as temporary:
                    answered.to_parquet(temporary)
            tables.append(pd.read_parquet(path))
            self.on_items(len(chunk))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


_LETTERS_AND_OTHER = [*"abcdefghijklmnopqrstuvwxyz", ""]


def _spelling_row(
    role: ModelRole, subset: Subset, place: int, word: str, n_tokens: int, generation: Generation
) -> dict[str, Any]:
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
        # Kept in the pieces only: what the computed mode needs after an interruption.
        "token_texts": list(generation.token_texts),
        "letter_probabilities": [
            [step.get(letter, 0.0) for letter in _LETTERS_AND_OTHER] for step in generation.letter_probabilities
        ],
    }


def _question_row(
    role: ModelRole, mode: AnswerMode, question: Question, n_tokens: int, answer: Answer
) -> dict[str, Any]:
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


def _table(tables: Sequence[pd.DataFrame], columns: Mapping[str, str]) -> pd.DataFrame:
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(columns))
    return whole.reindex(columns=list(columns)).astype(dict(columns))
