"""A served model whose every answer is scripted, for the service's tests."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase

from starlette.testclient import TestClient
from transformers import PreTrainedTokenizerBase

from letterwise.api.schemas import ModelName
from letterwise.api.services.loading import ServedModel
from letterwise.engines.engine import Engine, Generation
from letterwise.results import Calibration
from letterwise.tasks.questions import Prompt

Serve = Callable[..., TestClient]


@dataclass
class ScriptedEngine:
    """Believes what it is told, right or wrong."""

    spellings: dict[str, str] = field(default_factory=dict)
    """How it spells a word; others as they are."""
    answer: str | None = None
    """What it answers to every question that has it among the candidates, else the first candidate."""
    probability: float = 0.9
    seconds: float = 0.0
    """How long each call takes."""
    batches: list[int] = field(default_factory=list)
    """Sizes of the calls so far."""
    gate: threading.Event | None = None
    """Calls wait for it."""

    def _work(self, items: int) -> None:
        self.batches.append(items)
        time.sleep(self.seconds)
        if self.gate:
            assert self.gate.wait(20)

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        letter_probabilities: bool = False,
        drafts: Sequence[str] | None = None,
    ) -> list[Generation]:
        self._work(len(prompts))
        return [self._spell(re.findall(r"Word: (\w+)", prompt.text)[-1]) for prompt in prompts]

    def _spell(self, word: str) -> Generation:
        letters = self.spellings.get(word, word)
        rest = (1 - self.probability) / 26
        others = dict.fromkeys([*ascii_lowercase, ""], rest)
        return Generation(
            "".join(f" {letter}" for letter in letters),
            tuple(f" {letter}" for letter in letters),
            tuple({**others, letter: self.probability} for letter in letters),
        )

    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        self._work(len(prompts))
        return [self._score(answers) for answers in candidates]

    def score_and_generate(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], max_new_tokens: int
    ) -> tuple[list[list[float]], list[Generation]]:
        raise AssertionError("the service asks for one or the other")

    def _score(self, answers: Sequence[str]) -> list[float]:
        best = answers.index(self.answer) if self.answer in answers else 0
        rest = (1 - self.probability) / max(1, len(answers) - 1)
        return [self.probability if place == best else rest for place in range(len(answers))]


def served(
    tokenizer: PreTrainedTokenizerBase,
    engine: Engine,
    base: Engine | None = None,
    calibration: Calibration | None = None,
    name: str = "scripted",
) -> ServedModel:
    engines: dict[ModelName, Engine] = {"finetuned": engine}
    if base:
        engines["base"] = base
    return ServedModel(name, "r1", "scripted", tokenizer, engines, calibration, None, None)
