"""What all routes that ask the model do alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fastapi import Request

from letterwise.api.services.answering import UnknownModel
from letterwise.api.services.batching import Overloaded
from letterwise.api.state import state_of
from letterwise.api.utils.errors import ServiceProblem
from letterwise.api.utils.overload import overloaded


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the services raise into problems that a caller understands."""
    try:
        yield
    except UnknownModel:
        raise ServiceProblem(
            400, "Invalid input", "model: the base model is not loaded here; set COMPARE_BASE to load it."
        ) from None
    except Overloaded:
        raise overloaded() from None


def check_batch(request: Request, items: Sequence[object]) -> None:
    """Refuse a batch request with too many items.

    Raises:
        ServiceProblem: 400.
    """
    most = state_of(request).settings.max_batch_size
    if len(items) > most:
        raise ServiceProblem(400, "Invalid input", f"items: at most {most} (MAX_BATCH_SIZE), got {len(items)}.")


def counted(request: Request, question_type: str, mode: str, model: str, correct: bool) -> None:
    """Score an answer against the truth, in the metrics."""
    state_of(request).metrics.count_answer(question_type, mode, model, correct)
