"""The canary: asks the served model about held-out words at a low rate, and keeps its live accuracy over a window.

So degradation shows without user traffic. Knows the truth, which is computable; knows nothing about HTTP or how the
model is asked.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from statistics import StatisticsError, correlation, fmean
from typing import Literal, Protocol

from transformers import PreTrainedTokenizerBase

from letterwise.api.services.batching import Overloaded
from letterwise.api.utils.figures import Figures
from letterwise.api.utils.observability import ServiceMetrics
from letterwise.config import ANSWER_MODES, AnswerMode
from letterwise.data.word_lists import contexts, few_shot_words
from letterwise.data_config import WordsConfig
from letterwise.errors import LetterwiseError
from letterwise.evaluation.metrics import character_level_accuracy, levenshtein_distance
from letterwise.tasks.questions import Question, make_questions
from letterwise.words.dictionary import dictionary_words, held_out_candidates
from letterwise.words.vocabulary import extract_letter_tokens

PROBE_TIMEOUT_SECONDS = 30.0
"""A probe that takes longer has failed."""

_JITTER = 0.1
_WORDS_PER_ITEM = 30
"""Dictionary words drawn for each item: many are single tokens, and few have a letter that occurs three times."""

_log = logging.getLogger(__name__)


class Asker(Protocol):
    """How the canary reaches the model; what it asks is not an answer to a user and is not counted as one."""

    async def spell(self, word: str) -> str:
        """The letters that the model wrote for the word, joined."""
        ...

    async def answer(self, question: Question) -> Mapping[AnswerMode, str | None]:
        """The model's answer in each mode that is watched; None when it gave none."""
        ...


@dataclass(frozen=True, slots=True)
class CanaryItem:
    """What is asked in one probe: the spelling of a word, and two questions about it."""

    word: str
    count: Question
    position: Question


@dataclass(frozen=True, slots=True)
class _Probe:
    """How the model did on one item."""

    spelled: bool
    counted: dict[AnswerMode, bool]
    placed: dict[AnswerMode, bool]
    character_level_accuracy: float
    levenshtein_distance: float


def canary_items(tokenizer: PreTrainedTokenizerBase, seed: int, count: int) -> list[CanaryItem]:
    """Draw words that this tokenizer splits, as held-out words are, and balanced questions about them.

    It reads the dictionary and the vocabulary, which takes seconds: run it in a thread.

    Args:
        tokenizer: the served model's; a fast one.
        seed: seed of the draw.
        count: number of items; fewer where the tokenizer splits too few words.

    Returns:
        Each word once. Answers are spread over 0, 1, 2 and 3+ and over first, inner and last letter, in turn.

    Raises:
        LetterwiseError: the tokenizer splits no word, or is not a fast one.
    """
    config = WordsConfig()
    words = dictionary_words(config.min_letters, config.max_letters, config.min_zipf)
    # Splitting all of them takes longer than everything else, and only a few are wanted.
    drawn = random.Random(seed).sample(words, min(len(words), count * _WORDS_PER_ITEM))
    held_out = held_out_candidates(drawn, extract_letter_tokens(tokenizer), tokenizer, contexts(), few_shot_words())
    if not held_out:
        raise LetterwiseError("The tokenizer splits no dictionary word, so the canary has nothing to ask.")
    counts = {
        question.word: question for question in make_questions(held_out, min(count, len(held_out)), 0, seed, "canary")
    }
    # As many questions as words: each word gets one.
    positions = {question.word: question for question in make_questions(list(counts), 0, len(counts), seed, "canary")}
    return [CanaryItem(word, counts[word], positions[word]) for word in counts]


