"""Data sets of one experiment: words, spelling texts and questions, saved as parquet.

Deterministic by seed to the byte. Knows nothing about models; of a tokenizer only how it splits words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, Features, Value
from transformers import PreTrainedTokenizerBase

from letterwise.data import audit
from letterwise.data.training_rows import PLAIN, Row, build_rows, spelling_row
from letterwise.data.word_lists import contexts, few_shot_words, read_extra_words, read_words
from letterwise.data_config import DataConfig
from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, sha256_file
from letterwise.results import DataAudit
from letterwise.tasks.questions import Question, make_questions
from letterwise.tasks.spelling import SPELLING_CONTEXT, SpellingExample, SpellingTemplate, spell
from letterwise.tasks.spelling_exercises import EXERCISES, WORDINGS
from letterwise.tasks.template_mix import TemplateGroup, template_groups
from letterwise.words.dictionary import tokens_in_context
from letterwise.words.splits import HeldOutWords
from letterwise.words.vocabulary import LetterToken, training_words

SPLITS = ("validation", "test")
ROWS_AT_A_TIME = 50_000
"""Rows that are in memory while a file is written."""
AnyRow = TypeVar("AnyRow", bound=Mapping[str, object])

SPELLING_FEATURES = Features(
    {
        name: Value("string")
        for name in (
            *("id", "word", "surface", "text", "prompt", "completion"),
            *("template", "tone", "direction", "separator", "letter_case"),
        )
    }
)
"""Columns of the config `spelling`; `text` is prompt, completion and what closes it."""

EXERCISE_FEATURES = Features({**SPELLING_FEATURES, **{name: Value("string") for name in ("exercise", "partner")}})
"""Columns of the config `spelling` where there are exercises beside plain spelling; `partner` may be null."""

POSITION_COUNT_FEATURES = Features(
    {
        **{name: Value("string") for name in ("id", "question", "answer", "question_type", "word", "letter")},
        "position": Value("int64"),
    }
)
"""Columns of the config `position_count`; `letter` or `position` is null."""


def build_data(
    config: DataConfig, tokenizer: PreTrainedTokenizerBase, seed: int, words_folder: Path, folder: Path
) -> DataAudit:
    """Write the configs `spelling` and `position_count` as parquet, and audit them.

    Returns:
        The audit, to be saved as ``data_audit.json``.

    Raises:
        LetterwiseError: a word or text would leak, there are too few words, or no templates of the kind asked for.
    """
    groups = template_groups(config)
    tokens, held_out, uses = read_words(words_folder)
    extra = read_extra_words(words_folder)
    reserved = {
        **dict.fromkeys(audit.ALL_IMPURE_WORDS, "impure_word"),
        **dict.fromkeys(few_shot_words(), "few_shot_example"),
    }
    trained = training_words(tokens, frozenset(reserved))
    if not trained:
        raise LetterwiseError("No training words are left in the vocabulary; choose another tokenizer.")
    questions = {
        split: make_questions(words, config.count_questions, config.position_questions, seed, split)
        for split, words in (("validation", held_out.validation), ("test", held_out.test))
    }
    excluded = Counter(reserved[t.letters.lower()] for t in tokens if t.letters.lower() in reserved)
    with atomic_path(folder) as temporary:
        reserved_words = frozenset([*held_out.validation, *held_out.test])
        texts = audit.TextAudit(reserved_words)
        rows = build_rows(config, trained, uses, extra, reserved_words | few_shot_words(), seed)
        columns = SPELLING_FEATURES if set(config.exercises) == {PLAIN} else EXERCISE_FEATURES
        _write(temporary / "spelling" / "train.parquet", rows, columns, texts.add)
        for split, words in (("validation", held_out.validation), ("test", held_out.test)):
            _write(temporary / "spelling" / f"{split}.parquet", _held_out_rows(split, words), columns)
        for split, asked in questions.items():
            listed = ({name: getattr(question, name) for name in POSITION_COUNT_FEATURES} for question in asked)
            _write(temporary / "position_count" / f"{split}.parquet", listed, POSITION_COUNT_FEATURES)
        report = _audit(config, tokenizer, seed, trained, extra, texts, groups, held_out, questions)
    files = sorted(folder.rglob("*.parquet"))
    checksums = {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
    return report.model_copy(update={"excluded_training_tokens": dict(excluded), "checksums": checksums})


def _held_out_rows(split: str, words: Sequence[str]) -> Iterator[Row]:
    template = SpellingTemplate("evaluation", "structured", "space", SPELLING_CONTEXT + " {letters}")
    for number, word in enumerate(words):
        prompt = SPELLING_CONTEXT.replace("{word}", word)
        text = f"{prompt} {spell(word, 'space')}\n"
        example = SpellingExample(text, ((len(prompt), len(text) - 1),))
        yield spelling_row(f"{split}-{number:06d}", f" {word}", template, example)


def _write(
    path: Path,
    rows: Iterable[AnyRow],
    features: Features,
    note: Callable[[Sequence[AnyRow]], None] = lambda rows: None,
) -> None:
    """Write rows as they come, some at a time, so that a million of them need no more memory than a few."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coming = iter(rows)
    with path.open("wb") as stream, pq.ParquetWriter(stream, features.arrow_schema) as writer:
        while some := list(islice(coming, ROWS_AT_A_TIME)):
            note(some)
            writer.write_table(pa.Table.from_pylist(some, schema=features.arrow_schema))


