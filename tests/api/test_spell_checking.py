from __future__ import annotations

import string
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letterwise.api.services.spell_checking import EXAMPLES, MAX_CANDIDATES, SpellChecker
from letterwise.engines.engine import Generation
from letterwise.tasks.questions import Prompt


class ScriptedEngine:
    """Finds the words of its script much more likely than others, and remembers what it was asked."""

    def __init__(self, favourites: Sequence[str] = ()) -> None:
        self.favourites = favourites
        self.asked: list[tuple[str, list[str]]] = []

    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        probabilities = []
        for prompt, answers in zip(prompts, candidates, strict=True):
            self.asked.append((prompt.text, list(answers)))
            weights = [1e6 if answer in self.favourites else 1.0 for answer in answers]
            probabilities.append([weight / sum(weights) for weight in weights])
        return probabilities

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        letter_probabilities: bool = False,
        drafts: Sequence[str] | None = None,
    ) -> list[Generation]:
        raise AssertionError("a spell checker only scores")


@pytest.fixture(scope="module")
def checker() -> SpellChecker:
    return SpellChecker(ask_model=True)


@pytest.mark.parametrize(
    "word", ["algorithm", "the", "centers", "centres", "london", "nasa", "running", "a", "unhappily"]
)
def test_a_known_word_is_correct_and_the_model_is_not_asked(checker: SpellChecker, word: str) -> None:
    engine = ScriptedEngine()
    [verdict] = checker.check(engine, [word])
    assert (verdict.word, verdict.is_correct, verdict.suggestion) == (word, True, None)
    assert 0.9 < verdict.confidence <= 1
    assert engine.asked == []


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("algoritm", "algorithm"),
        ("accomodate", "accommodate"),
        ("teh", "the"),
        ("occassion", "occasion"),
        ("goverment", "government"),
        ("neccessary", "necessary"),
        ("freind", "friend"),
    ],
)
def test_a_misspelling_gets_the_word_that_was_meant(checker: SpellChecker, word: str, meant: str) -> None:
    [verdict] = checker.check(ScriptedEngine(), [word])
    assert (verdict.is_correct, verdict.suggestion) == (False, meant)
    assert 0 < verdict.confidence <= 1


@pytest.mark.parametrize("word", ["qqqqqqqqqq", "xkcdvbnmqwrt", "z" * 64])
def test_nothing_is_suggested_where_no_word_is_near(checker: SpellChecker, word: str) -> None:
    engine = ScriptedEngine()
    [verdict] = checker.check(engine, [word])
    assert (verdict.is_correct, verdict.suggestion) == (False, None)
    assert 0 < verdict.confidence < 1
    assert engine.asked == []


def test_the_model_decides_between_near_words(checker: SpellChecker) -> None:
    candidates = checker.prepare("thre")
    assert checker.needs_model(candidates)
    for favourite in candidates[:2]:
        [verdict] = checker.check(ScriptedEngine([favourite]), ["thre"])
        assert verdict.suggestion == favourite


def test_the_model_is_not_asked_unless_wanted() -> None:
    engine = ScriptedEngine(["three"])
    [verdict] = SpellChecker().check(engine, ["thre"])
    assert verdict.suggestion == "there"
    assert engine.asked == []


def test_confidence_grows_with_the_probability_that_the_model_gives(checker: SpellChecker) -> None:
    candidates = checker.prepare("thre")
    rest = len(candidates) - 1

    def confidence(share: float) -> float:
        return checker.decide("thre", candidates, [share, *[(1 - share) / rest] * rest]).confidence

    assert confidence(0.5) < confidence(0.9) < confidence(0.999) < 1


def test_a_model_that_finds_a_word_impossible_does_no_harm(checker: SpellChecker) -> None:
    candidates = checker.prepare("thre")
    verdict = checker.decide("thre", candidates, [1.0, *[0.0] * (len(candidates) - 1)])
    assert verdict.suggestion == candidates[0]
    assert 0 < verdict.confidence <= 1


def test_verdicts_come_in_the_order_of_the_words_and_the_model_is_asked_about_unsure_ones_only(
    checker: SpellChecker,
) -> None:
    words = ["algorithm", "thre", "qqqqqqqqqq", "definitly", "algoritm"]
    engine = ScriptedEngine()
    verdicts = checker.check(engine, words)
    assert [verdict.word for verdict in verdicts] == words
    unsure = [word for word in words if checker.needs_model(checker.prepare(word))]
    assert 0 < len(unsure) < len(words)
    assert [text.splitlines()[-2] for text, _ in engine.asked] == [f"Misspelled: {word}" for word in unsure]


def test_all_prompts_share_a_header_that_an_engine_can_cache(checker: SpellChecker) -> None:
    first, answers = checker.prompt("thre", checker.prepare("thre"))
    second, _ = checker.prompt("wrd", checker.prepare("wrd"))
    assert first.header == second.header
    assert first.header[-1].isalpha()
    assert first.body.startswith("\n")
    assert answers == checker.prepare("thre")


def test_the_examples_of_the_prompt_are_misspellings_of_known_words(checker: SpellChecker) -> None:
    assert not [wrong for wrong, right in EXAMPLES if checker.knows(wrong) or not checker.knows(right)]


@settings(max_examples=200, deadline=None)
@given(word=st.text(string.ascii_lowercase, min_size=1, max_size=64))
def test_any_letters_get_a_verdict_quickly(checker: SpellChecker, word: str) -> None:
    started = time.process_time()
    candidates = checker.prepare(word)
    verdict = checker.decide(word, candidates)
    assert time.process_time() - started < 0.25
    assert len(candidates) <= MAX_CANDIDATES
    assert all(checker.knows(candidate) for candidate in candidates)
    assert verdict.is_correct == checker.knows(word)
    assert verdict.suggestion is None or verdict.suggestion in candidates
    assert 0 <= verdict.confidence <= 1
