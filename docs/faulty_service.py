"""A service whose model is faulty on purpose: for the answers in docs/api.md that a sound one hardly ever gives.

    uvicorn --app-dir docs --factory faulty_service:create_app

Asked about 'crash' the model breaks down, and for 'slow' it takes its time; it has no answers of its own. Everything
around it is the service as it is. Knows its parts; knows nothing about HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import FastAPI

from letterwise.api import app
from letterwise.api.services.loading import ServedModel
from letterwise.api.settings import ServiceSettings, load_settings
from letterwise.engines.engine import Generation
from letterwise.models import EMBEDDED, load_tokenizer, resolve_base
from letterwise.tasks.questions import Prompt

SECONDS = 2.0
"""How long the slow word takes."""


class FaultyEngine:
    """Fulfils the protocol of an engine, in its way."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        letter_probabilities: bool = False,
        drafts: Sequence[str] | None = None,
    ) -> list[Generation]:
        """Writes nothing."""
        self._fail(prompts)
        return [Generation("", (), ()) for _ in prompts]

    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        """Holds all candidates for equally likely."""
        self._fail(prompts)
        return [[1 / len(answers)] * len(answers) for answers in candidates]

    def score_and_generate(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], max_new_tokens: int
    ) -> tuple[list[list[float]], list[Generation]]:
        """Both."""
        return self.score(prompts, candidates), self.generate(prompts, max_new_tokens)

    def _fail(self, prompts: Sequence[Prompt]) -> None:
        asked = " ".join(prompt.text for prompt in prompts)
        if "crash" in asked:
            raise RuntimeError("This model breaks down at the word 'crash'.")
        if "slow" in asked:
            time.sleep(SECONDS)


def load(_: ServiceSettings) -> ServedModel:
    """The faulty model, with the tokenizer of the embedded one."""
    return ServedModel(
        name="faulty on purpose",
        revision="none",
        engine_name="none",
        tokenizer=load_tokenizer(resolve_base(EMBEDDED)),
        engines={"finetuned": FaultyEngine()},
        calibration=None,
        results=None,
        transfer=None,
    )


def create_app() -> FastAPI:
    """The service, with settings from the environment."""
    return app.create_app(load_settings(), load)