def _audit(
    config: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    trained: Sequence[LetterToken],
    extra: Sequence[str],
    texts: audit.TextAudit,
    groups: Sequence[TemplateGroup],
    held_out: HeldOutWords,
    questions: dict[str, list[Question]],
) -> DataAudit:
    overlaps, leak = audit.word_overlaps(
        {
            "train": {token.letters for token in trained},
            **({"extra_train": extra} if extra else {}),
            "validation": held_out.validation,
            "test": held_out.test,
            "few_shot": few_shot_words(),
        }
    )
    text_overlaps, text_leak = audit.word_overlaps({"training_texts": texts.leaked, "held_out": texts.held_out})
    letter_overlaps, letter_leak = audit.word_overlaps(
        {"spelled_letters": texts.leaked_letters, "held_out": texts.held_out}
    )
    words = [*held_out.validation, *held_out.test]
    single = sorted(
        {
            word
            for context in contexts()
            for word, pieces in zip(words, tokens_in_context(tokenizer, context, words), strict=True)
            if len(pieces) < 2
        }
    )
    plain = {name: count for name, count in texts.templates.items() if name not in WORDINGS}
    misused = audit.misused_template(plain, groups)
    audit.require_clean(leak or text_leak or letter_leak, texts.impure_example, single, misused)
    return DataAudit(
        seed=seed,
        n={
            "training_words": len({token.letters.lower() for token in trained}),
            "training_surface_forms": len(trained),
            **({"extra_training_words": len(extra)} if extra else {}),
            "training_texts": texts.n,
            "validation_words": len(held_out.validation),
            "test_words": len(held_out.test),
            **{
                f"{split}.{kind}": sum(question.question_type == kind for question in asked)
                for split, asked in questions.items()
                for kind in ("letter_count", "letter_position")
            },
        },
        overlaps={**overlaps, **text_overlaps, **letter_overlaps},
        purity_violations=texts.violations,
        single_token_held_out_words=len(single),
        template_shares=texts.shares(texts.templates),
        exercise_shares=texts.shares(texts.exercises),
        exercise_purity={name: EXERCISES[name].purity for name in sorted(texts.exercises) if name in EXERCISES},
        answer_distribution=audit.answer_distribution(questions),
        excluded_training_tokens={},
        checksums={},
        length_sentences=config.length_sentences,
        passed=True,
    )


def load_data(folder: Path) -> tuple[DatasetDict, DatasetDict]:
    """The configs `spelling` and `position_count` that `build_data` wrote.

    Raises:
        LetterwiseError: a file is missing or broken.
    """
    try:
        spelling = {split: _read(folder / "spelling" / f"{split}.parquet") for split in ("train", *SPLITS)}
        questions = {split: _read(folder / "position_count" / f"{split}.parquet") for split in SPLITS}
    except (OSError, ValueError) as error:
        raise LetterwiseError(f"The data in {folder} cannot be read ({error}); run `letterwise data` again.") from error
    return DatasetDict(spelling), DatasetDict(questions)


def _read(path: Path) -> Dataset:
    return Dataset(pq.read_table(path))


def load_questions(questions: Dataset) -> list[Question]:
    """The rows of one split of `position_count` as questions."""
    return [Question(**row) for row in questions]


class StoredQuestions(Sequence[Question]):
    """Rows of `position_count`, made into questions when asked for: a million of them stay a small table."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [Question(**row) for row in self._rows[place].to_pylist()]
        return Question(**self._rows.slice(range(len(self))[place], 1).to_pylist()[0])
