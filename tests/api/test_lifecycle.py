"""Replacing the model of a running service."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import threading
import time

import pytest
from scripted_model import ScriptedEngine, served
from transformers import PreTrainedTokenizerBase

from letterwise.api import lifecycle
from letterwise.api.app import create_app
from letterwise.api.services.canary import CanaryItem
from letterwise.api.services.loading import ServedModel
from letterwise.api.settings import ServiceSettings
from letterwise.tasks.questions import count_question, position_question


async def until(condition: object) -> None:
    async with asyncio.timeout(20):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")


def test_models_are_loaded_one_at_a_time_and_the_last_wish_counts(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    loading, most, loads = 0, 0, 0

    def load(_: ServiceSettings) -> ServedModel:
        nonlocal loading, most, loads
        loading += 1
        most, loads = max(most, loading), loads + 1
        number = loads
        time.sleep(0.3)
        loading -= 1
        return served(tiny_tokenizer, ScriptedEngine(), name=f"model {number}")

    async def live() -> str:
        state = create_app(ServiceSettings(task_type="position_count", canary_interval_seconds=0), load).state.service
        async with lifecycle.living(state, load):
            await until(lambda: loads == 1)
            for _ in range(3):  # during the first load, at once
                os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: loads == 2)
            for _ in range(3):  # during the second
                await asyncio.sleep(0.02)
                os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: state.answering and state.answering.model.name == "model 3")
            await asyncio.sleep(0.5)
        return str(state.answering.model.name)

    assert asyncio.run(live()) == "model 3"
    assert (most, loads) == (1, 3)


def test_a_new_model_is_watched_with_words_and_figures_of_its_own(
    tiny_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first spells everything right and the second its word wrong: figures over both would hide that."""
    tokenizers = [tiny_tokenizer, copy.deepcopy(tiny_tokenizer)]
    engines = [ScriptedEngine(), ScriptedEngine(spellings={"rhythm": "rhytm"})]
    models = [served(tokenizer, engine) for tokenizer, engine in zip(tokenizers, engines, strict=True)]
    loads = iter(models)
    gate = threading.Event()

    def items(tokenizer: PreTrainedTokenizerBase, seed: int, count: int) -> list[CanaryItem]:
        second = tokenizer is tokenizers[1]
        word = "rhythm" if second else "banana"
        assert not second or gate.wait(20)
        return [CanaryItem(word, count_question(word, "a"), position_question(word, 1))]

    async def live() -> None:
        settings = ServiceSettings(task_type="position_count", canary_interval_seconds=0.02, canary_window=50)
        state = create_app(settings, lambda _: next(loads)).state.service

        def value(name: str, **labels: str) -> float | None:
            figure: float | None = state.metrics.registry.get_sample_value(f"letterwise_{name}", labels)
            return figure

        async with lifecycle.living(state, lambda _: next(loads)):
            await until(lambda: (value("canary_probes_since_load") or 0) >= 5)
            assert value("spelling_accuracy", source="canary") == 1
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: state.answering.model is models[1])
            assert value("spelling_accuracy", source="canary") is None
            assert value("canary_probes_since_load") == 0
            gate.set()
            await until(lambda: value("canary_probes_since_load"))
            assert value("spelling_accuracy", source="canary") == 0
        right = value("canary_probes_total", question_type="spelling", mode="direct", correct="true")
        assert (right or 0) >= 5  # a counter goes on

    monkeypatch.setattr(lifecycle, "canary_items", items)
    asyncio.run(live())
