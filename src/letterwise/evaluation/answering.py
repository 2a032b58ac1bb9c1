"""How a model is asked: spelling a word, and answering a question in each answer mode.

Knows an engine and the tasks; knows nothing about files, metrics or which model it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from letterwise.config import AnswerMode
from letterwise.engines.engine import Engine, Generation
from letterwise.tasks.questions import Prompt, Question, direct_prompt, spell_first_prompt
from letterwise.tasks.spelling import parse_spelling, spell, spelling_prompt

_SPARE_TOKENS = 4
_ANSWER_TOKENS = 12
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
    """Let the model spell each word, with its letter probabilities."""
    return engine.generate([spelling_prompt(word) for word in words], max_new_tokens, letter_probabilities=True)


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
    prompts: list[Prompt] = [
        direct_prompt(question) if letters is None else spell_first_prompt(question, letters)
        for question, letters in zip(questions, spelled, strict=True)
    ]
    candidates = [question.candidates() for question in questions]
    scores = engine.score(prompts, candidates)
    written = engine.generate(prompts, _ANSWER_TOKENS) if generate else [None] * len(prompts)
    answers = []
    for question, valid, probabilities, generation, letters in zip(
        questions, candidates, scores, written, spelled, strict=True
    ):
        best = int(np.argmax(probabilities))
        text = generation.text if generation else None
        parsed = question.parse(text) if text is not None else None
        answers.append(Answer(valid[best], probabilities[best], text, parsed, letters))
    return answers


def computed_answer(question: Question, generation: Generation) -> Answer:
    """Count or index in the letters that the model wrote.

    The confidence treats the letters as independent given those written: for a position it is the letter's
    probability there, for a count the probability of that many successes in a Poisson-binomial trial over the letters.
    """
    spelled = parse_spelling(generation.text)
    places = [
        probabilities
        for token, probabilities in zip(generation.token_texts, generation.letter_probabilities, strict=True)
        if len(token.strip()) == 1 and token.strip().isalpha()
    ]
    if question.position is not None:
        index = question.position - 1
        if index >= len(spelled):
            return Answer(None, 0.0, spelled=spelled)
        confidence = places[index].get(spelled[index], 0.0) if index < len(places) else 0.0
        return Answer(spelled[index], confidence, spelled=spelled)
    letter = question.letter or ""
    count = spelled.count(letter)
    distribution = np.ones(1)
    for probabilities in places:
        hit = probabilities.get(letter, 0.0)
        distribution = np.convolve(distribution, [1 - hit, hit])
    confidence = float(distribution[count]) if count < len(distribution) else 0.0
    return Answer(str(count), confidence, spelled=spelled)
