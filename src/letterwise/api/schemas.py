"""Bodies of requests and responses.

Knows what may be asked and what an answer looks like; knows nothing about models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from letterwise.api.inputs import Letter, Position, Text, Word
from letterwise.config import AnswerMode

Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, description="Time from the request's arrival to its answer, in seconds.")]
ModelName = Literal["finetuned", "base"]


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [fields]})


class Request(BaseModel):
    """What every question may say."""

    model_config = ConfigDict(extra="forbid")

    verify: bool = Field(False, strict=True, description="Add the true answer and whether the model's is right.")
    model: ModelName = Field("finetuned", description="`base` where COMPARE_BASE is set.")


class SpellingRequest(Request):
    """A word to spell."""

    model_config = _example(text="How do you spell 'algorithm'?")

    text: Text


class SpellCheckRequest(BaseModel):
    """A word that may be misspelled."""

    model_config = _example(word="algoritm")

    word: Word


class PositionCountRequest(Request):
    """A question about a word's letters."""

    word: Word
    mode: AnswerMode | None = Field(
        None, description="How the model is asked; by default as it answered best on validation words."
    )


class LetterCountRequest(PositionCountRequest):
    """How often does the letter occur in the word?"""

    model_config = _example(word="strawberry", letter="r")

    letter: Letter


class LetterPositionRequest(PositionCountRequest):
    """Which letter is at the position?"""

    model_config = _example(word="strawberry", position=3)

    position: Position

    @model_validator(mode="after")
    def _in_word(self) -> Self:
        if self.position > len(self.word):
            raise ValueError(f"position must not be larger than the word's {len(self.word)} letters")
        return self


class SpelledLetter(BaseModel):
    """A letter that the model wrote."""

    letter: str
    confidence: Probability = Field(description="The model's probability of this letter here.")


class Answer(BaseModel):
    """What every answer says."""

    confidence: Probability = Field(description="Calibrated probability that the answer is right.")
    processing_time: Seconds


class SpellingAnswer(Answer):
    """The model's spelling of a word."""

    input: str
    output: str = Field(description="A sentence with the letters that the model wrote.")
    word: str
    tokens: list[str] = Field(description="The word as the model reads it.")
    letters: list[SpelledLetter]
    model: ModelName
    expected: str | None = Field(None, description="The true spelling, where `verify` asked for it.")
    correct: bool | None = None


class SpellCheckAnswer(Answer):
    """Whether a word is spelled correctly."""

    word: str
    is_correct: bool
    suggestion: str | None = Field(description="The word that was probably meant; null when correct or none is near.")


class LetterCountAnswer(Answer):
    """The model's count."""

    word: str
    letter: str
    count: int
    mode: AnswerMode
    model: ModelName
    spelling: str | None = Field(None, description="The model's own spelling, where the mode uses it.")
    expected: int | None = Field(None, description="The true count, where `verify` asked for it.")
    correct: bool | None = None


class LetterPositionAnswer(Answer):
    """The model's letter."""

    word: str
    position: int
    letter: str | None = Field(description="null where the model's own spelling has no such position.")
    mode: AnswerMode
    model: ModelName
    spelling: str | None = Field(None, description="The model's own spelling, where the mode uses it.")
    expected: str | None = Field(None, description="The true letter, where `verify` asked for it.")
    correct: bool | None = None


class SpellingBatch(BaseModel):
    """Several words to spell."""

    model_config = _example(items=[{"text": "algorithm"}, {"text": "How do you spell 'rhythm'?"}])
    items: list[SpellingRequest] = Field(min_length=1)


class SpellCheckBatch(BaseModel):
    """Several words to check."""

    model_config = _example(items=[{"word": "algoritm"}, {"word": "rhythm"}])
    items: list[SpellCheckRequest] = Field(min_length=1)


class LetterCountBatch(BaseModel):
    """Several letter-count questions."""

    model_config = _example(items=[{"word": "strawberry", "letter": "r"}, {"word": "banana", "letter": "a"}])
    items: list[LetterCountRequest] = Field(min_length=1)


class LetterPositionBatch(BaseModel):
    """Several letter-position questions."""

    model_config = _example(items=[{"word": "strawberry", "position": 3}, {"word": "banana", "position": 1}])
    items: list[LetterPositionRequest] = Field(min_length=1)


class SpellingAnswers(BaseModel):
    """Answers in the order of the items."""

    results: list[SpellingAnswer]
    processing_time: Seconds


class SpellCheckAnswers(BaseModel):
    """Answers in the order of the items."""

    results: list[SpellCheckAnswer]
    processing_time: Seconds


class LetterCountAnswers(BaseModel):
    """Answers in the order of the items."""

    results: list[LetterCountAnswer]
    processing_time: Seconds


class LetterPositionAnswers(BaseModel):
    """Answers in the order of the items."""

    results: list[LetterPositionAnswer]
    processing_time: Seconds


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """The model answers."""

    status: Literal["ready"] = "ready"
    model: str = Field(description="Base model and adapter.")
    revision: str
    engine: str
    models: list[ModelName] = Field(description="What requests may name as `model`.")
    tasks: list[str]
    max_batch_size: int = Field(description="Most items in one batch request.")
    default_modes: dict[str, AnswerMode] = Field(description="Question type → the mode used when none is named.")


class SpellingMetrics(BaseModel):
    """Accuracy of spelling; null where not measured."""

    accuracy: float | None
    character_level_accuracy: float | None
    levenshtein_distance: float | None


class PositionCountMetrics(BaseModel):
    """Accuracy on questions in mode `direct`; null where not measured."""

    letter_count_accuracy: float | None
    letter_position_accuracy: float | None


class TransferMetrics(BaseModel):
    """Transfer from spelling to questions in mode `direct`; null where there is no figure."""

    correlation: float | None
    transfer_efficiency: float | None


class MetricsReport(BaseModel):
    """Performance of the model, as JSON."""

    spelling: SpellingMetrics
    position_count: PositionCountMetrics
    transfer_learning: TransferMetrics


class Metrics(MetricsReport):
    """As its evaluation measured it, and live, over the canary's window."""

    live: MetricsReport


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="What kind of problem it is.")
    details: str = Field(description="What is wrong and, where there is one, the remedy.")
    request_id: str = Field(description="To find the request in the logs; also in the header X-Request-ID.")
