import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from scripted_model import ScriptedEngine, Serve
from transformers import PreTrainedTokenizerBase

from letterwise.api import lifecycle
from letterwise.api.services import canary as canary_module
from letterwise.api.services.batching import Overloaded
from letterwise.api.services.canary import Canary, CanaryItem, canary_items
from letterwise.api.utils.observability import ServiceMetrics
from letterwise.config import AnswerMode
from letterwise.data import word_lists
from letterwise.results import Calibration
from letterwise.tasks.questions import COUNT_CLASSES, Question, count_question, position_question

WORDS = ("strawberry", "committee", "rhythm", "algorithm")
ITEMS = [CanaryItem(word, count_question(word, "m"), position_question(word, 2)) for word in WORDS]


@dataclass
class FakeAsker:
    """Is right about a word where `knows` says so; asks for trouble where `trouble` is set."""

    knows: Callable[[str], bool] = lambda word: True
    modes: tuple[AnswerMode, ...] = ("direct",)
    trouble: BaseException | None = None
    asked: list[str] = field(default_factory=list)

    async def spell(self, word: str) -> str:
        self.asked.append(f"spell {word}")
        if self.trouble:
            raise self.trouble
        return word if self.knows(word) else word[:-1]

    async def answer(self, question: Question) -> dict[AnswerMode, str | None]:
        self.asked.append(question.question)
        return dict.fromkeys(self.modes, question.answer if self.knows(question.word) else None)


def probe(canary: Canary, times: int) -> None:
    async def probing() -> None:
        for _ in range(times):
            await canary.probe()

    asyncio.run(probing())


def value(metrics: ServiceMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"letterwise_{name}", labels)


def test_a_probe_asks_for_a_spelling_a_count_and_a_position() -> None:
    asker, metrics = FakeAsker(), ServiceMetrics()
    probe(Canary(asker, ITEMS, metrics, 30, 200), 1)

    assert asker.asked == ["spell strawberry", ITEMS[0].count.question, ITEMS[0].position.question]
    for question_type in ("spelling", "letter_count", "letter_position"):
        labels = {"question_type": question_type, "mode": "direct", "correct": "true"}
        assert value(metrics, "canary_probes_total", **labels) == 1
    assert value(metrics, "canary_last_probe_timestamp_seconds")


def test_a_model_that_degrades_makes_the_gauges_fall() -> None:
    asker, metrics = FakeAsker(), ServiceMetrics()
    canary = Canary(asker, ITEMS, metrics, 30, window=8)

    def accuracies() -> list[float | None]:
        questions = [
            value(metrics, name, source="canary", mode="direct")
            for name in ("letter_count_accuracy", "letter_position_accuracy")
        ]
        return [value(metrics, "spelling_accuracy", source="canary"), *questions]

    probe(canary, 8)
    assert accuracies() == [1, 1, 1]
    assert value(metrics, "character_level_accuracy", source="canary") == 1
    assert value(metrics, "levenshtein_distance", source="canary") == 0

    asker.knows = lambda word: False
    probe(canary, 4)
    assert accuracies() == [0.5, 0.5, 0.5]
    assert metrics.report().live.position_count.letter_count_accuracy == 0.5

    probe(canary, 4)
    assert accuracies() == [0, 0, 0]
    assert 0.8 < (value(metrics, "character_level_accuracy", source="canary") or 0) < 1  # one letter short of each word
    assert 0 < (value(metrics, "levenshtein_distance", source="canary") or 0) < 0.2


def test_correlation_is_phi_and_absent_while_one_side_is_constant() -> None:
    asker, metrics = FakeAsker(), ServiceMetrics()
    canary = Canary(asker, ITEMS, metrics, 30, window=4)

    def correlations(mode: AnswerMode = "direct") -> list[float | None]:
        types = ("letter_count", "letter_position", "position_count")
        return [value(metrics, "correlation", source="canary", mode=mode, question_type=name) for name in types]

    probe(canary, 4)
    assert correlations() == [None] * 3

    asker.knows = lambda word: word in WORDS[:2]
    probe(canary, 4)
    assert correlations() == pytest.approx([1] * 3)

    class Guesser(FakeAsker):
        """Spells the first two words; counts right in the first and third, and is always wrong about positions."""

        async def answer(self, question: Question) -> dict[AnswerMode, str | None]:
            right = question.letter and question.word in (WORDS[0], WORDS[2])
            return {"direct": question.answer if right else "?"}

    canary = Canary(Guesser(knows=asker.knows), ITEMS, metrics, 30, window=4)
    probe(canary, 4)
    count, position, both = correlations()
    assert count == pytest.approx(0)
    assert position is None
    assert both == pytest.approx(0)


def test_modes_are_kept_apart() -> None:
    """A count asked in two modes and a position in one: what is live can be compared with what was evaluated."""

    class TwoMinds(FakeAsker):
        """Spells the first two words; counts from its spelling are right when that is, direct answers never."""

        async def answer(self, question: Question) -> dict[AnswerMode, str | None]:
            if question.question_type == "letter_position":
                return {"direct": None}
            return {"computed": question.answer if self.knows(question.word) else None, "direct": None}

    metrics = ServiceMetrics()
    probe(Canary(TwoMinds(knows=lambda word: word in WORDS[:2]), ITEMS, metrics, 30, window=4), 4)

    def shown(name: str, mode: AnswerMode, **labels: str) -> float | None:
        return value(metrics, name, source="canary", mode=mode, **labels)

    assert (shown("letter_count_accuracy", "computed"), shown("letter_count_accuracy", "direct")) == (0.5, 0)
    assert (shown("letter_position_accuracy", "computed"), shown("letter_position_accuracy", "direct")) == (None, 0)
    assert shown("correlation", "computed", question_type="letter_count") == pytest.approx(1)
    assert shown("correlation", "computed", question_type="position_count") is None
    assert metrics.report().live.position_count.letter_count_accuracy == 0
    for mode, correct, count in (("computed", "true", 2), ("computed", "false", 2), ("direct", "false", 4)):
        labels = {"question_type": "letter_count", "mode": mode, "correct": correct}
        assert value(metrics, "canary_probes_total", **labels) == count


