from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import pytest
from transformers import PreTrainedTokenizerBase

from letterwise.engines.engine import Generation
from letterwise.evaluation.answering import (
    answer_questions,
    computed_answer,
    spell_words,
    spelling_token_limit,
)
from letterwise.tasks.questions import (
    Prompt,
    count_question,
    direct_prompt,
    position_question,
    spell_first_prompt,
)
from letterwise.tasks.spelling import spelling_prompt


def written(letters: str, *others: dict[str, float]) -> Generation:
    """A model that wrote these letters, sure of each unless told otherwise."""
    certain = [{letter: 1.0} for letter in letters]
    steps = [*others, *certain[len(others) :]]
    return Generation(" " + " ".join(letters), tuple(f" {letter}" for letter in letters), tuple(steps))


class FakeEngine:
    """Writes what it is told to and prefers the last candidate; remembers what it was asked."""

    def __init__(self, text: str = " 3") -> None:
        self.text = text
        self.scored: list[Prompt] = []
        self.generated: list[Prompt] = []

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        letter_probabilities: bool = False,
        drafts: Sequence[str] | None = None,
    ) -> list[Generation]:
        self.generated.extend(prompts)
        assert max_new_tokens > 0
        return [written("ab") if letter_probabilities else Generation(self.text) for _ in prompts]

    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        self.scored.extend(prompts)
        return [[*[0.4 / (len(answers) - 1)] * (len(answers) - 1), 0.6] for answers in candidates]

    def score_and_generate(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], max_new_tokens: int
    ) -> tuple[list[list[float]], list[Generation]]:
        return self.score(prompts, candidates), self.generate(prompts, max_new_tokens)


def test_words_are_put_as_spelling_prompts() -> None:
    engine = FakeEngine()
    assert spell_words(engine, ["fig", "plum"], 9) == [written("ab")] * 2
    assert engine.generated == [spelling_prompt("fig"), spelling_prompt("plum")]


def test_a_direct_answer_is_the_most_probable_valid_one() -> None:
    engine = FakeEngine(" The letter is 'r'.")
    questions = [count_question("fig", "g"), position_question("fig", 2)]
    count, position = answer_questions(engine, questions, "direct", {})
    assert engine.scored == engine.generated == [direct_prompt(question) for question in questions]
    assert (count.predicted, count.confidence) == ("3", 0.6)
    assert (position.predicted, position.confidence) == ("z", 0.6)
    assert (position.generated_text, position.generated_answer) == (" The letter is 'r'.", "r")
    assert count.generated_answer is None
    assert count.spelled is None


def test_the_written_answer_can_be_left_out() -> None:
    engine = FakeEngine()
    (answer,) = answer_questions(engine, [count_question("fig", "g")], "direct", {}, generate=False)
    assert engine.generated == []
    assert (answer.predicted, answer.generated_text, answer.generated_answer) == ("3", None, None)


def test_spell_first_puts_the_models_own_spelling_into_the_prompt() -> None:
    engine = FakeEngine()
    questions = [count_question("straw", "r"), position_question("fig", 2)]
    answers = answer_questions(engine, questions, "spell_first", {"straw": written("STRRW"), "fig": written("")})
    assert (
        engine.scored
        == engine.generated
        == [
            spell_first_prompt(questions[0], "strrw"),
            spell_first_prompt(questions[1], ""),
        ]
    )
    assert "Spelling: s t r r w\nAnswer:" in engine.scored[0].text
    assert [answer.spelled for answer in answers] == ["strrw", ""]


def test_computed_counts_and_indexes_in_the_models_spelling_right_or_wrong() -> None:
    engine = FakeEngine()
    spellings = {"straw": written("strrw")}
    questions = [count_question("straw", "r"), position_question("straw", 4), position_question("straw", 1)]
    answers = answer_questions(engine, questions, "computed", spellings)
    assert [answer.predicted for answer in answers] == ["2", "r", "s"]
    assert [answer.confidence for answer in answers] == [1.0, 1.0, 1.0]
    assert {answer.spelled for answer in answers} == {"strrw"}
    assert engine.scored == engine.generated == []


def test_a_position_beyond_the_models_spelling_has_no_answer() -> None:
    answer = computed_answer(position_question("straw", 5), written("str"))
    assert (answer.predicted, answer.confidence, answer.spelled) == (None, 0.0, "str")


def test_no_spelling_counts_nothing() -> None:
    answer = computed_answer(count_question("straw", "r"), Generation("", (), ()))
    assert (answer.predicted, answer.confidence) == ("0", 1.0)


def test_the_confidence_of_a_position_is_the_probability_of_its_letter() -> None:
    spelling = written("plum", {"p": 0.9, "b": 0.1}, {"l": 0.6, "r": 0.3, "": 0.1})
    assert computed_answer(position_question("plum", 2), spelling).confidence == pytest.approx(0.6)


@pytest.mark.parametrize("letter", ["r", "s", "q"])
def test_the_confidence_of_a_count_is_that_of_independent_letters(letter: str) -> None:
    steps = [
        {"s": 0.7, "r": 0.2, "": 0.1},
        {"t": 1.0},
        {"r": 0.6, "s": 0.3, "l": 0.1},
        {"r": 0.5, "a": 0.5},
        {"w": 0.9, "r": 0.05, "": 0.05},
    ]
    spelling = written("strrw", *steps)
    answer = computed_answer(count_question("straw", letter), spelling)
    # Every way in which the steps can hit or miss the letter.
    by_enumeration = sum(
        prod(step.get(letter, 0) if hit else 1 - step.get(letter, 0) for step, hit in zip(steps, hits, strict=True))
        for hits in product([True, False], repeat=len(steps))
        if sum(hits) == "strrw".count(letter)
    )
    assert answer.predicted == str("strrw".count(letter))
    assert answer.confidence == pytest.approx(by_enumeration)


def test_tokens_that_are_not_letters_take_no_place() -> None:
    generation = Generation(" p - l.", (" p", " -", " l", "."), ({"p": 0.8}, {"": 1.0}, {"l": 0.7}, {"": 1.0}))
    assert computed_answer(position_question("plum", 2), generation).confidence == pytest.approx(0.7)


def test_the_token_limit_holds_the_longest_spelling_whatever_its_letters(
    tiny_tokenizer: PreTrainedTokenizerBase,
) -> None:
    limit = spelling_token_limit(tiny_tokenizer, 6)
    for word in ("banana", "rhythm", "quartz"):
        assert len(tiny_tokenizer.tokenize(" " + " ".join(word) + "\n")) <= limit
    assert limit < 20
