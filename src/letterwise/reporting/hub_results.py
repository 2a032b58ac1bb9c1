"""Results in the two forms that the Hub reads: `model-index` in a card's metadata, and `.eval_results/*.yaml`.

Takes every figure from `evaluation_results.json` as it stands there; knows nothing about the card's text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from letterwise.config import ANSWER_MODES, AnswerMode
from letterwise.publication import Bundle
from letterwise.reporting.summary import QUESTION_METRICS, SPELLING_METRICS
from letterwise.results import EvaluationResults, Interval

BENCHMARK_TASKS = {
    "spelling_accuracy": "spelling",
    "letter_count_accuracy": "letter_count",
    "letter_position_accuracy": "letter_position",
}
"""Metric → id of its task in the dataset's `eval.yaml`."""
MODE_NOTES: dict[AnswerMode, str] = {
    "direct": "letterwise, mode direct: few-shot examples, valid answers scored; spelling by greedy decoding",
    "spell_first": "letterwise, mode spell_first: the model's own spelling in the prompt, valid answers scored",
    "computed": "letterwise, mode computed: a program counts or indexes in the model's own spelling",
}


@dataclass(frozen=True)
class PublishedMetric:
    """One figure of the tuned model."""

    metric: str
    mode: AnswerMode
    value: float
    interval: Interval | None
    n: int | None

    @property
    def dataset_config(self) -> str:
        """Config of the published dataset that it was measured on."""
        return "spelling" if self.metric in SPELLING_METRICS else "position_count"


def published_metrics(results: EvaluationResults) -> Iterator[PublishedMetric]:
    """What is published of the tuned model: spelling, and the accuracies of both questions in each answer mode."""
    tuned = results.finetuned_model
    if tuned is None:
        return
    for metric in (*SPELLING_METRICS, *QUESTION_METRICS):
        if metric in tuned.metrics:
            yield PublishedMetric(
                metric, "direct", tuned.metrics[metric], tuned.intervals.get(metric), tuned.n.get(metric)
            )
    for mode in ANSWER_MODES:
        answers = results.answer_modes.get(mode, {}).get("finetuned")
        if answers and mode != "direct":
            for metric in QUESTION_METRICS:
                if metric in answers.metrics:
                    yield PublishedMetric(
                        metric, mode, answers.metrics[metric], answers.intervals.get(metric), answers.n.get(metric)
                    )


def model_index(bundle: Bundle, results: EvaluationResults) -> list[EvalResult]:
    """The figures as entries of a card's `model-index`."""
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Spelling" if entry.dataset_config == "spelling" else "Letter counts and letter positions",
            dataset_type=bundle.dataset_id or "letterwise",
            dataset_name=f"letterwise {bundle.run_name}: held-out words",
            dataset_config=entry.dataset_config,
            dataset_split=results.split,
            dataset_revision=bundle.dataset_revision,
            metric_type=entry.metric,
            metric_name=f"{entry.metric} ({entry.mode})",
            metric_value=entry.value,
            metric_args={"answer_mode": entry.mode, "n": entry.n, "interval": list(entry.interval or ()) or None},
        )
        for entry in published_metrics(results)
    ]


def eval_result_files(bundle: Bundle, results: EvaluationResults, date: str) -> dict[str, str]:
    """Text of each `.eval_results` file by its name; none without a published dataset, which they have to name.

    Answer modes have a file each, as the Hub wants it of one benchmark's variants.
    """
    if bundle.dataset_id is None:
        return {}
    files = {}
    for mode in ANSWER_MODES:
        entries = [
            EvalResultEntry(
                dataset_id=bundle.dataset_id,
                dataset_revision=bundle.dataset_revision,
                task_id=BENCHMARK_TASKS[entry.metric],
                value=entry.value,
                date=date,
                source_url=f"https://huggingface.co/{bundle.repo_id}" if "/" in bundle.repo_id else None,
                source_name="Model card" if "/" in bundle.repo_id else None,
                notes=MODE_NOTES[mode],
            )
            for entry in published_metrics(results)
            if entry.mode == mode and entry.metric in BENCHMARK_TASKS
        ]
        if entries:
            name = "letterwise" if mode == "direct" else f"letterwise_{mode}"
            files[f"{name}.yaml"] = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
    return files