def test_the_served_model_is_asked_in_its_default_mode_and_in_direct(serve: Serve) -> None:
    """Its own spelling lacks a letter, so the two modes can be told apart."""
    question = count_question("tree", "e")
    direct = Calibration(adapter="a", curves={}, accuracy={}, default_modes={"letter_count": "direct"})
    for calibration, answers in ((None, {"computed": "1", "direct": "2"}), (direct, {"direct": "2"})):
        client = serve(ScriptedEngine(spellings={"tree": "tre"}, answer="2"), calibration=calibration)
        asker = lifecycle._ModelAsker(client.app.state.service)  # type: ignore[attr-defined]
        assert client.portal
        assert client.portal.call(asker.spell, "tree") == "tre"
        assert client.portal.call(asker.answer, question) == answers


def test_a_mode_that_is_no_longer_asked_leaves_with_the_window() -> None:
    asker, metrics = FakeAsker(modes=("computed", "direct")), ServiceMetrics()
    canary = Canary(asker, ITEMS, metrics, 30, window=4)
    probe(canary, 4)
    asker.modes = ("direct",)
    probe(canary, 3)
    assert value(metrics, "letter_count_accuracy", source="canary", mode="computed") == 1
    probe(canary, 1)
    assert value(metrics, "letter_count_accuracy", source="canary", mode="computed") is None
    assert value(metrics, "letter_count_accuracy", source="canary", mode="direct") == 1


@pytest.mark.parametrize("trouble", [RuntimeError("no model"), asyncio.CancelledError()], ids=repr)
def test_the_canary_outlives_whatever_the_asker_raises(
    trouble: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    asker, metrics = FakeAsker(), ServiceMetrics()
    canary = Canary(asker, ITEMS, metrics, 30, 200)
    probe(canary, 1)
    asker.trouble = trouble
    with caplog.at_level(logging.WARNING):
        probe(canary, 2)
    asker.trouble = None
    probe(canary, 1)

    assert value(metrics, "canary_failures_total") == 2
    assert value(metrics, "canary_probes_total", question_type="spelling", mode="direct", correct="true") == 2
    assert value(metrics, "spelling_accuracy", source="canary") == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_a_model_that_hangs_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(FakeAsker):
        async def answer(self, question: Question) -> dict[AnswerMode, str | None]:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(canary_module, "PROBE_TIMEOUT_SECONDS", 0.01)
    metrics = ServiceMetrics()
    probe(Canary(Hanging(), ITEMS, metrics, 30, 200), 1)

    assert value(metrics, "canary_failures_total") == 1
    assert value(metrics, "canary_last_probe_timestamp_seconds") == 0


def test_a_probe_refused_in_an_overload_is_counted_and_needs_no_stack_trace(caplog: pytest.LogCaptureFixture) -> None:
    class Refused(FakeAsker):
        async def answer(self, question: Question) -> dict[AnswerMode, str | None]:
            raise Overloaded

    metrics = ServiceMetrics()
    probe(Canary(Refused(), ITEMS, metrics, 30, 200), 1)

    assert value(metrics, "canary_failures_total") == 1
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "refused" in record.message
    assert record.exc_info is None


def test_it_pauses_about_the_interval_between_probes_and_runs_until_cancelled() -> None:
    asker = FakeAsker()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    async def run() -> None:
        task = asyncio.create_task(Canary(asker, ITEMS, ServiceMetrics(), 30, 200, sleep=sleep).run())
        while len(pauses) < 10:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())

    assert all(27 <= pause <= 33 for pause in pauses)
    assert len(set(pauses)) > 1
    assert [asked for asked in asker.asked if asked.startswith("spell")][:5] == [
        f"spell {w}" for w in (*WORDS, WORDS[0])
    ]


def test_cancelling_ends_a_probe_in_the_middle() -> None:
    class Slow(FakeAsker):
        async def spell(self, word: str) -> str:
            await asyncio.Event().wait()
            raise AssertionError

    metrics = ServiceMetrics()

    async def run() -> None:
        task = asyncio.create_task(Canary(Slow(), ITEMS, metrics, 30, 200).run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())

    assert value(metrics, "canary_failures_total") == 0


def test_each_probe_logs_the_live_figures(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        probe(Canary(FakeAsker(), ITEMS, ServiceMetrics(), 30, 200), 1)

    (record,) = caplog.records
    assert record.transfer_metrics["spelling"]["accuracy"] == 1  # type: ignore[attr-defined]


def test_items_are_balanced_questions_about_words_the_tokenizer_splits(
    tiny_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    frequent = word_lists.dictionary_words(4, 14, 4.5)
    monkeypatch.setattr(canary_module, "dictionary_words", lambda *limits: frequent)

    items = canary_items(tiny_tokenizer, seed=0, count=24)

    assert len({item.word for item in items}) == 24
    assert all(item.word == item.count.word == item.position.word for item in items)
    assert all(len(tiny_tokenizer.tokenize(f" {item.word}")) > 1 for item in items)
    assert [item.count.count_class for item in items[:4]] == list(COUNT_CLASSES)
    assert [[item.position.position_class for item in items].count(name) for name in ("first", "inner", "last")] == [
        8
    ] * 3
    assert items == canary_items(tiny_tokenizer, seed=0, count=24) != canary_items(tiny_tokenizer, seed=1, count=24)
