"""Run folders such as `letterwise run` leaves, with chosen figures, for the scripts that record and show runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from letterwise.analysis_results import (
    ITEM_ANALYSIS_FILE,
    RETENTION_FILE,
    ItemAnalysis,
    ItemResults,
    OddsRatio,
    PlainText,
    Retained,
    Retention,
)
from letterwise.config import ExperimentConfig, dump_config
from letterwise.files import make_folder, sha256_file, write_json, write_text
from letterwise.probe_results import (
    PROBE_QUESTIONS,
    PROBES_FIGURE,
    PROBES_FILE,
    PlaceProbes,
    ProbeAccuracy,
    ProbeBaseline,
    ProbeDifference,
    ProbedModel,
    ProbeResults,
)
from letterwise.results import (
    QUESTION_TYPES,
    Baseline,
    DataAudit,
    Difference,
    Environment,
    Estimate,
    EvaluationResults,
    ModelResults,
    ModeResults,
    OtherControl,
    TrainingLogEntry,
    TransferResults,
    write_results,
)

update_results = import_module("update_results")

METRICS = ("spelling_accuracy", "letter_count_accuracy", "letter_position_accuracy")
ADAPTERS = {"finetuned": "a" * 64, "control": "b" * 64}
OTHERS: dict[OtherControl, str] = {"format_only": "c" * 64, "random_label": "d" * 64, "ceiling": "e" * 64}
SMALL = ExperimentConfig(run_name="quick")


def write_run(
    folder: Path, config: ExperimentConfig = SMALL, *, spelling: float = 0.4, n: int = 100, every_control: bool = False
) -> Path:
    """A finished run: spelling rose from 10%, questions stayed at 25% in mode `direct` and rose to 50% in the others.

    Args:
        folder: where; named as the run.
        config: of the run.
        spelling: of the tuned model.
        n: words, and questions of each type.
        every_control: whether all further controls and the ceiling were trained too; the ceiling is at 65%.
    """
    others = OTHERS if every_control else {}
    results = evaluation(spelling, n, others)
    write_results(folder / "evaluation_results.json", results)
    write_results(
        folder / "transfer.json", transfer(spelling, n, every_control, [config.training_seed, *config.further_seeds])
    )
    write_results(folder / "data_audit.json", audit())
    write_results(folder / "environment.json", environment(config.training_seed))
    write_text(folder / "config.yaml", dump_config(config))
    write_log(folder, steps=4, roles=(*ADAPTERS, *others))
    for name in update_results.FILES:
        if name.endswith(".png"):
            draw(folder / name)
    record_steps(folder, every_control)
    return folder


def record_steps(folder: Path, every_control: bool = False) -> None:
    """Write down that all steps are done, with the checksums of what lies there now."""
    outputs = {"data": "data_audit.json", "evaluate": "evaluation_results.json", "transfer": "transfer.json"}
    adapters = ADAPTERS | (OTHERS if every_control else {})
    for step in dict.fromkeys((*update_results.STEPS, *(f"train-{role}" for role in adapters))):
        checksums = {name: sha256_file(folder / name) for name in [outputs.get(step)] if name}
        if step.startswith("train-"):
            checksums[update_results.ADAPTER] = adapters[step.removeprefix("train-")]
        write_json(folder / ".steps" / f"{step}.json", {"inputs": "any", "outputs": checksums, "seconds": 60.0})


def draw(path: Path) -> None:
    make_folder(path.parent)
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    figure.savefig(path)


def evaluation(spelling: float, n: int, others: dict[OtherControl, str]) -> EvaluationResults:
    def metrics(*values: float) -> dict[str, Any]:
        named = dict(zip(METRICS[-len(values) :], values, strict=True))
        intervals = {metric: (value - 0.05, value + 0.05) for metric, value in named.items()}
        return {"metrics": named, "intervals": intervals, "n": dict.fromkeys(named, n)}

    def model(revision: str, *values: float) -> ModelResults:
        tens = {"word_length": {"4": values[0]}, "word_length_n": {"4": float(n)}}
        return ModelResults(
            id="tiny", revision=revision[:16], breakdowns={METRICS[0]: tens}, confusion={}, **metrics(*values)
        )

    def differences(first: str, second: str, gains: dict[str, float]) -> list[Difference]:
        return [
            Difference.model_validate(
                {
                    **{"metric": metric, "first": first, "second": second, "difference": gain},
                    **{"interval": (gain - 0.02, gain + 0.02), "p_value": 0.0001 if gain else 1.0, "n": n},
                }
            )
            for metric, gain in gains.items()
        ]

    gains = {METRICS[0]: round(spelling - 0.1, 6), **dict.fromkeys(METRICS[1:], 0.0)}
    gains |= {f"{metric}_{mode}": 0.25 for mode in ("spell_first", "computed") for metric in METRICS[1:]}
    modes = {role: ModeResults(**metrics(0.25, 0.25)) for role in ("base", "control", *others)}
    return EvaluationResults(
        split="test",
        base_model=model("base", 0.1, 0.25, 0.25),
        finetuned_model=model(ADAPTERS["finetuned"], spelling, 0.25, 0.25),
        control_model=model(ADAPTERS["control"], 0.1, 0.25, 0.25),
        other_controls={
            role: model(revision, 0.1, *([0.65] * 2 if role == "ceiling" else [0.25] * 2))
            for role, revision in others.items()
        },
        baselines={
            f"{kind}_majority_class": Baseline(value=0.24, interval=(0.2, 0.28), n=n, description="most frequent")
            for kind in QUESTION_TYPES
        },
        significance={f"{first}_to_finetuned": differences(first, "finetuned", gains) for first in ("base", "control")},
        answer_modes={
            "direct": {role: ModeResults(**metrics(0.25, 0.25)) for role in ("base", "control", "finetuned")},
            **{mode: modes | {"finetuned": ModeResults(**metrics(0.5, 0.5))} for mode in ("spell_first", "computed")},
        },
    )


def transfer(spelling: float, n: int, ceiling: bool, seeds: Sequence[int]) -> TransferResults:
    gains = {"spelling": round(spelling - 0.1, 6), "letter_count": 0.0, "letter_position": 0.0}
    share = Estimate(value=0.0, interval=(-0.1, 0.1), n=n)
    return TransferResults(
        correlation={"letter_count": Estimate(value=None, reason="There are too few checkpoints.")},
        item_phi={},
        item_table={},
        transfer_efficiency={},
        control_adjusted_gain={
            key: Estimate(value=gain, interval=(gain - 0.02, gain + 0.02), n=n) for key, gain in gains.items()
        },
        share_of_ceiling=dict.fromkeys(QUESTION_TYPES, share) if ceiling else {},
        generalization=Estimate(value=0.8, interval=(0.7, 0.9), n=n),
        checkpoints=[{"model": "finetuned", "seed": seed, "step": 4, METRICS[0]: spelling} for seed in seeds],
    )


def audit() -> DataAudit:
    return DataAudit(
        seed=0,
        n={"training_words": 5000, "training_surface_forms": 9000, "training_texts": 10000}
        | {"validation_words": 100, "test_words": 100},
        overlaps={"train∩test": 0},
        purity_violations={"digit": 0},
        single_token_held_out_words=0,
        template_shares={"plain_colon": 1.0},
        answer_distribution={},
        excluded_training_tokens={},
        checksums={"spelling/train.parquet": "f" * 64},
        length_sentences=False,
        passed=True,
    )


def environment(seed: int) -> Environment:
    return Environment(
        **dict.fromkeys(("letterwise", "python", "platform", "device", "dtype", "base_model", "base_revision"), "any"),
        **{"created": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "packages": {}},
        **{"cpu": "A Processor", "cores": 2, "cpu_features": [], "memory_gib": 8.0, "gpu": None},
        seeds={"training": seed},
    )


def write_log(folder: Path, steps: int, roles: tuple[str, ...] = tuple(ADAPTERS)) -> None:
    """A training log of half a minute a step."""
    entries = [
        TrainingLogEntry.model_validate(
            {
                **{"model": role, "seed": 0, "step": step, "tokens": step * 500, "seconds": step * 30.0, "loss": 1.0},
                "evaluation": {"spelling_accuracy": 0.1 * step / steps} if step % 4 == 0 else None,
                "evaluation_n": {"spelling_accuracy": 60} if step % 4 == 0 else None,
            }
        )
        for role in roles
        for step in range(steps + 1)
    ]
    log = "".join(f"{entry.model_dump_json()}\n" for entry in entries)
    (folder / "training_log.jsonl").write_text(log, encoding="utf-8")


def add_analyses(folder: Path) -> None:
    """What `letterwise transfer`, `retention` and `probe` leave in a run folder, of the models of `write_run`."""
    revisions = {"base": "base", **{role: checksum[:16] for role, checksum in ADAPTERS.items()}}
    write_results(folder / ITEM_ANALYSIS_FILE, items())
    write_results(folder / RETENTION_FILE, retention(revisions))
    write_results(folder / PROBES_FILE, probes(revisions))
    draw(folder / PROBES_FIGURE)


def items() -> ItemAnalysis:
    def entry(kind: str, model: str) -> ItemResults:
        groups = {"word_length": ("4", "5"), "n_tokens": ("2", "3"), "zipf": ("3 to 4",)}
        groups |= {"letter_position": {"position_class": ("first", "inner", "last")}}.get(kind, {})
        share = Estimate(value=0.25, interval=(0.2, 0.3), n=50)
        return ItemResults.model_validate(
            {
                **{"model": model, "question_type": kind, "mode": "direct"},
                "accuracy": share,
                "accuracy_by": {name: dict.fromkeys(names, share) for name, names in groups.items()},
                "odds_ratios": {
                    "spelled": OddsRatio(value=1.5, interval=(1.1, 2.1), p_value=0.01, n=100),
                    "word_length": OddsRatio(value=0.9, interval=(0.8, 1.0), p_value=0.05, n=100),
                },
            }
        )

    return ItemAnalysis(items=[entry(kind, model) for kind in QUESTION_TYPES for model in ("base", "finetuned")])


def retention(revisions: dict[str, str]) -> Retention:
    def about(value: float) -> Estimate:
        return Estimate(value=value, interval=(value - 0.01, value + 0.01), n=8000)

    kept = Retained(perplexity_ratio=about(1.2), unchanged_choices=about(0.8), kl_divergence=about(0.1))
    return Retention.model_validate(
        {
            "text": PlainText(source="Python's documentation", sha256="0" * 64, passages=40, tokens=8000),
            "revisions": revisions,
            "dtype": "bfloat16",
            "perplexity": {"base": about(20.0), "finetuned": about(24.0), "control": about(24.0)},
            "against_base": {"finetuned": kept, "control": kept},
        }
    )


def probes(revisions: dict[str, str]) -> ProbeResults:
    def accuracy(value: float) -> ProbeAccuracy:
        return ProbeAccuracy(value=value, interval=(value - 0.01, value + 0.01), n=4000)

    def model(role: str) -> ProbedModel:
        values = (0.6, 0.8 if role == "finetuned" else 0.7)
        places = [
            PlaceProbes(
                place=place, accuracy=dict.fromkeys(PROBE_QUESTIONS, accuracy(value)), letters={"a": accuracy(value)}
            )
            for place, value in zip(("embedding", "layer_1"), values, strict=True)
        ]
        return ProbedModel(id="tiny", revision=revisions[role], places=places)

    def difference(place: str, first: str, gain: float) -> list[ProbeDifference]:
        return [
            ProbeDifference.model_validate(
                {
                    **{"place": place, "question": question, "first": first, "second": "finetuned"},
                    **{"difference": gain, "interval": (gain - 0.01, gain + 0.01), "n": 4000},
                }
            )
            for question in PROBE_QUESTIONS
        ]

    return ProbeResults.model_validate(
        {
            **{"seed": 0, "prefix": "\n", "computed_on": "cpu", "letters_left_out": ["q"]},
            "tokens": {"fit": 800, "validation": 100, "test": 100},
            "families": {"fit": 400, "validation": 50, "test": 50},
            "models": {role: model(role) for role in revisions},
            "baselines": {
                name: ProbeBaseline(accuracy=dict.fromkeys(PROBE_QUESTIONS, accuracy(0.5)), description=name)
                for name in ("majority_class", "shuffled_tokens", "appearance")
            },
            "differences": {
                f"{first}_to_finetuned": [*difference("embedding", first, 0.0), *difference("layer_1", first, 0.1)]
                for first in ("base", "control")
            },
        }
    )
