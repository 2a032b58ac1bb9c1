"""Typed models of every file in a run folder: evaluation writes them, all others read them.

Knows the names and shapes of results; knows nothing about how they are computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from letterwise.errors import LetterwiseError
from letterwise.files import read_json, read_json_lines, write_json

SCHEMA_VERSION = "1.0"

ModelRole = Literal["base", "finetuned", "control", "format_only", "random_label", "ceiling"]
MODEL_ROLES: tuple[ModelRole, ...] = ("base", "finetuned", "control")
"""The models that a run compares, and by default all that it has."""
OtherControl = Literal["format_only", "random_label", "ceiling"]
OTHER_CONTROLS: tuple[OtherControl, ...] = ("format_only", "random_label", "ceiling")
"""Further adapters trained for comparison, where a run asks for them."""
TrainedRole = Literal["finetuned", "control", "format_only", "random_label", "ceiling"]
Task = Literal["spelling", "position_count"]
TASKS: tuple[Task, ...] = ("spelling", "position_count")
QuestionType = Literal["letter_count", "letter_position"]
QUESTION_TYPES: tuple[QuestionType, ...] = ("letter_count", "letter_position")
PositionClass = Literal["first", "inner", "last"]
POSITION_CLASSES: tuple[PositionClass, ...] = ("first", "inner", "last")

Interval = tuple[float, float]

SPELLING_PREDICTION_COLUMNS: dict[str, str] = {
    "model": "string",  # a ModelRole
    "id": "string",
    "subset": "string",  # "held_out" or "training_tokens"
    "word": "string",  # as put into the prompt, without the leading space
    "word_length": "int64",
    "n_tokens": "int64",  # tokens of the word in the spelling prompt
    "generated_text": "string",
    "predicted_spelling": "string",  # lower-case letters read from generated_text, joined; "" when none
    "correct": "bool",
    "character_level_accuracy": "float64",
    "levenshtein_distance": "float64",
    "confidence": "float64",  # product of the probabilities of the letters written
}
"""Columns of ``spelling/predictions.parquet``: one row per word and model."""

POSITION_COUNT_PREDICTION_COLUMNS: dict[str, str] = {
    "model": "string",  # a ModelRole
    "mode": "string",  # an AnswerMode
    "id": "string",
    "question": "string",
    "question_type": "string",  # a QuestionType
    "word": "string",
    "letter": "string",  # null for letter_position
    "position": "Int64",  # 1-based; null for letter_count
    "position_class": "string",  # a PositionClass; null for letter_count
    "word_length": "int64",
    "n_tokens": "int64",
    "answer": "string",  # the truth: "0", "1", … or a lower-case letter
    "predicted": "string",  # by scoring the valid answers (primary)
    "correct": "bool",
    "confidence": "float64",  # probability of `predicted` over the valid answers
    "generated_text": "string",  # null in mode computed
    "generated_answer": "string",  # parsed; null when no answer could be read
    "generated_correct": "bool",
    "spelled": "string",  # the spelling used by spell_first and computed; null in mode direct
}
"""Columns of ``position_count/predictions.parquet``: one row per question, model and answer mode."""


class ResultsModel(BaseModel):
    """A results file: written as JSON, unknown keys refused on reading."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Environment(ResultsModel):
    """``environment.json``: what the run ran on and with."""

    created: str
    """UTC time, ISO 8601."""
    letterwise: str
    commit: str | None
    """Commit of the working tree; null outside a repository; ends in '-dirty' with uncommitted changes."""
    python: str
    platform: str
    packages: dict[str, str]
    cpu: str
    cores: int
    cpu_features: list[str]
    memory_gib: float
    gpu: str | None
    device: str
    dtype: str
    seeds: dict[str, int]
    base_model: str
    base_revision: str
    """Commit of a Hub model, or the checksum of the weights."""


