"""Data sets of one experiment: words, spelling texts and questions, saved as parquet.

Deterministic by seed to the byte. Knows nothing about models; of a tokenizer only how it splits words.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, Features, Value
from transformers import PreTrainedTokenizerBase

from letterwise.config import DataConfig
from letterwise.data import audit
from letterwise.data.word_lists import contexts, few_shot_words, read_words
from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, sha256_file
from letterwise.results import DataAudit
from letterwise.tasks.questions import Question, make_questions
from letterwise.tasks.spelling import (
    LENGTH_TEMPLATES,
    SPELLING_CONTEXT,
    SPELLING_TEMPLATES,
    SpellingExample,
    SpellingTemplate,
    spell,
    with_length,
)
from letterwise.words.dictionary import tokens_in_context
from letterwise.words.splits import HeldOutWords
from letterwise.words.vocabulary import LetterToken, training_words

SPLITS = ("validation", "test")
SHORTEST_SPLIT_WORD = 4
"""Letters; of shorter words the tokenizer mostly leaves single letters."""
Item = TypeVar("Item")

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
        LetterwiseError: a word or text would leak, or there are too few words.
    """
    tokens, held_out, uses = read_words(words_folder)
    reserved = {
        **dict.fromkeys(audit.ALL_IMPURE_WORDS, "impure_word"),
        **dict.fromkeys(few_shot_words(), "few_shot_example"),
    }
    trained = training_words(tokens, frozenset(reserved))
    if not trained:
        raise LetterwiseError("No training words are left in the vocabulary; choose another tokenizer.")
    train_rows = list(_training_rows(config, trained, uses, seed))
    questions = {
        split: make_questions(words, config.count_questions, config.position_questions, seed, split)
        for split, words in (("validation", held_out.validation), ("test", held_out.test))
    }
    spelling = {
        "train": train_rows,
        "validation": _held_out_rows("validation", held_out.validation),
        "test": _held_out_rows("test", held_out.test),
    }
    report = _audit(config, tokenizer, seed, trained, train_rows, held_out, questions)
    excluded = Counter(reserved[t.letters.lower()] for t in tokens if t.letters.lower() in reserved)
    with atomic_path(folder) as temporary:
        for split, rows in spelling.items():
            _write(temporary / "spelling" / f"{split}.parquet", rows, SPELLING_FEATURES)
        for split, asked in questions.items():
            rows = [asdict(question) for question in asked]
            _write(temporary / "position_count" / f"{split}.parquet", rows, POSITION_COUNT_FEATURES)
    files = sorted(folder.rglob("*.parquet"))
    checksums = {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
    return report.model_copy(update={"excluded_training_tokens": dict(excluded), "checksums": checksums})


def _training_rows(
    config: DataConfig, tokens: Sequence[LetterToken], uses: dict[str, int], seed: int
) -> Iterator[dict[str, str]]:
    rng = random.Random(f"{seed} training texts")
    templates = (*SPELLING_TEMPLATES, *(LENGTH_TEMPLATES if config.length_sentences else ()))
    deck: list[SpellingTemplate] = []
    split_forms = split_surface_forms(tokens)
    from_split = round(config.train_examples * config.split_form_share) if split_forms else 0
    weights = [(uses.get(token.token, 0) + 0.2) ** config.use_exponent for token in tokens]
    surfaces = [
        *(token.token for token in _deal(tokens, weights, config.train_examples - from_split, seed)),
        *_deal(split_forms, [1.0] * len(split_forms), from_split, seed),
    ]
    rng.shuffle(surfaces)
    for number, surface in enumerate(surfaces):
        if not deck:
            deck = rng.sample(templates, len(templates))
        template = deck.pop()
        letters = list(surface.strip())
        if template in LENGTH_TEMPLATES:
            template = with_length(template, letters)
        yield _row(f"train-{number:07d}", surface, template, template.render(surface, letters))


def split_surface_forms(tokens: Sequence[LetterToken]) -> list[str]:
    """The training words in those surface forms (leading space, capital) that are not tokens themselves, sorted.

    The tokenizer splits them, as it does held-out words, so that the model also learns to spell across tokens; the
    words are the same.
    """
    known = {token.token for token in tokens}
    words = {token.letters.lower() for token in tokens if token.char_length >= SHORTEST_SPLIT_WORD}
    forms = {form for word in words for form in (word, f" {word}", word.capitalize(), f" {word.capitalize()}")}
    return sorted(forms - known)


def _deal(items: Sequence[Item], weights: Sequence[float], total: int, seed: int) -> list[Item]:
    """Deal `total` items in proportion to their weights, each as often as its share allows.

    Systematic resampling: an item with the share of 2.3 comes two or three times, never not at all.
    """
    if not total:
        return []
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(items))
    edges = np.cumsum(np.asarray(weights)[order])
    picks = np.searchsorted(edges, (np.arange(total) + rng.random()) * edges[-1] / total, side="right")
    return [items[order[pick]] for pick in np.minimum(picks, len(items) - 1)]


