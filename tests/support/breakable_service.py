"""`letterwise serve`, except that a file says what is broken in it; for tests of what watches it.

    python breakable_service.py FAULTS.json

Its settings are those of the environment, and its canary asks about the words that `taught_adapter` teaches.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taught_adapter import CANARY_WORDS

from letterwise.api import lifecycle, server
from letterwise.api.services.loading import ModelSource, ServedModel
from letterwise.api.settings import ServiceSettings, load_settings
from letterwise.engines.engine import Engine, Generation
from letterwise.files import read_json, write_json
from letterwise.tasks.questions import Prompt

USER = "user"
"""With this begin the words that users ask about; the canary's do not."""
LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Faults:
    """What is broken; nothing, by default."""

    failing: bool = False
    """The model raises an error."""
    seconds: float = 0.0
    """How much longer each call of the model takes."""
    hanging: bool = False
    """No call of the model comes back."""
    deaf_to_the_canary: bool = False
    """The model raises an error where it is to spell another word than a user's."""
    loading: bool = False
    """Loading a model does not come to an end."""

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))


@dataclass
class BreakableEngine:
    """A real engine, with what is broken between it and whoever asks."""

    engine: Engine
    faults: Path

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        letter_probabilities: bool = False,
        drafts: Sequence[str] | None = None,
    ) -> list[Generation]:
        faults = self._suffer()
        if faults.deaf_to_the_canary and not all(map(_is_of_a_user, prompts)):
            raise RuntimeError("broken on purpose")
        return self.engine.generate(prompts, max_new_tokens, letter_probabilities, drafts)

    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        self._suffer()
        return self.engine.score(prompts, candidates)

    def score_and_generate(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], max_new_tokens: int
    ) -> tuple[list[list[float]], list[Generation]]:
        raise AssertionError("the service asks for one or the other")

    def _suffer(self) -> Faults:
        faults = _read(self.faults)
        while faults.hanging:
            time.sleep(LOOK_SECONDS)
            faults = _read(self.faults)
        if faults.failing:
            raise RuntimeError("broken on purpose")
        time.sleep(faults.seconds)
        return faults


def _read(path: Path) -> Faults:
    return Faults(**read_json(path))


def _is_of_a_user(prompt: Prompt) -> bool:
    return bool(re.findall(r"Word: (\w+)", prompt.text)[-1].startswith(USER))


def main(path: Path) -> None:
    load_served = server.load_served

    def load(settings: ServiceSettings, source: ModelSource) -> Any:
        while _read(path).loading:
            time.sleep(LOOK_SECONDS)
        model: ServedModel = load_served(settings, source)
        for which, engine in model.engines.items():
            model.engines[which] = BreakableEngine(engine, path)
        return model

    server.load_served = load
    lifecycle.CANARY_WORDS = CANARY_WORDS
    server.serve(load_settings())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
