"""A run folder as evaluation leaves it, with figures of a realistic size and a chosen outcome."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from statsmodels.stats.proportion import proportion_confint

from letterwise.results import (
    Baseline,
    Difference,
    Environment,
    Estimate,
    EvaluationResults,
    ModelResults,
    ModeResults,
    TrainingLogEntry,
    TransferResults,
    write_results,
)

Outcome = Literal["positive", "null", "negative"]
N = 1000

ACCURACY = {
    "positive": {"base": (0.012, 0.247, 0.181), "control": (0.013, 0.255, 0.190), "finetuned": (0.583, 0.352, 0.335)},
    "null": {"base": (0.012, 0.247, 0.181), "control": (0.013, 0.251, 0.186), "finetuned": (0.583, 0.246, 0.184)},
    "negative": {"base": (0.583, 0.352, 0.335), "control": (0.580, 0.350, 0.331), "finetuned": (0.481, 0.247, 0.181)},
}
DIFFERENCES = {  # outcome → comparison → metric → (difference, low, high, p)
    "positive": {
        "base_to_finetuned": [(0.571, 0.540, 0.602, 1e-9), (0.105, 0.070, 0.141, 2e-8), (0.154, 0.119, 0.190, 1e-17)],
        "control_to_finetuned": [(0.570, 0.538, 0.601, 1e-9), (0.097, 0.062, 0.133, 3e-7), (0.145, 0.109, 0.18, 1e-15)],
    },
    "null": {
        "base_to_finetuned": [(0.571, 0.540, 0.602, 1e-9), (-0.001, -0.021, 0.019, 1.0), (0.003, -0.02, 0.027, 0.83)],
        "control_to_finetuned": [
            (0.570, 0.538, 0.601, 1e-9),
            (-0.005, -0.026, 0.016, 0.68),
            (-0.002, -0.026, 0.021, 0.91),
        ],
    },
    "negative": {
        "base_to_finetuned": [
            (-0.102, -0.13, -0.07, 1e-9),
            (-0.105, -0.141, -0.070, 2e-8),
            (-0.154, -0.19, -0.119, 1e-17),
        ],
        "control_to_finetuned": [
            (-0.099, -0.13, -0.07, 1e-9),
            (-0.103, -0.139, -0.068, 4e-8),
            (-0.150, -0.186, -0.115, 1e-16),
        ],
    },
}
METRICS = ("spelling_accuracy", "letter_count_accuracy", "letter_position_accuracy")


def wilson(value: float, n: int) -> tuple[float, float]:
    low, high = proportion_confint(round(value * n), n, method="wilson")
    return float(low), float(high)


def breakdowns(values: tuple[float, float, float]) -> dict[str, dict[str, dict[str, float]]]:
    lengths = {str(length): 1.25 - 0.06 * length for length in range(4, 15)}
    lengths_n = {
        length: float(n) for length, n in zip(lengths, (61, 98, 131, 148, 142, 126, 104, 80, 57, 34, 19), strict=True)
    }
    tokens, tokens_n = {"2": 1.15, "3": 0.9, "4": 0.65, "5": 0.5}, {"2": 512.0, "3": 361.0, "4": 109.0, "5": 18.0}
    positions, positions_n = {"first": 1.5, "inner": 0.7, "last": 0.8}, {"first": 333.0, "inner": 334.0, "last": 333.0}
    grouped: dict[str, dict[str, dict[str, float]]] = {}
    for metric, value in zip(METRICS, values, strict=True):
        grouped[metric] = {
            "word_length": {group: min(1.0, value * factor) for group, factor in lengths.items()},
            "word_length_n": lengths_n,
            "n_tokens": {group: min(1.0, value * factor) for group, factor in tokens.items()},
            "n_tokens_n": tokens_n,
        }
    grouped["letter_position_accuracy"] |= {
        "position": {group: min(1.0, values[2] * factor) for group, factor in positions.items()},
        "position_n": positions_n,
    }
    return grouped


def confusion(accuracy: float) -> dict[str, dict[str, int]]:
    """250 questions for each true count 0 to 3; wrong answers lean to the count above."""
    right = round(250 * accuracy)
    above, others = (250 - right) // 2, (250 - right) // 4
    table = {}
    for true in range(4):
        row = {(true + 1) % 4: above, (true + 2) % 4: others, (true + 3) % 4: 250 - right - above - others, true: right}
        table[str(true)] = {str(predicted): row[predicted] for predicted in range(4)}
    return table


def model_results(values: tuple[float, float, float]) -> ModelResults:
    metrics = dict(zip(METRICS, values, strict=True))
    means = {
        "character_level_accuracy": 0.3 + values[0] / 2,
        "levenshtein_distance": 0.6 - values[0] / 1.2,
        "generalization": 0.3 + values[0],
    }
    return ModelResults(
        id="HuggingFaceTB/SmolLM2-135M-Instruct",
        revision="0123456789abcdef",
        metrics=metrics | means,
        intervals={name: wilson(value, N) for name, value in metrics.items()}
        | {name: (value - 0.012, value + 0.012) for name, value in means.items()},
        n=dict.fromkeys((*metrics, *means), N),
        breakdowns=breakdowns(values),
        confusion=confusion(values[1]),
    )


def mode_results(count: float, position: float) -> ModeResults:
    metrics = {"letter_count_accuracy": count, "letter_position_accuracy": position}
    return ModeResults(
        metrics=metrics,
        intervals={name: wilson(value, N) for name, value in metrics.items()},
        n=dict.fromkeys(metrics, N),
    )


def evaluation_results(outcome: Outcome = "positive") -> EvaluationResults:
    models = {role: model_results(values) for role, values in ACCURACY[outcome].items()}

    def baseline(value: float, description: str) -> Baseline:
        return Baseline(value=value, interval=wilson(value, N), n=N, description=description)

    return EvaluationResults(
        split="test",
        base_model=models["base"],
        control_model=models["control"],
        finetuned_model=models["finetuned"],
        baselines={
            "letter_count_majority_class": baseline(0.251, "always the most frequent answer"),
            "letter_count_letter_frequency": baseline(0.268, "the letter's rate in English times the word's length"),
            "letter_position_majority_class": baseline(0.112, "always the most frequent answer"),
            "letter_position_letter_frequency": baseline(0.124, "the most frequent letter at that position"),
        },
        significance={
            comparison: [
                Difference(
                    metric=metric,
                    first="base" if comparison.startswith("base") else "control",
                    second="finetuned",
                    difference=difference,
                    interval=(low, high),
                    p_value=p_value,
                    n=N,
                )
                for metric, (difference, low, high, p_value) in zip(METRICS, entries, strict=True)
            ]
            for comparison, entries in DIFFERENCES[outcome].items()
        },
        answer_modes={
            "direct": {role: mode_results(count, position) for role, (_, count, position) in ACCURACY[outcome].items()},
            "spell_first": {
                "base": mode_results(0.262, 0.205),
                "control": mode_results(0.259, 0.199),
                "finetuned": mode_results(0.471, 0.512),
            },
            "computed": {
                "base": mode_results(0.301, 0.152),
                "control": mode_results(0.310, 0.149),
                "finetuned": mode_results(0.862, 0.781),
            },
        },
    )


@pytest.fixture
def with_controls() -> EvaluationResults:
    """Results of a run that trained two further controls."""
    results = evaluation_results()
    results.other_controls = {
        "format_only": model_results((0.004, 0.231, 0.177)),
        "ceiling": model_results((0.101, 0.402, 0.713)),
    }
    return results


def transfer_results() -> TransferResults:
    return TransferResults(
        correlation={"letter_count": Estimate(value=0.81, interval=(0.42, 0.95), n=12)},
        item_phi={
            "letter_count": Estimate(value=0.174, interval=(0.112, 0.236), n=N),
            "letter_position": Estimate(value=0.021, interval=(-0.041, 0.083), n=N),
        },
        item_table={"letter_count": [[310, 107], [338, 245]], "letter_position": [[281, 136], [384, 199]]},
        transfer_efficiency={"letter_count": Estimate(value=0.24, interval=(0.16, 0.33), n=N)},
        control_adjusted_gain={"letter_count": Estimate(value=0.097, interval=(0.062, 0.133), n=N)},
        generalization=Estimate(value=0.871, interval=(0.812, 0.934), n=N),
        checkpoints=[],
    )


def training_log() -> list[TrainingLogEntry]:
    entries = []
    for model, reach in (("finetuned", (0.58, 0.35, 0.33)), ("control", (0.02, 0.25, 0.19))):
        for step in range(0, 301, 10):
            progress = 1 - (1 - step / 300) ** 2
            start = (0.01, 0.24, 0.18)
            evaluated = step % 50 == 0
            entries.append(
                TrainingLogEntry(
                    model=model,
                    seed=0,
                    step=step,
                    tokens=step * 8 * 96,
                    seconds=step * 0.8,
                    loss=None
                    if step == 0
                    else 3.1 - (2.4 if model == "finetuned" else 0.7) * progress + 0.05 * (step % 3),
                    evaluation={
                        metric: low + progress * (high - low)
                        for metric, low, high in zip(METRICS, start, reach, strict=True)
                    }
                    if evaluated
                    else None,
                    evaluation_n=dict.fromkeys(METRICS, 100) if evaluated else None,
                )
            )
    return entries  # fmt: skip


def environment() -> Environment:
    return Environment(
        created="2026-11-14T09:30:00+00:00",
        letterwise="0.1.0",
        commit="3ab22d4",
        python="3.11.7",
        platform="Linux",
        packages={"torch": "2.13.0"},
        cpu="Intel(R) Xeon(R) Platinum 8481C",
        cores=2,
        cpu_features=["amx_bf16"],
        memory_gib=7.8,
        gpu=None,
        device="cpu",
        dtype="bfloat16",
        seeds={"run": 0},
        base_model="embedded",
        base_revision="0123456789abcdef",
    )


@pytest.fixture
def results() -> EvaluationResults:
    return evaluation_results()


@pytest.fixture
def make_results() -> Callable[[Outcome], EvaluationResults]:
    return evaluation_results


@pytest.fixture
def transfer() -> TransferResults:
    return transfer_results()


@pytest.fixture
def log() -> list[TrainingLogEntry]:
    return training_log()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run's folder with every file that reporting reads."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_results(folder / "evaluation_results.json", evaluation_results())
    write_results(folder / "transfer.json", transfer_results())
    write_results(folder / "environment.json", environment())
    lines = [json.dumps(entry.model_dump(mode="json")) for entry in training_log()]
    (folder / "training_log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
