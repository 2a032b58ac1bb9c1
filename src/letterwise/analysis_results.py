"""Typed models of the files that look beyond the evaluation: ``item_analysis.json`` and ``retention.json``.

Knows the names and shapes of results; knows nothing about how they are computed.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from letterwise.config import AnswerMode
from letterwise.results import SCHEMA_VERSION, Estimate, Interval, ModelRole, QuestionType, ResultsModel, TrainedRole

ITEM_ANALYSIS_FILE = "item_analysis.json"
RETENTION_FILE = "retention.json"

ItemProperty = Literal["word_length", "n_tokens", "zipf", "position_class", "token_place", "true_count"]
ITEM_PROPERTIES: tuple[ItemProperty, ...] = get_args(ItemProperty)
TOKEN_PLACES = ("first", "inner", "last", "only")
"""Where a letter stands within its token; 'only' where the token has no other letter of the word."""
SPELLED = "spelled"
"""Key of the odds ratio that the regression is about."""


class OddsRatio(ResultsModel):
    """By what factor the odds of a right answer change, or the reason why nobody can tell."""

    value: float | None
    interval: Interval | None = None
    """95%, by a covariance that allows for several questions about one word."""
    p_value: float | None = None
    n: int
    """Questions that the estimate rests on."""
    compared_with: str | None = None
    """The group that a group is compared with; null where it is by one unit more."""
    reason: str | None = None
    """Why `value` is null."""


class ItemResults(ResultsModel):
    """One model's answers to one type of question in one mode, by properties of the items."""

    model: ModelRole
    question_type: QuestionType
    mode: AnswerMode
    accuracy: Estimate
    """With its Wilson interval, as all accuracies here."""
    accuracy_by: dict[ItemProperty, dict[str, Estimate]]
    """Property → group → accuracy; 'position_class' and 'token_place' for letter positions only, 'true_count' for
    letter counts only."""
    odds_ratios: dict[str, OddsRatio]
    """Of a logistic regression of right answers on 'spelled' (this model spelled the word right) and the properties:
    'spelled', the properties that are numbers, and '<property>.<group>'. 'spelled' alone where nothing was fitted."""


class ItemAnalysis(ResultsModel):
    """``item_analysis.json``: which items are answered right, and whether those are whose words the model can spell."""

    schema_version: str = SCHEMA_VERSION
    items: list[ItemResults] = Field(default_factory=list)

    def find(self, model: ModelRole, question_type: QuestionType, mode: AnswerMode) -> ItemResults | None:
        """One model's results on one type of question in one mode."""
        key = (model, question_type, mode)
        return next((each for each in self.items if (each.model, each.question_type, each.mode) == key), None)


class PlainText(ResultsModel):
    """The English text on which retention is measured."""

    source: str
    sha256: str
    """Of the whole text; passages of another text or tokenizer are not comparable."""
    passages: int
    """Of equal length; intervals resample them."""
    tokens: int
    """Tokens that were predicted: all of each passage but the first."""


class Retained(ResultsModel):
    """What an adapter changed of its base model's predictions, token by token on the same text."""

    perplexity_ratio: Estimate
    """Perplexity with the adapter ÷ without; above 1, the text has become harder to predict."""
    unchanged_choices: Estimate
    """Share of tokens where greedy decoding chooses what it chose before, given the text up to there."""
    kl_divergence: Estimate
    """Mean Kullback-Leibler divergence of the next-token distribution from the base model's, in nats."""


class Retention(ResultsModel):
    """``retention.json``: what training on spelling left of the base model's English.

    Every interval is a 95% bootstrap interval that resamples passages, the same ones for both models; n counts tokens.
    """

    schema_version: str = SCHEMA_VERSION
    text: PlainText
    revisions: dict[ModelRole, str]
    """Which models were measured, as in ``evaluation_results.json``."""
    dtype: str
    """Number type in which they ran."""
    perplexity: dict[ModelRole, Estimate]
    """By token, of each model."""
    against_base: dict[TrainedRole, Retained]
