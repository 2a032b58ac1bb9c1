"""Sections of an experiment's configuration that say which words and texts there are.

Knows what can be set and what is allowed; knows nothing about how a setting is used.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ExerciseName = Literal[
    "spelling",
    "continuation",
    "from_letter",
    "stretch",
    "backwards",
    "cloze",
    "chunks",
    "growing",
    "side_by_side",
    "proofread",
    "strings",
    "neighbours",
    "shared",
    "sorted",
    "grouped",
    "without",
    "picked",
    "hangman",
]
"""Plain spelling, and the exercises of `letterwise.tasks.spelling_exercises`."""


Tone = Literal["plain", "narrative", "formal", "emphatic", "structured"]
SeparatorName = Literal["space", "comma", "hyphen", "dash", "dots", "arrow", "none"]
LetterCase = Literal["lower", "upper"]
Chosen = TypeVar("Chosen")


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values are checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class WordsConfig(Section):
    """Which held-out words to take from the dictionary, and how many."""

    validation_words: int = Field(1000, ge=1)
    """Held-out words on which everything is chosen."""
    test_words: int = Field(1000, ge=1)
    """Held-out words for the final figures; looked at once."""
    min_letters: int = Field(4, ge=2)
    """Shortest held-out word, in letters."""
    max_letters: int = Field(14, ge=2)
    """Longest held-out word, in letters."""
    min_zipf: float = Field(2.0, ge=0, le=8)
    """Lowest Zipf frequency (wordfreq; base-10 logarithm of occurrences per billion words) of a held-out word."""
    extra_training_words: int = Field(0, ge=0)
    """Dictionary words to train on beside the vocabulary: chosen as held-out words are; none is one of them, contains
    one or stands in one."""

    @model_validator(mode="after")
    def _lengths_in_order(self) -> WordsConfig:
        if self.max_letters < self.min_letters:
            raise ValueError("max_letters must not be smaller than min_letters")
        return self


class DataConfig(Section):
    """How much training text and how many questions to build."""

    train_examples: int = Field(30_000, ge=1)
    """Training texts to build, one word in each."""
    exercises: dict[ExerciseName, Annotated[float, Field(gt=0)]] = Field({"spelling": 1.0}, min_length=1)
    """Kind of training text → its weight in the mix: plain spelling, and spelling exercises (docs/method.md)."""
    tones: dict[Tone, Annotated[float, Field(gt=0)]] | None = Field(None, min_length=1)
    """Tone of a template → its weight among the plain spellings; null: each template is used equally often, whatever
    its tone."""
    separators: list[SeparatorName] | None = Field(None, min_length=1)
    """Only templates of plain spelling with one of these between the letters; null: all."""
    letter_cases: list[LetterCase] | None = Field(None, min_length=1)
    """Only templates of plain spelling that write the letters so; null: all."""
    spelling_first_share: float | None = Field(None, ge=0, le=1)
    """Share of the plain spellings that give the spelling and ask for the word; null: that of their templates."""
    use_exponent: float = Field(0.5, ge=0, le=1)
    """How far training favours tokens that other dictionary words are made of: a token's share of the texts is
    proportional to (uses + 0.2) to this power, where uses counts dictionary words outside validation and test; 0 deals
    all tokens evenly."""
    split_form_share: float = Field(0.5, ge=0, le=1)
    """Share of the texts whose word stands in a surface form (leading space, capital) that is not a single token."""
    extra_word_share: float = Field(0.25, ge=0, le=1)
    """Share of the texts that is about words.extra_training_words, where there are any; split_form_share is of the
    others."""
    count_questions: int = Field(1000, ge=1)
    """Letter-count questions for each of validation and test."""
    position_questions: int = Field(1000, ge=1)
    """Letter-position questions for each of validation and test."""
    length_sentences: bool = False
    """Ablation, impure: templates that mention how many letters a word has ('five letters')."""

    @field_validator("separators", "letter_cases")
    @classmethod
    def _each_once(cls, chosen: list[Chosen] | None) -> list[Chosen] | None:
        if chosen is not None and len(set(chosen)) < len(chosen):
            raise ValueError("each is listed once")
        return chosen

    @model_validator(mode="after")
    def _templates_are_of_plain_spelling(self) -> DataConfig:
        settings = ("tones", "separators", "letter_cases", "spelling_first_share")
        chosen = [name for name in settings if getattr(self, name) is not None]
        if chosen and "spelling" not in self.exercises:
            why = "is about plain spelling; give that a weight in exercises, or leave it out"
            raise ValueError(f"{chosen[0]} {why}")
        return self