class DataAudit(ResultsModel):
    """``data_audit.json``: proof that nothing leaks; a build with a non-zero overlap or violation fails."""

    seed: int
    n: dict[str, int]
    """Sizes: training_words, training_texts, validation_words, test_words, and questions per split and type."""
    overlaps: dict[str, int]
    """Number of shared words for each pair of sets that must be disjoint, e.g. 'train∩test'; all zero."""
    purity_violations: dict[str, int]
    """Training texts with a digit, number word, ordinal, count or position wording, or the frame of a question that is
    evaluated; all zero."""
    single_token_held_out_words: int
    """Held-out words that are one token in the context of the question; zero."""
    template_shares: dict[str, float]
    """Share of the training texts made by each template."""
    exercise_shares: dict[str, float] = Field(default_factory=dict)
    """Share of the training texts of each kind: 'spelling' for plain spelling, and the spelling exercises."""
    exercise_purity: dict[str, str] = Field(default_factory=dict)
    """Exercise → 'plain' or 'partial': whether a reader might call it more than spelling (docs/method.md)."""
    answer_distribution: dict[str, dict[str, int]]
    """'<split>.letter_count' over 0, 1, 2, 3+; '<split>.letter_position' over first, inner, last."""
    excluded_training_tokens: dict[str, int]
    """Vocabulary tokens left out of training, by reason (number_word, few_shot_example)."""
    checksums: dict[str, str]
    """SHA-256 of each data file."""
    length_sentences: bool
    """True only in the impure ablation."""
    passed: bool


class TrainingLogEntry(ResultsModel):
    """One line of ``training_log.jsonl``."""

    model: TrainedRole
    seed: int
    step: int
    tokens: int
    """Training tokens seen so far."""
    seconds: float
    """Training time so far, evaluation left out."""
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    grad_norm: float | None = None
    evaluation: dict[str, float] | None = None
    """Metrics of §4 on validation words, on evaluated steps."""
    evaluation_n: dict[str, int] | None = None
    evaluation_positions: dict[str, tuple[int, int]] | None = None
    """Position questions by class, 'first', 'inner' or 'last': how many were answered right, and n."""


class ModelResults(ResultsModel):
    """Metrics of one model; headline values are of mode `direct`, read by scoring."""

    id: str
    revision: str
    metrics: dict[str, float]
    intervals: dict[str, Interval] = Field(default_factory=dict)
    """95%: Wilson for proportions, percentile bootstrap for means."""
    n: dict[str, int] = Field(default_factory=dict)
    breakdowns: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)
    """metric → breakdown ('word_length', 'n_tokens', 'answer', 'position') → group → value."""
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Counts: true answer → predicted answer → questions."""


class Difference(ResultsModel):
    """A paired comparison of two models on the same items."""

    metric: str
    first: ModelRole
    second: ModelRole
    difference: float
    """second minus first."""
    interval: Interval
    """95% paired percentile bootstrap."""
    p_value: float | None
    """Exact McNemar for right/wrong items; null where the metric is not right/wrong."""
    n: int


class ModeResults(ResultsModel):
    """One answer mode of one model: metrics, intervals, n; names ending in '_generated' are the secondary reading."""

    metrics: dict[str, float]
    intervals: dict[str, Interval] = Field(default_factory=dict)
    n: dict[str, int] = Field(default_factory=dict)


class Baseline(ResultsModel):
    """What a guesser without the word's letters reaches on the same questions."""

    value: float
    interval: Interval
    n: int
    description: str


class CalibrationCurve(ResultsModel):
    """A monotone map from a model's confidence to the probability that its answer is right."""

    confidences: list[float]
    """Ascending; between two points the map is linear, outside it is flat."""
    probabilities: list[float]
    n: int
    """Answers it was fitted on."""


class Calibration(ResultsModel):
    """``calibration.json``, beside an adapter: fitted on the validation split."""

    schema_version: str = SCHEMA_VERSION
    adapter: str
    """Checksum of the adapter's weights."""
    curves: dict[str, CalibrationCurve]
    """Keys 'spelling' and '<question type>.<answer mode>'."""
    accuracy: dict[str, float]
    """On the validation split, same keys."""
    default_modes: dict[str, str]
    """Question type → the answer mode that was right most often."""


class CalibrationError(ResultsModel):
    """Expected calibration error on the evaluated split."""

    uncalibrated: float
    calibrated: float
    n: int


