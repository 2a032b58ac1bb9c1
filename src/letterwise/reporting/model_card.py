"""The model card: written by a template from the files of a bundle, so that no figure in it is typed.

Follows the Hub's template and Mitchell et al. (2019). Knows the files of a bundle; knows nothing about models or
the Hub's protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from letterwise.analysis_results import ITEM_ANALYSIS_FILE, RETENTION_FILE, Retention
from letterwise.config import ExperimentConfig, load_config
from letterwise.licences import GEMMA_NOTICE
from letterwise.probe_results import PROBES_FILE
from letterwise.publication import BUNDLE_FILE, PREDICTIONS_FILE, Bundle, StoredPredictions, files_in
from letterwise.reporting.exercise_mix import mix_sentences
from letterwise.reporting.hub_results import model_index
from letterwise.reporting.other_controls import COLUMNS, NAMES, other_control_rows
from letterwise.reporting.report_findings import first_paragraph
from letterwise.reporting.report_retention import retention_sentence
from letterwise.reporting.summary import NOTHING, conclusion, headline_markdown, number_text, share_text
from letterwise.reporting.templating import markdown_table, render
from letterwise.results import (
    TRANSFER_FIGURES,
    DataAudit,
    Environment,
    Estimate,
    EvaluationResults,
    Interval,
    TrainingLogEntry,
    TransferResults,
    read_results,
    read_training_log,
)
from letterwise.tasks.spelling import spelling_prompt

USAGE_WORD = "strawberry"
SPELLING_TOKENS = 40
"""Enough for a word of 14 letters, a token for each letter and each separator."""
TAGS = ("letterwise", "lora", "spelling", "tokenization", "character-level", "transfer-learning")
FIGURES = {
    "model_bars.png": "Accuracy of base, control and tuned model beside the baselines",
    "answer_modes.png": "Count and position accuracy of each model in each answer mode",
    "learning_curves.png": "Spelling, count and position accuracy over the training steps",
    "training_loss.png": "Training loss",
    "item_table.png": "Words spelled correctly against questions answered correctly",
    "confusion.png": "True against predicted answers",
    "accuracy_by_word_length.png": "Accuracy by word length",
    "probes.png": "What probes read off each layer of base, control and tuned model",
}
FILE_NOTES = {
    "adapter_model.safetensors": "the adapter's weights",
    "adapter_config.json": "their configuration for peft",
    "letterwise_base.json": "the exact base model: id, and commit or checksum",
    "calibration.json": "what the model's confidence means, fitted on validation words",
    "generation_config.json": "greedy decoding, as evaluated",
    "evaluation_results.json": "every metric with n, interval, baselines, control and answer modes",
    "transfer.json": "the transfer analysis",
    ITEM_ANALYSIS_FILE: "which items are answered right, and what right answers go with",
    RETENTION_FILE: "what training left of the base model's English",
    PROBES_FILE: "which letters each layer tells, before and after training",
    "data_audit.json": "proof that nothing leaks, and checksums of the data",
    "config.yaml": "the training configuration",
    "training_log.jsonl": "loss, learning rate, tokens and evaluations by step",
    "environment.json": "versions, commit, hardware, seeds",
    PREDICTIONS_FILE: "answers of this model, to be repeated by whoever downloads it",
    BUNDLE_FILE: "what is published, with the checksum of every file",
    "LICENSE": "the licence",
    "NOTICE": "under which terms the weights stand, and that they were modified",
}


def write_model_card(folder: Path) -> None:
    """Write `README.md` into a bundle that holds everything else."""
    ModelCard(model_card(folder)).save(folder / "README.md")


def model_card(folder: Path) -> str:
    """The card of a bundle, from its other files.

    Raises:
        LetterwiseError: one of them is missing or broken.
    """
    bundle = read_results(folder / BUNDLE_FILE, Bundle)
    results = read_results(folder / "evaluation_results.json", EvaluationResults)
    transfer = read_results(folder / "transfer.json", TransferResults)
    environment = read_results(folder / "environment.json", Environment)
    stored = read_results(folder / PREDICTIONS_FILE, StoredPredictions)
    audit = read_results(folder / "data_audit.json", DataAudit)
    config = load_config(folder / "config.yaml")
    files = files_in(folder)
    retention = read_results(folder / RETENTION_FILE, Retention) if RETENTION_FILE in files else None
    return render(
        "model_card.md.jinja",
        card_data=_metadata(bundle, results, stored).to_yaml(),
        bundle=bundle,
        gemma_notice=GEMMA_NOTICE,
        opening=first_paragraph(results),
        figures_in_words=conclusion(results, transfer),
        results=results,
        environment=environment,
        config=config,
        audit=audit,
        mix=mix_sentences(audit),
        extra=audit.n.get("extra_training_words", 0),
        hardware=_hardware(environment),
        hyperparameters=markdown_table(("setting", "value"), _hyperparameters(config)),
        training=_training(read_training_log(folder / "training_log.jsonl")),
        headline=headline_markdown(folder),
        other_controls=markdown_table(COLUMNS, controls) if (controls := other_control_rows(results)) else "",
        baselines=_baselines(results),
        breakdowns=_breakdowns(results),
        calibration=_calibration(results),
        transfer_table=_transfer(transfer),
        retention=retention_sentence(retention) if retention else "",
        usage=(usage := usage_code(bundle)),
        needs_letterwise="from letterwise" in usage,
        figures={name: text for name, text in FIGURES.items() if f"figures/{name}" in files},
        files=[(name, note) for name, note in FILE_NOTES.items() if name in files or name == "README.md"],
        eval_result_files=[name for name in files if name.startswith(".eval_results/")],
        examples=len(stored.predictions),
    )


def usage_code(bundle: Bundle) -> str:
    """The card's example as Python; it prints what `bundle.usage_output` records."""
    prompt = spelling_prompt(USAGE_WORD).text
    return render("usage.py.jinja", bundle=bundle, prompt=prompt, max_new_tokens=SPELLING_TOKENS)


