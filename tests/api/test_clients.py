"""The clients against the application itself; in every detail they are tested against a stand-in elsewhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_model import ScriptedEngine

from letterwise.api import schemas
from letterwise.client import AsyncClient, Client, ServiceError

ROOT = Path(__file__).parents[2]

Listening = Callable[..., str]


def wrong() -> ScriptedEngine:
    """Loses an r of strawberry, and counts two of every letter."""
    return ScriptedEngine(spellings={"strawberry": "strawbery"}, answer="2")


def test_the_python_client_asks_the_application(listening: Listening) -> None:
    address = listening(wrong(), base=ScriptedEngine(answer="4"), api_key="secret", max_batch_size=4)
    words = ["rhythm", "algoritm", "banana", "recieve", "strawberry", "letter"]
    with Client(address, api_key="secret") as ask:
        assert ask.health().status == "ok"
        assert ask.ready().models == ["finetuned", "base"]
        spelling = ask.spell("How do you spell 'strawberry'?", verify=True)
        assert ("".join(letter.letter for letter in spelling.letters), spelling.correct) == ("strawbery", False)
        assert (ask.count("strawberry", "r").count, ask.count("strawberry", "r", "direct").mode) == (2, "direct")
        assert ask.count("strawberry", "e", "direct", model="base").count == 4
        assert ask.letter_at("strawberry", 10, verify=True).letter is None
        assert ask.check("algoritm").suggestion == "algorithm"
        assert [answer.word for answer in ask.spell_many(words)] == words
        assert [answer.suggestion for answer in ask.check_many(words)] == [
            None, "algorithm", None, "receive", None, None,
        ]  # fmt: skip
        assert [answer.count for answer in ask.count_many([("banana", "a"), ("letter", "t")])] == [3, 2]
        assert [answer.letter for answer in ask.letter_at_many([("banana", 1), ("rhythm", 6)])] == ["b", "m"]
        assert isinstance(ask.metrics(), schemas.Metrics)
        with pytest.raises(ServiceError) as caught:
            ask.letter_at("cat", 5)
    error = caught.value
    assert (error.status, error.error) == (400, "Invalid input")
    assert error.request_id
    with Client(address, api_key="old") as ask, pytest.raises(ServiceError) as caught:
        ask.check("word")
    assert caught.value.status == 401


def test_the_asynchronous_client_asks_the_application(listening: Listening) -> None:
    async def ask_all(address: str) -> list[object]:
        async with AsyncClient(address) as ask:
            count, letter = await asyncio.gather(ask.count("strawberry", "r"), ask.letter_at("strawberry", 1))
            return [count.count, letter.letter, [one.count for one in await ask.count_many([("banana", "a")])]]

    assert asyncio.run(ask_all(listening(wrong(), task_type="position_count"))) == [2, "s", [3]]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_examples_ask_the_application(listening: Listening) -> None:
    environment = {**os.environ, "BASE_URL": listening(wrong(), api_key="secret"), "API_KEY": "secret"}

    def run(**given: str) -> subprocess.CompletedProcess[str]:
        script = ROOT / "examples" / "curl.sh"
        return subprocess.run([script], env=environment | given, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith(("GET /", "POST /"))]) == 12
    assert '"mode":"direct"' in done.stdout
    assert '"count":2' in done.stdout
    assert '"expected":3,"correct":false' in done.stdout
    assert '"suggestion":"algorithm"' in done.stdout
    assert '"live"' in done.stdout
    assert "letterwise_answers_total" in done.stdout
    refused = run(API_KEY="old")
    assert refused.returncode != 0
    assert '"error":"Unauthorized"' in refused.stdout