class EvaluationResults(ResultsModel):
    """``evaluation_results.json``."""

    schema_version: str = SCHEMA_VERSION
    split: Literal["validation", "test"]
    base_model: ModelResults
    finetuned_model: ModelResults | None = None
    control_model: ModelResults | None = None
    """Of the control on shuffled letters."""
    other_controls: dict[OtherControl, ModelResults] = Field(default_factory=dict)
    """Of the controls 'format_only' and 'random_label' and of the 'ceiling', where they were trained."""
    baselines: dict[str, Baseline] = Field(default_factory=dict)
    """'letter_count_majority_class', 'letter_count_letter_frequency', 'letter_position_majority_class',
    'letter_position_letter_frequency'."""
    significance: dict[str, list[Difference]] = Field(default_factory=dict)
    """'base_to_finetuned', 'base_to_control', 'control_to_finetuned', and so with the other controls, one entry per
    metric."""
    answer_modes: dict[str, dict[str, ModeResults]] = Field(default_factory=dict)
    """answer mode → model role → metrics."""
    calibration: dict[str, CalibrationError] = Field(default_factory=dict)
    """Of the tuned model, where its adapter has a `Calibration`; keys as there."""

    def model(self, role: ModelRole) -> ModelResults | None:
        """The results of the model in that role, if it was evaluated."""
        match role:
            case "base":
                return self.base_model
            case "finetuned":
                return self.finetuned_model
            case "control":
                return self.control_model
            case _:
                return self.other_controls.get(role)


class Estimate(ResultsModel):
    """A derived figure, or the reason why there is none."""

    value: float | None
    interval: Interval | None = None
    n: int | None = None
    reason: str | None = None
    """Why `value` is null."""


TRANSFER_FIGURES = ("correlation", "item_phi", "transfer_efficiency", "control_adjusted_gain", "share_of_ceiling")
"""The fields of `TransferResults` that hold several estimates, by what they are about, in the order of tables."""


class TransferResults(ResultsModel):
    """``transfer.json``: does spelling carry over? One estimate per question type where it applies."""

    schema_version: str = SCHEMA_VERSION
    correlation: dict[str, Estimate]
    """Spearman over training checkpoints, those of further seeds too, keys 'letter_count', 'letter_position',
    'position_count'."""
    item_phi: dict[str, Estimate]
    """Phi coefficient between 'word spelled correctly' and 'question answered correctly', same keys."""
    item_table: dict[str, list[list[int]]]
    """2×2 counts [[both wrong, answered only], [spelled only, both right]], same keys."""
    transfer_efficiency: dict[str, Estimate]
    control_adjusted_gain: dict[str, Estimate]
    """Keys 'spelling', 'letter_count', 'letter_position'."""
    share_of_ceiling: dict[str, Estimate] = Field(default_factory=dict)
    """Gain of the tuned model ÷ gain of the ceiling adapter, which was trained on the questions themselves; keys as in
    `transfer_efficiency`, empty where no ceiling was evaluated."""
    generalization: Estimate
    checkpoints: list[dict[str, Any]]
    """The points behind the correlation: model, seed, step and metrics."""


AnyResults = TypeVar("AnyResults", bound=ResultsModel)


def write_results(path: Path, results: ResultsModel) -> None:
    """Write a results file as JSON, atomically; NaN and infinity are refused."""
    write_json(path, results.model_dump(mode="json"))


def read_results(path: Path, kind: type[AnyResults]) -> AnyResults:
    """Read a results file.

    Raises:
        LetterwiseError: the file is missing or does not have the expected shape.
    """
    raw = read_json(path)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LetterwiseError(f"{path} is not a valid {kind.__name__}: {where}: {first['msg']}.") from error


def read_training_log(path: Path) -> list[TrainingLogEntry]:
    """Read ``training_log.jsonl``, without the torn last line that a killed run may leave.

    Raises:
        LetterwiseError: the file is missing, or a line is not a log entry.
    """
    return read_json_lines(path, TrainingLogEntry, "a training log entry")
