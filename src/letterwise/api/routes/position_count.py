"""How often is a letter in a word, and which letter is where?

The model answers; the truth is computed only to score it, and shown when the request asks to verify.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from letterwise.api.routes.sharing import check_batch, counted, explained
from letterwise.api.schemas import (
    LetterCountAnswer,
    LetterCountAnswers,
    LetterCountBatch,
    LetterCountRequest,
    LetterPositionAnswer,
    LetterPositionAnswers,
    LetterPositionBatch,
    LetterPositionRequest,
)
from letterwise.api.services.answering import AnsweringService
from letterwise.api.state import answering_of
from letterwise.config import AnswerMode
from letterwise.evaluation.answering import Answer
from letterwise.results import QuestionType
from letterwise.tasks.questions import Question, count_question, position_question

router = APIRouter(prefix="/api/position_count", tags=["position_count"])
Answering = Annotated[AnsweringService, Depends(answering_of)]
Asked = LetterCountRequest | LetterPositionRequest


@router.post("/letter_count")
async def letter_count(body: LetterCountRequest, request: Request, answering: Answering) -> LetterCountAnswer:
    """Count how often a letter occurs in a word."""
    return (await _count([body], request, answering))[0]


@router.post("/letter_count/batch")
async def letter_count_batch(body: LetterCountBatch, request: Request, answering: Answering) -> LetterCountAnswers:
    """Answer several letter-count questions at once, at most MAX_BATCH_SIZE."""
    check_batch(request, body.items)
    results = await _count(body.items, request, answering)
    return LetterCountAnswers(results=results, processing_time=results[0].processing_time)


@router.post("/letter_position")
async def letter_position(body: LetterPositionRequest, request: Request, answering: Answering) -> LetterPositionAnswer:
    """Name the letter at a position of a word; 1 is the first."""
    return (await _position([body], request, answering))[0]


@router.post("/letter_position/batch")
async def letter_position_batch(
    body: LetterPositionBatch, request: Request, answering: Answering
) -> LetterPositionAnswers:
    """Answer several letter-position questions at once, at most MAX_BATCH_SIZE."""
    check_batch(request, body.items)
    results = await _position(body.items, request, answering)
    return LetterPositionAnswers(results=results, processing_time=results[0].processing_time)


async def _count(
    items: Sequence[LetterCountRequest], request: Request, answering: AnsweringService
) -> list[LetterCountAnswer]:
    started = time.perf_counter()
    questions = [count_question(item.word, item.letter) for item in items]
    answers, modes = await _ask(items, questions, "letter_count", request, answering)
    elapsed = time.perf_counter() - started
    return [
        LetterCountAnswer(
            word=item.word,
            letter=item.letter,
            count=int(answer.predicted or 0),
            confidence=answer.confidence,
            mode=mode,
            model=item.model,
            spelling=answer.spelled,
            processing_time=elapsed,
            expected=int(question.answer) if item.verify else None,
            correct=answer.predicted == question.answer if item.verify else None,
        )
        for item, question, answer, mode in zip(items, questions, answers, modes, strict=True)
    ]


async def _position(
    items: Sequence[LetterPositionRequest], request: Request, answering: AnsweringService
) -> list[LetterPositionAnswer]:
    started = time.perf_counter()
    questions = [position_question(item.word, item.position) for item in items]
    answers, modes = await _ask(items, questions, "letter_position", request, answering)
    elapsed = time.perf_counter() - started
    return [
        LetterPositionAnswer(
            word=item.word,
            position=item.position,
            letter=answer.predicted,
            confidence=answer.confidence,
            mode=mode,
            model=item.model,
            spelling=answer.spelled,
            processing_time=elapsed,
            expected=question.answer if item.verify else None,
            correct=answer.predicted == question.answer if item.verify else None,
        )
        for item, question, answer, mode in zip(items, questions, answers, modes, strict=True)
    ]


async def _ask(
    items: Sequence[Asked],
    questions: Sequence[Question],
    question_type: QuestionType,
    request: Request,
    answering: AnsweringService,
) -> tuple[list[Answer], list[AnswerMode]]:
    """The answers, and the mode of each; items that agree on mode and model are asked together."""
    modes = [item.mode or answering.default_modes[question_type] for item in items]
    groups: dict[tuple[AnswerMode, str], list[int]] = {}
    for place, (item, mode) in enumerate(zip(items, modes, strict=True)):
        groups.setdefault((mode, item.model), []).append(place)
    answers: dict[int, Answer] = {}
    for (mode, _), places in groups.items():
        which = items[places[0]].model
        with explained():
            found = await answering.answer([questions[place] for place in places], mode, which)
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
            counted(request, question_type, mode, which, answer.predicted == questions[place].answer)
    return [answers[place] for place in range(len(items))], modes
