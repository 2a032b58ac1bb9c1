"""Run models on held-out words and questions, and keep every answer.

Work is done and saved in pieces, so that an interrupted evaluation goes on where it stopped, processes can divide it,
and a million words need no more memory than a thousand. Knows nothing about how models were trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise import processes
from letterwise.config import AnswerMode, EvaluationConfig
from letterwise.engines.engine import Engine
from letterwise.engines.sharded_runner import keep_pace
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.evaluation.answering import (
    answer_questions,
    computed_answer,
    spell_words,
    spelling_token_limit,
)
from letterwise.evaluation.metrics import character_level_accuracy
from letterwise.evaluation.pieces import answer_in_pieces
from letterwise.evaluation.rows import QUESTION_SCHEMA, SPELLING_SCHEMA, Subset, question_row, spelling_row
from letterwise.evaluation.spelling_store import build_store, read_spellings
from letterwise.files import fingerprint
from letterwise.results import ModelRole, Task
from letterwise.tasks.questions import Question
from letterwise.tasks.spelling import SPELLING_CONTEXT, parse_spelling
from letterwise.words.dictionary import tokens_in_context

_ITEMS_AT_A_TIME = 10_000


@dataclass(frozen=True, slots=True)
class QuickEvaluation:
    """Accuracies on a few validation items, as measured during training."""

    metrics: dict[str, float]
    n: dict[str, int]
    positions: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Position questions by class, 'first', 'inner' or 'last': how many were answered right, and n."""


@dataclass(frozen=True, slots=True)
class EvaluationItems:
    """What every model is asked; only slices are taken of what may be long."""

    words: Sequence[str]
    """Held-out words to spell."""
    training_tokens: Sequence[str]
    """Training words to spell, for `generalization`."""
    questions: Sequence[Question]

    def asked_words(self) -> pa.Array:
        """Every word that a question is about, once, sorted; as a column, which is small."""
        starts = range(0, len(self.questions), _ITEMS_AT_A_TIME)
        parts = (self.questions[start : start + _ITEMS_AT_A_TIME] for start in starts)
        columns = [pa.array([question.word for question in part], pa.string()) for part in parts]
        words = pa.chunked_array(columns, pa.string()).unique()
        return words.take(pc.sort_indices(words))

    def word_column(self) -> pa.Array:
        """The words to spell as a column."""
        starts = range(0, len(self.words), _ITEMS_AT_A_TIME)
        columns = [pa.array(self.words[start : start + _ITEMS_AT_A_TIME], pa.string()) for start in starts]
        return pa.chunked_array(columns, pa.string()).combine_chunks()


@dataclass(frozen=True, slots=True)
class Answered:
    """The finished pieces of one model, in order, of each table."""

    spelling: list[Path]
    position_count: list[Path]


def quick_evaluation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    words: Sequence[str],
    questions: Sequence[Question],
    batch_size: int,
) -> QuickEvaluation:
    """Spelling accuracy by greedy decoding, and count and position accuracy in mode `direct` by scoring.

    Several processes divide the items, and all get the whole result.
    """
    engine = TransformersEngine(model, tokenizer, batch_size)
    limit = spelling_token_limit(tokenizer, max(map(len, words)))
    share = processes.share(words)
    written = spell_words(engine, share, limit)
    keep_pace(engine)
    spellings = processes.gathered([parse_spelling(each.text) for each in written])
    right = [spelling == word for spelling, word in zip(spellings, words, strict=True)]
    metrics, n = {"spelling_accuracy": sum(right) / len(right)}, {"spelling_accuracy": len(right)}
    agreement = [character_level_accuracy(spelling, word) for spelling, word in zip(spellings, words, strict=True)]
    metrics["character_level_accuracy"], n["character_level_accuracy"] = sum(agreement) / len(agreement), len(agreement)
    positions: dict[str, tuple[int, int]] = {}
    for kind in ("letter_count", "letter_position"):
        asked = [question for question in questions if question.question_type == kind]
        if asked:
            answers = answer_questions(engine, processes.share(asked), "direct", {}, generate=False)
            keep_pace(engine)
            predicted = processes.gathered([answer.predicted for answer in answers])
            correct = [answer == question.answer for answer, question in zip(predicted, asked, strict=True)]
            metrics[f"{kind}_accuracy"], n[f"{kind}_accuracy"] = sum(correct) / len(asked), len(asked)
            for each, question in zip(correct, asked, strict=True):
                if question.position_class:
                    before, total = positions.get(question.position_class, (0, 0))
                    positions[question.position_class] = before + each, total + 1
    return QuickEvaluation(metrics, n, dict(sorted(positions.items())))


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
    together: bool = False,
) -> Answered:
    """Ask one model everything; several processes divide the work, and all come back when it is done.

    Args:
        role: base, finetuned or one of the controls.
        load: gives the model's engine; called only when something is left to ask.
        tokenizer: of the model.
        items: what to ask.
        settings: modes and batch size.
        tasks: 'spelling', 'position_count' or both.
        identity: fingerprint of the model; saved answers of another model are not used.
        pieces_folder: where finished pieces are kept until all is done; several processes have to share it.
        on_items: called with the number of items that this process just finished or found finished.
        together: whether the model is sharded, so that all processes load and run it as long as one of them has to.

    Returns:
        The pieces of ``spelling/predictions.parquet`` and of ``position_count/predictions.parquet``.
    """
    session = _Session(role, load, tokenizer, settings, identity, pieces_folder, on_items, together)
    questioned = items.asked_words() if "position_count" in tasks else pa.array([], pa.string())
    # A word has the same room in either task, so that its spelling does not depend on what else is asked.
    longest = max(_longest(items.word_column()), _longest(items.asked_words()), 1)
    spelled: list[Path] = []  # what the answer modes read
    shown: list[Path] = []
    if "spelling" in tasks:
        spelled = session.spell(items.words, "held_out", longest)
        longest_token = max(map(len, items.training_tokens), default=1)
        shown = [*spelled, *session.spell(items.training_tokens, "training_tokens", longest_token)]
        questioned = questioned.filter(pc.invert(pc.is_in(questioned, value_set=items.word_column())))
    if "position_count" not in tasks:
        return Answered(shown, [])
    if any(mode != "direct" for mode in settings.modes):
        others = session.spell(_Column(questioned), "questioned", longest)
        spelled = [*spelled, *others]
        if "spelling" in tasks:
            shown = [*shown, *others]
        session.keep(spelled)
    return Answered(shown, [path for mode in settings.modes for path in session.answer(items.questions, mode)])