def _metadata(bundle: Bundle, results: EvaluationResults, stored: StoredPredictions) -> ModelCardData:
    examples = {prediction.task: prediction for prediction in reversed(stored.predictions)}
    return ModelCardData(
        language="en",
        license=bundle.license,
        library_name="peft",
        pipeline_tag="text-generation",
        base_model=bundle.base.hub_id,
        base_model_relation="adapter" if bundle.base.hub_id else None,
        datasets=[bundle.dataset_id] if bundle.dataset_id else None,
        tags=[*TAGS, *bundle.tags],
        metrics=["accuracy"],
        model_name=bundle.repo_id.rpartition("/")[2],
        eval_results=model_index(bundle, results) or None,
        widget=[
            {
                "example_title": task.replace("_", " ").capitalize(),
                "text": example.header + example.body,
                "output": {"text": example.generated_text},
            }
            for task, example in sorted(examples.items(), key=lambda item: item[0] != "spelling")
        ],
    )


def _hardware(environment: Environment) -> str:
    processor = environment.gpu or f"{environment.cpu}, {environment.cores} cores"
    return f"{processor}, {environment.memory_gib:.0f} GiB of memory"


def _hyperparameters(config: ExperimentConfig) -> list[tuple[str, str]]:
    settings = config.model_dump(mode="json", include={"lora", "training", "seed"})
    flat = {"seed": settings["seed"]}
    for section in ("lora", "training"):
        flat.update({f"{section}.{name}": value for name, value in settings[section].items()})
    return [(f"`{name}`", yaml.safe_dump(value).removesuffix("...\n").strip()) for name, value in flat.items()]


def _training(log: Sequence[TrainingLogEntry]) -> dict[str, Any]:
    """Last entry of each adapter, and the evaluations of the tuned one as a table."""
    last = {entry.model: entry for entry in log}
    evaluated = [entry for entry in log if entry.model == "finetuned" and entry.evaluation]
    metrics = list(evaluated[-1].evaluation or {}) if evaluated else []
    sizes = (evaluated[-1].evaluation_n or {}) if evaluated else {}
    rows = []
    for entry in evaluated:
        values = entry.evaluation or {}
        cells = [_value(metric, values[metric]) if metric in values else NOTHING for metric in metrics]
        rows.append((str(entry.step), f"{entry.tokens:,}", *cells))
    names = [f"{metric} (n = {sizes[metric]})" if metric in sizes else metric for metric in metrics]
    return {
        "last": {NAMES[role].capitalize(): entry for role, entry in last.items()},
        "table": markdown_table(("step", "tokens", *names), rows) if rows else "",
    }


def _value(metric: str, value: float, interval: Interval | None = None) -> str:
    return (share_text if "accuracy" in metric else number_text)(value, interval)


def _baselines(results: EvaluationResults) -> str:
    rows = [
        (f"`{name}`", share_text(baseline.value, baseline.interval), f"{baseline.n:,}", baseline.description)
        for name, baseline in results.baselines.items()
    ]
    return markdown_table(("baseline", "accuracy and 95% interval", "n", "what it answers"), rows)


def _breakdowns(results: EvaluationResults) -> str:
    """Further figures of the tuned model in mode direct: by position, balanced, mean absolute error."""
    models = {"base": results.base_model, "control": results.control_model, "tuned": results.finetuned_model}
    names = [name for name in results.base_model.metrics if name.startswith("letter_")]
    names = [name for name in names if name not in ("letter_count_accuracy", "letter_position_accuracy")]
    rows = []
    for name in names:
        cells = [
            _value(name, model.metrics[name], model.intervals.get(name)) if model and name in model.metrics else NOTHING
            for model in models.values()
        ]
        n = results.base_model.n.get(name)
        rows.append((f"`{name}`", *cells, f"{n:,}" if n else NOTHING))
    return markdown_table(("metric (direct)", *models, "n"), rows) if rows else ""


def _calibration(results: EvaluationResults) -> str:
    rows = [
        (f"`{name}`", f"{error.uncalibrated:.3f}", f"{error.calibrated:.3f}", f"{error.n:,}")
        for name, error in results.calibration.items()
    ]
    return markdown_table(("confidence in", "as it is", "calibrated", "n"), rows) if rows else ""


def _transfer(transfer: TransferResults) -> str:
    rows = [
        _estimate(figure, key, estimate)
        for figure in TRANSFER_FIGURES
        for key, estimate in getattr(transfer, figure).items()
    ]
    rows.append(_estimate("generalization", "spelling", transfer.generalization))
    return markdown_table(("figure", "of", "value and 95% interval", "n"), rows)


def _estimate(figure: str, key: str, estimate: Estimate) -> tuple[str, ...]:
    value = estimate.reason or NOTHING if estimate.value is None else number_text(estimate.value, estimate.interval)
    return f"`{figure}`", key, value, f"{estimate.n:,}" if estimate.n is not None else NOTHING
