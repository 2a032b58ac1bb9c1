"""The life of the model behind a service: loading, warming up, replacing it, and the canary that watches it.

Knows the services; knows nothing about HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from letterwise import __version__, hardware
from letterwise.api.services.answering import AnsweringService
from letterwise.api.services.canary import Canary, canary_items
from letterwise.api.services.loading import ServedModel
from letterwise.api.services.spell_checking import SpellChecker
from letterwise.api.settings import ServiceSettings
from letterwise.api.state import ServiceState
from letterwise.api.utils.figures import REPORTED_MODE
from letterwise.config import AnswerMode
from letterwise.errors import LetterwiseError
from letterwise.tasks.questions import Question, count_question, position_question
from letterwise.tasks.spelling import parse_spelling

LoadModel = Callable[[ServiceSettings], ServedModel]
"""Finds and loads the model; may take long, and raises `LetterwiseError` where there is none."""

CANARY_WORDS = 200
_WARM_UP_WORD = "letter"

_log = logging.getLogger(__name__)


@asynccontextmanager
async def living(state: ServiceState, load: LoadModel) -> AsyncIterator[None]:
    """Keep a model in `state` while the context is open; it is loaded in the background.

    SIGHUP loads it anew; one that comes while a model is being loaded has it loaded once more afterwards. A first model
    that cannot be loaded ends the process by SIGTERM, with the reason in `state.startup_error`.
    """
    async with AsyncExitStack() as stack:
        state.batcher.start()
        stack.push_async_callback(state.batcher.stop)
        asked = asyncio.Event()
        stack.push_async_callback(_cancel, asyncio.create_task(_begin(state, load, asked)))
        loop = asyncio.get_running_loop()
        # Not on Windows, nor outside the main thread.
        with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            loop.add_signal_handler(signal.SIGHUP, asked.set)
            stack.callback(loop.remove_signal_handler, signal.SIGHUP)
        try:
            yield
        finally:
            state.draining = True


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _begin(state: ServiceState, load: LoadModel, asked: asyncio.Event) -> None:
    watch = _Watch(state)
    try:
        await _swap(state, load, watch)
    except Exception as error:
        known = isinstance(error, LetterwiseError)
        state.startup_error = str(error) if known else f"The model cannot be loaded: {error}"
        _log.critical(state.startup_error, exc_info=not known)
        signal.raise_signal(signal.SIGTERM)
    else:
        await _reload_when_asked(state, load, asked, watch)
    finally:
        await watch.end()


async def _reload_when_asked(state: ServiceState, load: LoadModel, asked: asyncio.Event, watch: _Watch) -> None:
    """Replace the model, once at a time: compiling one is not safe in several threads."""
    while True:
        await asked.wait()
        asked.clear()
        await _reload(state, load, watch)


async def _reload(state: ServiceState, load: LoadModel, watch: _Watch) -> None:
    """Replace the model. Requests in flight end with the one they began with; a failure keeps the old one."""
    try:
        await _swap(state, load, watch)
    except Exception as error:
        _log.error("The model was not replaced: %s", error, exc_info=not isinstance(error, LetterwiseError))


async def _swap(state: ServiceState, load: LoadModel, watch: _Watch) -> None:
    started = time.perf_counter()
    with hardware.large_blocks_apart():
        model = await asyncio.to_thread(load, state.settings)
    answering = AnsweringService(model, state.batcher, patient=True)  # a reload must succeed in an overload too
    for which in model.engines:
        await answering.spell([_WARM_UP_WORD], which)
        questions = [count_question(_WARM_UP_WORD, "t"), position_question(_WARM_UP_WORD, 1)]
        await answering.answer(questions, "direct", which)
        await answering.answer(questions, "spell_first", which)
    if state.checker is None and "spelling" in state.settings.tasks:
        checker = await asyncio.to_thread(SpellChecker)
        await answering.check(checker, ["leter"])
        state.checker = checker
    await watch.end()
    state.metrics.observe_evaluation(model.results, model.transfer)
    state.metrics.observe_model(model.name, model.revision, model.engine_name, __version__)
    answering.patient = False
    state.answering = answering
    watch.begin()
    await asyncio.to_thread(hardware.give_memory_back)  # what loading took, and the model that was replaced
    _log.info("Ready with %s after %.1f s.", model.name, time.perf_counter() - started)


class _Watch:
    """The canary of the model that is served. Each model has one of its own.

    What another model answered says nothing about this one, and other words may be whole tokens to its tokenizer.
    """

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch the model that is served now, and forget all figures of the one before it."""
        self.state.metrics.forget_canary()
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Ask nothing more; a probe that is under way does not count."""
        if self._task:
            await _cancel(self._task)

    async def _run(self) -> None:
        state, settings = self.state, self.state.settings
        if not settings.canary_interval_seconds or state.answering is None:
            return
        try:
            items = await asyncio.to_thread(canary_items, state.answering.model.tokenizer, 0, CANARY_WORDS)
        except Exception as error:
            _log.error("There is no canary: %s", error, exc_info=not isinstance(error, LetterwiseError))
            return
        await Canary(
            _ModelAsker(state), items, state.metrics, settings.canary_interval_seconds, settings.canary_window
        ).run()


class _ModelAsker:
    """The canary's way to whichever model is being served."""

    def __init__(self, state: ServiceState) -> None:
        self.state = state

    async def spell(self, word: str) -> str:
        self._answering.forget(word)  # what the model wrote earlier says nothing about how it does now
        return parse_spelling((await self._answering.spell([word]))[0].text)

    async def answer(self, question: Question) -> dict[AnswerMode, str | None]:
        answering = self._answering  # one and the same, should it be replaced meanwhile
        modes = dict.fromkeys((answering.default_modes[question.question_type], REPORTED_MODE))
        return {mode: (await answering.answer([question], mode))[0].predicted for mode in modes}

    @property
    def _answering(self) -> AnsweringService:
        assert self.state.answering is not None
        return self.state.answering
