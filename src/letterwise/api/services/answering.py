"""Questions to the served model: which prompts to run, and how the answers are read.

All answers but the spell check's come from the model; what is true is never looked at here. Knows nothing about HTTP.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from letterwise.api.inputs import MAX_LETTERS
from letterwise.api.schemas import ModelName
from letterwise.api.services.batching import Batcher, Operation
from letterwise.api.services.loading import ServedModel
from letterwise.api.services.spell_checking import SpellCheck, SpellChecker
from letterwise.config import AnswerMode
from letterwise.engines.engine import Engine, Generation
from letterwise.evaluation.answering import (
    Answer,
    computed_answer,
    question_prompt,
    scored_answer,
    spell_words,
    spelling_confidence,
    spelling_token_limit,
)
from letterwise.evaluation.calibration import calibrated_confidence
from letterwise.results import QUESTION_TYPES
from letterwise.tasks.questions import Prompt, Question
from letterwise.tasks.spelling import SPELLING_CONTEXT, parse_spelling
from letterwise.words.dictionary import tokens_in_context

REMEMBERED_SPELLINGS = 4096
"""Greedy decoding spells a word the same way every time, so the last spellings are kept."""


class UnknownModel(ValueError):  # noqa: N818 - the caller words the problem
    """The request names a model that is not loaded."""


class AnsweringService:
    """Asks one served model through a batcher; a reload replaces it by another such service."""

    def __init__(self, model: ServedModel, batcher: Batcher, patient: bool = False) -> None:
        """Prepare to ask.

        Args:
            model: who is asked.
            batcher: through which it is asked.
            patient: never be refused, however much is waiting: for a model's warm-up.
        """
        self.model = model
        self.patient = patient
        self.batcher = batcher
        self._spelling_tokens = spelling_token_limit(model.tokenizer, MAX_LETTERS)
        self._spellings: OrderedDict[tuple[ModelName, str], Generation] = OrderedDict()

    @property
    def default_modes(self) -> dict[str, AnswerMode]:
        """Question type → the mode used when none is named: the most accurate on validation words."""
        known: dict[str, Any] = self.model.calibration.default_modes if self.model.calibration else {}
        return {question_type: known.get(question_type, "computed") for question_type in QUESTION_TYPES}

    async def spell(self, words: Sequence[str], which: ModelName = "finetuned") -> list[Generation]:
        """The model's own spelling of each word.

        Raises:
            UnknownModel: that model is not loaded.
            Overloaded: too much is waiting.
        """
        engine = self._engine(which)
        self._admit(self._unspelled(words, which), "generate")
        return await self._spell(engine, words, which)

    async def answer(
        self, questions: Sequence[Question], mode: AnswerMode, which: ModelName = "finetuned"
    ) -> list[Answer]:
        """The model's answers, with calibrated confidence.

        Raises:
            UnknownModel: that model is not loaded.
            Overloaded: too much is waiting.
        """
        engine = self._engine(which)
        unspelled = 0 if mode == "direct" else self._unspelled([question.word for question in questions], which)
        scored = 0 if mode == "computed" else len(questions)
        self._admit(unspelled or scored, "generate" if unspelled else "score")
        spellings = None
        if mode != "direct":
            spellings = await self._spell(engine, [question.word for question in questions], which)
        if mode == "computed" and spellings is not None:
            answers = [
                computed_answer(question, spelling) for question, spelling in zip(questions, spellings, strict=True)
            ]
        else:
            spelled = [parse_spelling(one.text) for one in spellings] if spellings else [None] * len(questions)
            prompts = [question_prompt(question, letters) for question, letters in zip(questions, spelled, strict=True)]
            scores = await self._score(engine, prompts, [question.candidates() for question in questions])
            answers = [
                scored_answer(question, probabilities, letters)
                for question, probabilities, letters in zip(questions, scores, spelled, strict=True)
            ]
        return [
            replace(answer, confidence=self.calibrated(f"{question.question_type}.{mode}", answer.confidence, which))
            for question, answer in zip(questions, answers, strict=True)
        ]

    async def check(self, checker: SpellChecker, words: Sequence[str]) -> list[SpellCheck]:
        """Whether each word is spelled correctly; the model is asked only where the checker wants it, by default never.

        Raises:
            Overloaded: too much is waiting.
        """
        engine = self._engine("finetuned")
        candidates = [checker.prepare(word) for word in words]
        unsure = [place for place, found in enumerate(candidates) if checker.needs_model(found)]
        self._admit(len(unsure), "score")
        asked = [checker.prompt(words[place], candidates[place]) for place in unsure]
        scores = await self._score(engine, [prompt for prompt, _ in asked], [answers for _, answers in asked])
        probabilities = dict(zip(unsure, scores, strict=True))
        return [
            checker.decide(word, found, probabilities.get(place))
            for place, (word, found) in enumerate(zip(words, candidates, strict=True))
        ]

    def forget(self, word: str) -> None:
        """Forget how a word was spelled, so that its next spelling is the model's anew."""
        for which in self.model.engines:
            self._spellings.pop((which, word), None)

    def _admit(self, items: int, operation: str) -> None:
        if not self.patient:
            self.batcher.admit(items, operation)

    def _unspelled(self, words: Sequence[str], which: ModelName) -> int:
        """How many of the words the model must be asked to spell."""
        return sum((which, word) not in self._spellings for word in set(words))

    async def _spell(self, engine: Engine, words: Sequence[str], which: ModelName) -> list[Generation]:
        spelled = {word: self._spellings[which, word] for word in words if (which, word) in self._spellings}
        if new := [word for word in dict.fromkeys(words) if word not in spelled]:
            operation = Operation(
                "generate", id(engine), lambda words: spell_words(engine, words, self._spelling_tokens)
            )
            spelled.update(zip(new, await self.batcher.submit(operation, new), strict=True))
        for word, spelling in spelled.items():
            self._spellings[which, word] = spelling  # anew, as it may have been forgotten meanwhile
            self._spellings.move_to_end((which, word))
        while len(self._spellings) > REMEMBERED_SPELLINGS:
            self._spellings.popitem(last=False)
        return [spelled[word] for word in words]

    async def _score(
        self, engine: Engine, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Probability of each prompt's candidates."""
        operation = Operation("score", id(engine), lambda pairs: _score(engine, pairs))
        return await self.batcher.submit(operation, list(zip(prompts, candidates, strict=True)))

    def tokens(self, word: str) -> list[str]:
        """The word as the model reads it in a spelling prompt."""
        return tokens_in_context(self.model.tokenizer, SPELLING_CONTEXT, [word])[0]

    def spelling_confidence(self, generation: Generation, which: ModelName = "finetuned") -> float:
        """Probability that the whole spelling is right."""
        return self.calibrated("spelling", spelling_confidence(generation), which)

    def calibrated(self, curve: str, confidence: float, which: ModelName) -> float:
        """The confidence by the curve fitted on validation words; as it is where there is none, as for the base."""
        calibration = self.model.calibration
        if which == "base" or calibration is None or curve not in calibration.curves:
            return confidence
        return calibrated_confidence(calibration.curves[curve], confidence)

    def _engine(self, which: ModelName) -> Engine:
        if which not in self.model.engines:
            raise UnknownModel(which)
        return self.model.engines[which]


def _score(engine: Engine, pairs: list[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
    return engine.score([prompt for prompt, _ in pairs], [candidates for _, candidates in pairs])