class Canary:
    """Asks one model about one item after another, round and round, and sets the gauges of source 'canary'."""

    def __init__(
        self,
        asker: Asker,
        items: Sequence[CanaryItem],
        metrics: ServiceMetrics,
        interval_seconds: float,
        window: int,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Prepare; nothing is asked before `run`.

        Args:
            asker: reaches the model.
            items: what to ask; with fewer than `window`, words come up more than once in the window.
            metrics: where the figures go.
            interval_seconds: pause between two probes.
            window: last probes that the figures are taken over.
            sleep: waits some seconds.
        """
        self._asker = asker
        self._items = cycle(items)
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._window: deque[_Probe] = deque(maxlen=window)
        self._sleep = sleep

    async def run(self) -> None:
        """Probe until cancelled.

        The pause begins when a probe ends, so a slow model is asked less often and probes never pile up. It varies a
        little, lest several replicas probe in step.
        """
        while True:
            await self.probe()
            await self._sleep(self._interval_seconds * random.uniform(1 - _JITTER, 1 + _JITTER))

    async def probe(self) -> None:
        """Ask one item. Whatever the asker raises is counted and logged, and the figures stay as they are."""
        item = next(self._items)
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                spelling = await self._asker.spell(item.word)
                count = await self._asker.answer(item.count)
                position = await self._asker.answer(item.position)
        except Overloaded:
            self._metrics.canary_failures.inc()
            _log.warning("A canary probe was refused, because too much is waiting.")
            return
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            # The asker may be cancelled by itself, as when the model is replaced; that must not end the canary.
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise
            self._metrics.canary_failures.inc()
            _log.warning("A canary probe failed.", exc_info=True)
            return
        probe = _Probe(
            spelled=spelling == item.word,
            counted={mode: answer == item.count.answer for mode, answer in count.items()},
            placed={mode: answer == item.position.answer for mode, answer in position.items()},
            character_level_accuracy=character_level_accuracy(spelling, item.word),
            levenshtein_distance=levenshtein_distance(spelling, item.word),
        )
        self._window.append(probe)
        self._metrics.canary_probes_since_load.inc()
        self._metrics.count_probe("spelling", "direct", probe.spelled)
        for question_type, answers in (("letter_count", probe.counted), ("letter_position", probe.placed)):
            for mode, correct in answers.items():
                self._metrics.count_probe(question_type, mode, correct)
        self._metrics.canary_last_probe_timestamp.set_to_current_time()
        self._metrics.observe_figures("canary", self._figures())
        live = self._metrics.report().live
        _log.info("Canary probe of %d.", len(self._window), extra={"transfer_metrics": live.model_dump()})

    def _figures(self) -> Figures:
        probes = self._window
        counted = {mode: _asked(probes, "counted", mode) for mode in ANSWER_MODES}
        placed = {mode: _asked(probes, "placed", mode) for mode in ANSWER_MODES}
        return Figures(
            spelling_accuracy=fmean(probe.spelled for probe in probes),
            character_level_accuracy=fmean(probe.character_level_accuracy for probe in probes),
            levenshtein_distance=fmean(probe.levenshtein_distance for probe in probes),
            letter_count_accuracy=_accuracies(counted),
            letter_position_accuracy=_accuracies(placed),
            correlation={mode: _phis(counted[mode], placed[mode]) for mode in ANSWER_MODES},
        )


_Pairs = list[tuple[bool, bool]]
"""Of each probe: was the word spelled right, and the question about it answered right?"""


def _asked(probes: Iterable[_Probe], answers: Literal["counted", "placed"], mode: AnswerMode) -> _Pairs:
    """The probes that asked in this mode: the default mode may change with the model."""
    return [(probe.spelled, getattr(probe, answers)[mode]) for probe in probes if mode in getattr(probe, answers)]


def _accuracies(asked: Mapping[AnswerMode, _Pairs]) -> dict[AnswerMode, float]:
    return {mode: fmean(answered for _, answered in pairs) for mode, pairs in asked.items() if pairs}


def _phis(counted: _Pairs, placed: _Pairs) -> dict[str, float]:
    """Phi coefficient of each question type, and of both together where both were asked in the mode."""
    kinds = {"letter_count": counted, "letter_position": placed}
    if counted and placed:
        kinds["position_count"] = counted + placed
    phis = {question_type: _phi(pairs) for question_type, pairs in kinds.items()}
    return {question_type: phi for question_type, phi in phis.items() if phi is not None}


def _phi(pairs: _Pairs) -> float | None:
    """Phi coefficient, which is Pearson's correlation of two binary variables; None where one of them is constant."""
    try:
        return correlation([spelled for spelled, _ in pairs], [answered for _, answered in pairs])
    except StatisticsError:
        return None