def _row(identity: str, surface: str, template: SpellingTemplate, example: SpellingExample) -> dict[str, str]:
    ((start, end),) = example.spans
    return {
        "id": identity,
        "word": surface.strip(),
        "surface": surface,
        "text": example.text,
        "prompt": example.text[:start],
        "completion": example.text[start:end],
        "template": template.name,
        "tone": template.tone,
        "direction": template.direction,
        "separator": template.separator,
        "letter_case": template.letter_case,
    }


def _held_out_rows(split: str, words: Sequence[str]) -> list[dict[str, str]]:
    template = SpellingTemplate("evaluation", "structured", "space", SPELLING_CONTEXT + " {letters}")
    rows = []
    for number, word in enumerate(words):
        prompt = SPELLING_CONTEXT.replace("{word}", word)
        text = f"{prompt} {spell(word, 'space')}\n"
        rows.append(
            _row(f"{split}-{number:06d}", f" {word}", template, SpellingExample(text, ((len(prompt), len(text) - 1),)))
        )
    return rows


def _write(path: Path, rows: Sequence[Mapping[str, object]], features: Features) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        pq.write_table(Dataset.from_list([dict(row) for row in rows], features=features).data.table, stream)


def _audit(
    config: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    trained: Sequence[LetterToken],
    rows: Sequence[dict[str, str]],
    held_out: HeldOutWords,
    questions: dict[str, list[Question]],
) -> DataAudit:
    texts = [row["text"] for row in rows]
    overlaps, leak = audit.word_overlaps(
        {
            "train": {token.letters for token in trained},
            "validation": held_out.validation,
            "test": held_out.test,
            "few_shot": few_shot_words(),
        }
    )
    text_overlaps, text_leak = audit.word_overlaps(
        {"training_texts": audit.words_in(texts), "held_out": [*held_out.validation, *held_out.test]}
    )
    pure_texts = (row["text"] for row in rows if not row["template"].startswith("length_"))
    violations, impure = audit.count_violations(pure_texts)
    words = [*held_out.validation, *held_out.test]
    single = sorted(
        {
            word
            for context in contexts()
            for word, pieces in zip(words, tokens_in_context(tokenizer, context, words), strict=True)
            if len(pieces) < 2
        }
    )
    audit.require_clean(leak or text_leak, impure, single)
    templates = Counter(row["template"] for row in rows)
    return DataAudit(
        seed=seed,
        n={
            "training_words": len({token.letters.lower() for token in trained}),
            "training_surface_forms": len(trained),
            "training_texts": len(texts),
            "validation_words": len(held_out.validation),
            "test_words": len(held_out.test),
            **{
                f"{split}.{kind}": sum(question.question_type == kind for question in asked)
                for split, asked in questions.items()
                for kind in ("letter_count", "letter_position")
            },
        },
        overlaps={**overlaps, **text_overlaps},
        purity_violations=violations,
        single_token_held_out_words=len(single),
        template_shares={name: round(count / len(texts), 6) for name, count in sorted(templates.items())},
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