def number_of_items(items: EvaluationItems, settings: EvaluationConfig, tasks: Sequence[Task]) -> int:
    """How many items `evaluate_model` reports to `on_items` at most, over all processes."""
    spelled = len(items.words) + len(items.training_tokens) if "spelling" in tasks else 0
    if "position_count" in tasks:
        asked = items.asked_words()
        if "spelling" in tasks:
            asked = asked.filter(pc.invert(pc.is_in(asked, value_set=items.word_column())))
        spelled += len(asked) if any(mode != "direct" for mode in settings.modes) else 0
        spelled += len(items.questions) * len(settings.modes)
    return spelled


def _longest(words: pa.Array) -> int:
    return pc.max(pc.utf8_length(words)).as_py() or 0


def _do_nothing() -> None:
    """For a mode that asks no model."""


class _Column(Sequence[str]):
    """A column of words, of which slices are taken."""

    def __init__(self, words: pa.Array) -> None:
        self._words = words

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, place: Any) -> Any:
        found = self._words[place]
        return found.to_pylist() if isinstance(place, slice) else found.as_py()


class _Session:
    """One model being asked, with its finished pieces on disk."""

    def __init__(
        self,
        role: ModelRole,
        load: Callable[[], Engine],
        tokenizer: PreTrainedTokenizerBase,
        settings: EvaluationConfig,
        identity: str,
        pieces_folder: Path,
        on_items: Callable[[int], None],
        together: bool,
    ) -> None:
        self.role = role
        self.load = load
        self.tokenizer = tokenizer
        self.settings = settings
        self.identity = identity
        self.folder = pieces_folder
        self.on_items = on_items
        self.together = together
        self.store: Path | None = None
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = self.load()
        return self._engine

    def spell(self, words: Sequence[str], subset: Subset, longest: int) -> list[Path]:
        """Pieces of spelling rows of the words."""
        limit = spelling_token_limit(self.tokenizer, longest)

        def rows(piece: range) -> list[dict[str, Any]]:
            asked = words[piece.start : piece.stop]
            lengths = map(len, tokens_in_context(self.tokenizer, SPELLING_CONTEXT, asked))
            spellings = spell_words(self.engine, asked, limit)
            return [
                spelling_row(self.role, subset, place, word, n_tokens, spelling)
                for place, word, n_tokens, spelling in zip(piece, asked, lengths, spellings, strict=True)
            ]

        def path_of(piece: range) -> Path:
            return self._path(piece, [subset, limit, *words[piece.start : piece.stop]])

        return answer_in_pieces(len(words), path_of, rows, SPELLING_SCHEMA, self.on_items, self._keep_pace)

    def keep(self, spelled: Sequence[Path]) -> None:
        """Have the spellings at hand for the answer modes that read them."""
        self.store = self.folder / f"{self.role}-{fingerprint([path.name for path in spelled])}.sqlite"
        if processes.is_main() and not self.store.is_file():
            build_store(self.store, spelled)
        processes.wait_for_everyone()

    def answer(self, questions: Sequence[Question], mode: AnswerMode) -> list[Path]:
        """Pieces of rows of the questions in one mode."""
        store = None if mode == "direct" else self.store

        def rows(piece: range) -> list[dict[str, Any]]:
            asked = questions[piece.start : piece.stop]
            words = [question.word for question in asked]
            lengths = map(len, tokens_in_context(self.tokenizer, SPELLING_CONTEXT, words))
            spellings = read_spellings(store, words) if store else {}
            if mode == "computed":
                answers = [computed_answer(question, spellings[question.word]) for question in asked]
            else:
                answers = answer_questions(self.engine, asked, mode, spellings)
            return [
                question_row(self.role, mode, question, n_tokens, answer)
                for question, n_tokens, answer in zip(asked, lengths, answers, strict=True)
            ]

        def path_of(piece: range) -> Path:
            asked = questions[piece.start : piece.stop]
            return self._path(piece, [mode, store and store.name, *(each.id + each.question for each in asked)])

        keep_pace = _do_nothing if mode == "computed" else self._keep_pace
        return answer_in_pieces(len(questions), path_of, rows, QUESTION_SCHEMA, self.on_items, keep_pace)

    def _keep_pace(self) -> None:
        if self.together:
            keep_pace(self.engine)

    def _path(self, piece: range, what: list[Any]) -> Path:
        key = fingerprint([self.identity, self.role, what])
        return self.folder / f"{self.role}-{piece.start:07d}-{key}.parquet"
