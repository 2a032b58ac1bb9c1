"""How a model is asked: spelling a word, and answering a question in each answer mode.

Knows an engine and the tasks; knows nothing about files, metrics or which model it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from letterwise.config import AnswerMode
from letterwise.engines.engine import Engine, Generation
from letterwise.tasks.questions import Prompt, Question, direct_prompt, spell_first_prompt
from letterwise.tasks.spelling import parse_spelling, spell, spelling_prompt

_SPARE_TOKENS = 4
ANSWER_TOKENS = 12
"""Enough for "The answer is the letter 'r'."; generation stops at a line break anyway."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one question in one mode."""

    predicted: str | None
    """The most probable valid answer; None when the model's spelling has no such position."""
    confidence: float
    """Its probability over the valid answers."""
    generated_text: str | None = None
    generated_answer: str | None = None
    spelled: str | None = None


def spelling_token_limit(tokenizer: PreTrainedTokenizerBase, longest: int) -> int:
    """Tokens to allow for a spelling; the same for all words, so that it gives no length away."""
    return len(tokenizer(" " + spell("w" * longest, "space"))["input_ids"]) + _SPARE_TOKENS


def spell_words(engine: Engine, words: Sequence[str], max_new_tokens: int) -> list[Generation]:
    """Let the model spell each word, with its letter probabilities.

    The right spelling is the draft: the engine checks in one pass whether the model writes it, and goes on token by
    token where it writes something else.
    """
    prompts, drafts = [spelling_prompt(word) for word in words], [spell(word, "space") for word in words]
    return engine.generate(prompts, max_new_tokens, letter_probabilities=True, drafts=drafts)


def spelled_letters(generation: Generation) -> list[tuple[str, dict[str, float]]]:
    """The letters that the model wrote, each with the probabilities of all letters in its place.

    Empty probabilities for letters that were not written as single tokens.
    """
    spelled = parse_spelling(generation.text)
    places = [
        probabilities
        for token, probabilities in zip(generation.token_texts, generation.letter_probabilities, strict=True)
        if len(token.strip()) == 1 and token.strip().isalpha()
    ]
    return list(zip(spelled, [*places, *[{}] * len(spelled)], strict=False))


def spelling_confidence(generation: Generation) -> float:
    """Product of the probabilities of the letters that the model wrote; 0 where it wrote none."""
    letters = spelled_letters(generation)
    return math.prod(probabilities.get(letter, 0.0) for letter, probabilities in letters) if letters else 0.0


def answer_questions(
    engine: Engine,
    questions: Sequence[Question],
    mode: AnswerMode,
    spellings: Mapping[str, Generation],
    generate: bool = True,
) -> list[Answer]:
    """Answer every question in one mode.

    Args:
        engine: the model.
        questions: what to ask.
        mode: `direct` asks with few-shot examples; `spell_first` puts the model's own spelling into the context;
            `computed` counts or indexes in the model's own spelling.
        spellings: the model's own spelling of each asked word; unused in mode `direct`.
        generate: also let the model write an answer (the secondary reading); not in mode `computed`.
    """
    if mode == "computed":
        return [computed_answer(question, spellings[question.word]) for question in questions]
    spelled = [None if mode == "direct" else parse_spelling(spellings[question.word].text) for question in questions]
    prompts = [question_prompt(question, letters) for question, letters in zip(questions, spelled, strict=True)]
    candidates = [question.candidates() for question in questions]
    written: Sequence[Generation | None] = [None] * len(prompts)
    if generate:
        scores, written = engine.score_and_generate(prompts, candidates, ANSWER_TOKENS)
    else:
        scores = engine.score(prompts, candidates)
    answers = []
    for question, probabilities, generation, letters in zip(questions, scores, written, spelled, strict=True):
        text = generation.text if generation else None
        parsed = question.parse(text) if text is not None else None
        answers.append(
            replace(scored_answer(question, probabilities, letters), generated_text=text, generated_answer=parsed)
        )
    return answers


def question_prompt(question: Question, spelled: str | None) -> Prompt:
    """The prompt of mode `direct`, or with the model's own spelling that of `spell_first`."""
    return direct_prompt(question) if spelled is None else spell_first_prompt(question, spelled)


def scored_answer(question: Question, probabilities: Sequence[float], spelled: str | None) -> Answer:
    """The most probable of the valid answers, `probabilities` being those of ``question.candidates()``."""
    best = int(np.argmax(probabilities))
    return Answer(question.candidates()[best], probabilities[best], spelled=spelled)


def computed_answer(question: Question, generation: Generation) -> Answer:
    """Count or index in the letters that the model wrote.

    The confidence treats the letters as independent given those written: for a position it is the letter's
    probability there, for a count the probability of that many successes in a Poisson-binomial trial over the letters.
    """
    letters = spelled_letters(generation)
    spelled = "".join(letter for letter, _ in letters)
    if question.position is not None:
        if question.position > len(letters):
            return Answer(None, 0.0, spelled=spelled)
        letter, probabilities = letters[question.position - 1]
        return Answer(letter, probabilities.get(letter, 0.0), spelled=spelled)
    asked = question.letter or ""
    count = spelled.count(asked)
    distribution = np.ones(1)
    for _, probabilities in letters:
        hit = probabilities.get(asked, 0.0)
        distribution = np.convolve(distribution, [1 - hit, hit])
    return Answer(str(count), float(distribution[count]), spelled=spelled)
