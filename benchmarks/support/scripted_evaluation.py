"""Evaluating very many words without a model: a run folder of random words, and an engine that costs nothing.

What is measured is what letterwise itself needs beside the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from letterwise.data.build import POSITION_COUNT_FEATURES
from letterwise.engines.engine import Generation
from letterwise.files import write_json, write_text
from letterwise.tasks.questions import Prompt, Question, count_question, position_question

LETTERS = list("etaoinshrdlu")


class ScriptedEngine:
    """Spells every word, but for the last letter of every third; of answers it prefers the first."""

    def __init__(self, *_: object) -> None:
        """Takes what an engine takes, and needs none of it."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        letter_probabilities: bool = False,
        drafts: Sequence[str] | None = None,
    ) -> list[Generation]:
        generations = []
        for place, draft in enumerate(drafts or ["a"] * len(prompts)):
            letters = draft.split()[: None if place % 3 else -1]
            steps = tuple({letter: 0.9, "": 0.1} for letter in letters)
            generations.append(Generation(" " + " ".join(letters), tuple(f" {letter}" for letter in letters), steps))
        return generations

    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        return [[0.5, *[0.5 / (len(answers) - 1)] * (len(answers) - 1)] for answers in candidates]

    def score_and_generate(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], max_new_tokens: int
    ) -> tuple[list[list[float]], list[Generation]]:
        return self.score(prompts, candidates), [Generation(f" {answers[0]}") for answers in candidates]


def write_run(folder: Path, adapter: Path, words: int) -> None:
    """The words and data of a run with this many test words and as many questions, and an adapter's folder."""
    rng = np.random.default_rng(0)
    write_json(folder / "words" / "held_out_words.json", {"validation": [], "test": [], "token_uses": {}})
    write_json(folder / "words" / "tokens.json", {"tokens": [{"token": " the", "token_id": 1, "char_length": 3}]})
    for split, count in (("train", 10), ("validation", 10), ("test", words)):
        path = folder / "data" / "spelling" / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"word": [_word(rng, number) for number in range(count)]}), path)
        if split != "train":
            _write_questions(folder / "data" / "position_count" / f"{split}.parquet", path, rng)
    write_text(adapter / "adapter_model.safetensors", "")
    write_json(adapter / "adapter_config.json", {})


def _word(rng: np.random.Generator, number: int) -> str:
    """No two numbers give the same word."""
    digits = []
    while number:
        number, digit = divmod(number, len(LETTERS))
        digits.append(LETTERS[digit])
    return "".join([*rng.choice(LETTERS, size=4), *digits])


def _write_questions(path: Path, words: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, POSITION_COUNT_FEATURES.arrow_schema) as writer:
        for batch in pq.ParquetFile(words).iter_batches(10_000):
            rows = [asdict(_question(word, rng)) for word in batch["word"].to_pylist()]
            writer.write_table(pa.Table.from_pylist(rows, schema=POSITION_COUNT_FEATURES.arrow_schema))


def _question(word: str, rng: np.random.Generator) -> Question:
    if rng.random() < 0.5:
        return count_question(word, str(rng.choice(LETTERS)), question_id=f"test-count-{word}")
    return position_question(word, int(rng.integers(1, len(word) + 1)), question_id=f"test-position-{word}")
