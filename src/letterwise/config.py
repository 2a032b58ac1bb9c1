"""One typed configuration for a whole experiment, loaded from one YAML file.

Knows what can be set and what is allowed; knows nothing about how a setting is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from letterwise.data_config import DataConfig, Section, WordsConfig
from letterwise.errors import LetterwiseError

AnswerMode = Literal["direct", "spell_first", "computed"]
ANSWER_MODES: tuple[AnswerMode, ...] = ("direct", "spell_first", "computed")

ControlName = Literal["shuffled", "format_only", "random_label", "ceiling"]
"""Adapters trained beside the tuned one, for comparison."""

RUN_NAME_LENGTH = 80
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=RUN_NAME_LENGTH)]


def _each_once(controls: list[ControlName]) -> list[ControlName]:
    if len(set(controls)) < len(controls):
        raise ValueError("each control is wanted once")
    return controls


class LoraSection(Section):
    """The adapter (peft's LoraConfig)."""

    rank: int = Field(32, ge=1)
    """Rank of the low-rank update (Hu et al., 2021)."""
    alpha: int = Field(64, ge=1)
    """Scale of the update; the factor is alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: Literal["auto"] | list[str] = "auto"
    """Module names to adapt, embeddings included; 'auto' takes every linear layer of the architecture except the output
    head."""
    modules_to_save: list[str] = Field([])
    """Names of modules to train whole beside the low-rank updates, such as embed_tokens; they are kept with the
    adapter."""
    full_finetuning: bool = False
    """Train every weight and make no low-rank update; the adapter is then as large as the model, and one matrix for
    embeddings and head becomes two."""


class TrainingConfig(Section):
    """Optimisation, evaluation schedule and checkpoints."""

    max_steps: int = Field(300, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(8, ge=1)
    """Packed rows in one forward pass."""
    row_length: int = Field(128, ge=16)
    """Tokens in a packed row."""
    words_per_text: int = Field(3, ge=1)
    """A training text holds one to this many words, all in the same template, as a prompt with examples does."""
    curriculum: Literal["none", "length"] = "none"
    """'length': the same texts, but those of short words come before those of long ones (Bengio et al., 2009)."""
    controls: list[ControlName] = Field(["shuffled"])
    """Adapters to train for comparison, for as many steps: on 'shuffled' letters (the control); 'format_only', the word
    repeated instead of spelled; 'random_label', each word with another's spelling; and the 'ceiling', on the very
    questions, about training words, which cannot be published."""
    loss_on: Literal["letters", "all"] = "letters"
    """'letters': the loss falls on what is to be produced, letters or a word; 'all': on every token of a text."""
    gradient_accumulation: int = Field(1, ge=1)
    """Forward passes per optimizer step."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak learning rate of AdamW; linear warm-up, then cosine decay to a tenth."""
    warmup_steps: int = Field(20, ge=0)
    """Steps over which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay on the adapter."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    evaluate_every: int = Field(50, ge=1)
    """Steps between evaluations on validation words; each gives `correlation` a point."""
    evaluation_words: int = Field(100, ge=1)
    """Validation words, and questions of each type, at each of those evaluations."""
    early_stopping_patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without a better validation spelling accuracy; null: never."""
    checkpoint_every: int = Field(50, ge=1)
    """Steps between resumable checkpoints."""
    seed: int | None = Field(None, ge=0, lt=2**32)
    """Seed of the adapter's first weights and of the order of texts; null: that of the experiment."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Compute type; 'auto' takes bfloat16 where the processor multiplies it natively."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile of the repeated layers; 'auto' compiles when that repays itself in the steps left, by what it and a
    step took on this machine before, and says so."""
    load_in_4bit: bool = False
    """QLoRA (Dettmers et al., 2023): the frozen base in 4 bits (NF4); needs an NVIDIA GPU and the extra `gpu`."""
    use_unsloth: bool = False
    """Train with Unsloth's kernels, one text a row; needs an NVIDIA GPU and the extra `unsloth`."""

    sharding: Literal["none", "full"] = "none"
    """'full': each of several processes holds a part of the base model (FSDP), in training and in evaluation."""

    @field_validator("controls")
    @classmethod
    def _each_control_once(cls, controls: list[ControlName]) -> list[ControlName]:
        return _each_once(controls)

    @model_validator(mode="after")
    def _one_compiler(self) -> TrainingConfig:
        if self.use_unsloth and self.compile is True:
            raise ValueError("use_unsloth brings kernels of its own; set compile to false or auto")
        return self


NO_PART_OF_TRAINING = ("checkpoint_every", "controls", "sharding")
"""Settings of the section `training` that change nothing about how one adapter is trained."""


class EvaluationConfig(Section):
    """What the final evaluation measures."""

    split: Literal["validation", "test"] = "test"
    """Which held-out words to report on."""
    limit: int | None = Field(None, ge=1)
    """At most this many words and questions of each type; null: all."""
    training_tokens: int = Field(300, ge=1)
    """Training tokens to spell, for `generalization`."""
    modes: list[AnswerMode] = Field(list(ANSWER_MODES), min_length=1)
    """Answer modes to measure."""
    batch_size: int = Field(64, ge=1)
    """Prompts in one forward pass."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the models; `vllm` needs an NVIDIA GPU and the extra `vllm`."""
    bootstrap_samples: int = Field(10_000, ge=100)
    """Resamples for bootstrap intervals."""


class TrackingConfig(Section):
    """Experiment tracking."""

    wandb: bool = False
    """Log to Weights & Biases; offline when no key is set."""
    project: str = "letterwise"
    """W&B project."""
    group: str | None = None
    """W&B group, for sweeps and seeds."""


class ExperimentConfig(Section):
    """Everything a run depends on."""

    run_name: RunName
    """Names the folders results/<run_name> and checkpoints/<run_name>."""
    base_model: str = Field("embedded", min_length=1)
    """A Hub id, a local folder, 'embedded' or 'gemma'."""
    revision: str | None = None
    """Commit, tag or branch of a Hub model; null: its default branch, pinned in environment.json."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of words, data, training and bootstrap."""
    further_seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field([])
    """Seeds of the training with which `letterwise run` does everything once more, on the same words and data; each in
    a run of its own, <run_name>-seed-<seed>."""
    controls_of_further_seeds: list[ControlName] | None = None
    """Adapters to train for comparison with each of further_seeds; null: those of training.controls."""
    results_folder: Path = Path("results")
    """Where run folders are made."""
    checkpoints_folder: Path = Path("checkpoints")
    """Where adapters and checkpoints are kept."""
    words: WordsConfig = WordsConfig()
    data: DataConfig = DataConfig()
    lora: LoraSection = LoraSection()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("controls_of_further_seeds")
    @classmethod
    def _each_control_once(cls, controls: list[ControlName] | None) -> list[ControlName] | None:
        return controls and _each_once(controls)

    @model_validator(mode="after")
    def _each_seed_once(self) -> ExperimentConfig:
        if len({self.training_seed, *self.further_seeds}) <= len(self.further_seeds):
            raise ValueError("further_seeds must differ from each other and from the seed of the training")
        if any(len(self.with_seed(seed).run_name) > RUN_NAME_LENGTH for seed in self.further_seeds):
            raise ValueError(f"run_name with '-seed-' and each of further_seeds may have {RUN_NAME_LENGTH} characters")
        return self

    @model_validator(mode="after")
    def _whole_modules_supported(self) -> ExperimentConfig:
        lora, training = self.lora, self.training
        if not (lora.modules_to_save or lora.full_finetuning):
            return self
        setting = "lora.full_finetuning" if lora.full_finetuning else "lora.modules_to_save"
        if lora.full_finetuning and (lora.modules_to_save or lora.target_modules != "auto"):
            raise ValueError(f"{setting} trains every module; leave out lora.modules_to_save and lora.target_modules")
        if lora.full_finetuning and training.load_in_4bit:
            raise ValueError(f"training.load_in_4bit freezes the base, which {setting} trains; set one to false")
        if training.use_unsloth:
            raise ValueError(f"training.use_unsloth trains no modules whole; leave out {setting}")
        if self.evaluation.engine == "vllm":
            raise ValueError(f"evaluation.engine vllm loads no modules trained whole; leave out {setting}")
        return self

    @model_validator(mode="after")
    def _sharding_supported(self) -> ExperimentConfig:
        training = self.training
        own_ways = training.load_in_4bit or training.use_unsloth or training.compile is True
        if training.sharding == "full" and (own_ways or self.lora.full_finetuning or self.evaluation.engine == "vllm"):
            others = "training.load_in_4bit, training.use_unsloth, training.compile: true, lora.full_finetuning"
            raise ValueError(
                f"training.sharding goes with none of {others} and evaluation.engine: vllm; leave these out"
            )
        return self

    @property
    def run_folder(self) -> Path:
        """Where the run's results go."""
        return self.results_folder / self.run_name

    @property
    def checkpoint_folder(self) -> Path:
        """Where the run's adapters and checkpoints go."""
        return self.checkpoints_folder / self.run_name

    @property
    def training_seed(self) -> int:
        """Seed of the training alone; words and data have that of the experiment."""
        return self.seed if self.training.seed is None else self.training.seed

    def with_seed(self, seed: int) -> ExperimentConfig:
        """The same experiment with another seed of the training alone, as a run of its own."""
        controls = self.training.controls if self.controls_of_further_seeds is None else self.controls_of_further_seeds
        changed = {
            "run_name": f"{self.run_name}-seed-{seed}",
            "training": self.training.model_copy(update={"seed": seed, "controls": controls}),
            "further_seeds": [],
            "controls_of_further_seeds": None,
        }
        return self.model_copy(update=changed)


def load_config(path: Path) -> ExperimentConfig:
    """Read and check an experiment's YAML file.

    Raises:
        LetterwiseError: the file is missing, is not YAML, has an unknown key or a value out of range.
    """
    try:
        return ExperimentConfig.model_validate(read_settings(path))
    except ValidationError as error:
        raise LetterwiseError(f"{path}: {describe_error(error)}.") from error


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, not yet checked.

    Raises:
        LetterwiseError: the file is missing, is not YAML or holds no settings.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LetterwiseError(f"The configuration {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LetterwiseError(f"The configuration {path} cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise LetterwiseError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(raw, dict):
        raise LetterwiseError(f"{path} must hold settings as 'key: value' lines, found {type(raw).__name__}.")
    return raw


def override(config: ExperimentConfig, values: Mapping[str, object]) -> ExperimentConfig:
    """The configuration with some values replaced, checked again.

    Raises:
        LetterwiseError: a value is not allowed.
    """
    try:
        return ExperimentConfig.model_validate({**config.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # what is wrong is how two settings go together
            raise LetterwiseError(f"{describe_error(error)}.") from error
        option = str(first["loc"][-1]).replace("_", "-")
        raise LetterwiseError(f"--{option}: {first['msg']} (got {first['input']!r}).") from error


def dump_config(config: ExperimentConfig) -> str:
    """The resolved configuration as YAML; `load_config` reads it back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def describe_error(error: ValidationError) -> str:
    """What is wrong with which setting, in one line."""
    problems = []
    for item in error.errors():
        # Where a value may have one of several types, pydantic adds the type ("list[str]") to the place.
        key = ".".join(part for part in map(str, item["loc"]) if "[" not in part)
        if item["type"] == "extra_forbidden":
            problems.append(f"unknown key '{key}'")
        elif item["type"] == "missing":
            problems.append(f"'{key}' is missing")
        elif item["type"] == "value_error":
            problems.append(f"'{key}': {item['ctx']['error']}" if key else str(item["ctx"]["error"]))
        else:
            problems.append(f"'{key}': {item['msg'][0].lower()}{item['msg'][1:]} (got {item['input']!r})")
    return "; ".join(problems)
