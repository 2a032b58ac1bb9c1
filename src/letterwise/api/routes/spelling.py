"""How is a word spelled, and is it spelled correctly?

The model spells; the truth is looked at only to score it, and shown when the request asks to verify. The spell check
does without the model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from letterwise.api.inputs import word_in_question
from letterwise.api.routes.sharing import check_batch, counted, explained
from letterwise.api.schemas import (
    SpellCheckAnswer,
    SpellCheckAnswers,
    SpellCheckBatch,
    SpellCheckRequest,
    SpelledLetter,
    SpellingAnswer,
    SpellingAnswers,
    SpellingBatch,
    SpellingRequest,
)
from letterwise.api.services.answering import AnsweringService
from letterwise.api.services.spell_checking import SpellChecker
from letterwise.api.state import answering_of, checker_of
from letterwise.engines.engine import Generation
from letterwise.evaluation.answering import spelled_letters

router = APIRouter(prefix="/api/spelling", tags=["spelling"])
WITHOUT_MODEL = frozenset({"/api/spelling/check", "/api/spelling/check/batch"})
"""Routes that a full queue need not keep from answering."""
Answering = Annotated[AnsweringService, Depends(answering_of)]
Checker = Annotated[SpellChecker, Depends(checker_of)]


@router.post("/predict")
async def predict(body: SpellingRequest, request: Request, answering: Answering) -> SpellingAnswer:
    """Spell a word: the text is the word, or a question about one."""
    return (await _spell([body], request, answering))[0]


@router.post("/predict/batch")
async def predict_batch(body: SpellingBatch, request: Request, answering: Answering) -> SpellingAnswers:
    """Spell several words at once, at most MAX_BATCH_SIZE."""
    check_batch(request, body.items)
    results = await _spell(body.items, request, answering)
    return SpellingAnswers(results=results, processing_time=results[0].processing_time)


@router.post("/check")
async def check(body: SpellCheckRequest, request: Request, answering: Answering, checker: Checker) -> SpellCheckAnswer:
    """Say whether a word is spelled correctly, and which one was probably meant; word lists answer, not the model."""
    return (await _check([body], answering, checker))[0]


@router.post("/check/batch")
async def check_batch_of_words(
    body: SpellCheckBatch, request: Request, answering: Answering, checker: Checker
) -> SpellCheckAnswers:
    """Check several words at once, at most MAX_BATCH_SIZE."""
    check_batch(request, body.items)
    results = await _check(body.items, answering, checker)
    return SpellCheckAnswers(results=results, processing_time=results[0].processing_time)


async def _spell(
    items: Sequence[SpellingRequest], request: Request, answering: AnsweringService
) -> list[SpellingAnswer]:
    started = time.perf_counter()
    words = [word_in_question(item.text) for item in items]
    spellings: dict[int, Generation] = {}
    for which in dict.fromkeys(item.model for item in items):
        places = [place for place, item in enumerate(items) if item.model == which]
        with explained():
            found = await answering.spell([words[place] for place in places], which)
        spellings.update(zip(places, found, strict=True))
    elapsed = time.perf_counter() - started
    answers = []
    for place, (item, word) in enumerate(zip(items, words, strict=True)):
        letters = spelled_letters(spellings[place])
        spelled = "".join(letter for letter, _ in letters)
        counted(request, "spelling", "direct", item.model, spelled == word)
        answers.append(
            SpellingAnswer(
                input=item.text,
                output=f"The word '{word}' is spelled {'-'.join(spelled.upper())}." if spelled else "",
                word=word,
                tokens=answering.tokens(word),
                letters=[
                    SpelledLetter(letter=letter, confidence=min(1.0, probabilities.get(letter, 0.0)))
                    for letter, probabilities in letters
                ],
                model=item.model,
                confidence=answering.spelling_confidence(spellings[place], item.model),
                processing_time=elapsed,
                expected=word if item.verify else None,
                correct=spelled == word if item.verify else None,
            )
        )
    return answers


async def _check(
    items: Sequence[SpellCheckRequest], answering: AnsweringService, checker: SpellChecker
) -> list[SpellCheckAnswer]:
    started = time.perf_counter()
    with explained():
        checks = await answering.check(checker, [item.word for item in items])
    elapsed = time.perf_counter() - started
    return [
        SpellCheckAnswer(
            word=item.word,
            is_correct=verdict.is_correct,
            suggestion=verdict.suggestion,
            confidence=verdict.confidence,
            processing_time=elapsed,
        )
        for item, verdict in zip(items, checks, strict=True)
    ]
