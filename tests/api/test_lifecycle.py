"""Replacing the model of a running service."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from scripted_model import ScriptedEngine, served
from transformers import PreTrainedTokenizerBase

from letterwise.api import lifecycle
from letterwise.api.app import create_app
from letterwise.api.services.loading import ServedModel
from letterwise.api.settings import ServiceSettings


async def until(condition: object) -> None:
    async with asyncio.timeout(20):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
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
