"""The shape of ``final_report.json``.

Knows names and types; knows nothing about how a figure is computed or a judgement made.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from letterwise.config import AnswerMode
from letterwise.results import (
    SCHEMA_VERSION,
    Environment,
    Estimate,
    EvaluationResults,
    Interval,
    ModelRole,
    QuestionType,
    ResultsModel,
)

ROLES: dict[ModelRole, str] = {"base": "base", "control": "control", "finetuned": "tuned"}
"""What the report calls each model, in the order of its columns."""
PROJECT_NAME = "letterwise: does teaching a language model to spell improve its letter counts and positions?"


class SpellingExample(ResultsModel):
    """A held-out word that the tuned model spelled."""

    word: str
    n_tokens: int
    spelled: str
    """What the tuned model wrote."""
    spelled_by_base: str
    confidence: float
    """Of the tuned model, as it is, not calibrated."""


class SpellingErrors(ResultsModel):
    """How the tuned model's spellings of held-out words are wrong."""

    n: int
    wrong: int
    kinds: dict[str, int]
    """The wrong ones, each in one kind."""
    one_edit_away: int
    """Wrong by one letter added, dropped or replaced."""
    mistaken: list[SpellingExample]
    """The wrong ones with the highest confidence."""
    learned: list[SpellingExample]
    """Right, and wrong before tuning; those with the most letters."""
    examples: dict[str, list[SpellingExample]] = Field(default_factory=dict)
    """Kind of mistake → those of it with the highest confidence."""


class QuestionExample(ResultsModel):
    """One question and what base and tuned model answered."""

    question: str
    answer: str
    base: str | None
    finetuned: str | None
    confidence: float
    """Of the tuned model, as it is, not calibrated."""


class QuestionErrors(ResultsModel):
    """How answers to one type of question, in mode ``direct``, are right and wrong before and after tuning."""

    question_type: QuestionType
    n: int
    both_right: int
    only_base_right: int
    only_finetuned_right: int
    both_wrong: int
    kinds: dict[str, dict[str, int]]
    """Model role → kind of answer → questions, right answers included."""
    favourite_answer: str
    """What the tuned model answers most often."""
    favourite_answers: int
    """How often it does."""
    mistaken: list[QuestionExample]
    """The tuned model's wrong answers with the highest confidence."""
    lost: list[QuestionExample]
    """Right before tuning and wrong after it; those with the highest confidence."""
    examples: dict[str, list[QuestionExample]] = Field(default_factory=dict)
    """Kind of wrong answer → the tuned model's answers of it with the highest confidence."""
    written: str | None
    """What the tuned model most often writes, unasked to choose, where no answer can be read in it."""
    written_n: int
    """How often it writes that."""


class ErrorAnalysis(ResultsModel):
    """Where the tuned model is wrong, with real examples chosen by rule."""

    spelling: SpellingErrors
    questions: list[QuestionErrors]


class TransferLearningAnalysis(ResultsModel):
    """The brief's three figures, and the two that stand beside them; each may be null with its reason."""

    spelling_to_position_count_correlation: dict[str, Estimate]
    transfer_efficiency: dict[str, Estimate]
    generalization_capability: Estimate
    control_adjusted_gain: dict[str, Estimate]
    share_of_ceiling: dict[str, Estimate] = Field(default_factory=dict)
    item_phi: dict[str, Estimate]


class SuccessCriterion(ResultsModel):
    """A success criterion, whether it is met, and the test that says so."""

    name: str
    criterion: str
    met: bool
    test: str
    """What was compared, with its figures."""


class Recommendation(ResultsModel):
    """What to do next, and the figures that it follows from."""

    advice: str
    because: str


class Conclusion(ResultsModel):
    """What the run shows."""

    summary: str
    """The report's first paragraph."""
    success_criteria_met: dict[str, bool]
    success_criteria: list[SuccessCriterion]
    made_worse: list[str]
    """Everything measured that tuning made significantly worse."""
    limitations: list[str]
    recommendations: list[Recommendation]


class SeedFigure(ResultsModel):
    """One accuracy over the seeds of a training, or the gain in it over the control."""

    metric: str
    mode: AnswerMode | None
    """None for spelling."""
    model: ModelRole
    """The model; of a gain, the tuned one."""
    gain_over_control: bool
    mean: float
    interval: Interval | None
    """Wilson's 95% interval of the mean, with one seed's n; None for a gain."""
    values: dict[int, float]
    """By seed."""
    intervals: dict[int, Interval] = Field(default_factory=dict)
    """Of a gain, by seed: 95% paired bootstrap."""
    n: int
    """The smallest of a seed's."""


class FinalReport(ResultsModel):
    """``final_report.json``."""

    schema_version: str = SCHEMA_VERSION
    project_name: str = PROJECT_NAME
    run_name: str
    model_repository: str | None = None
    """Only after an upload that was verified."""
    dataset_repository: str | None = None
    configuration: dict[str, Any] = Field(default_factory=dict)
    environment: Environment
    evaluation_results: EvaluationResults
    """As in ``evaluation_results.json``."""
    over_seeds: list[SeedFigure] = Field(default_factory=list)
    """Where there are further seeds."""
    transfer_learning_analysis: TransferLearningAnalysis
    error_analysis: ErrorAnalysis
    conclusion: Conclusion
