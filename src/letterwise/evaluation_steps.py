"""The steps of a run that ask models: calibration on validation words, evaluation on the chosen split, retention.

Knows the layout of a run folder; how models are asked and answers are summarised is known on the floors below.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedModel

from letterwise import hardware, processes
from letterwise.adapters import ADAPTER_WEIGHTS, CALIBRATION_FILE, check_adapter, load_adapter, load_merged
from letterwise.analysis_results import RETENTION_FILE
from letterwise.config import EvaluationConfig
from letterwise.data.build import StoredQuestions, load_data
from letterwise.data.word_lists import read_words
from letterwise.engines.engine import Engine
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.engines.vllm_engine import VllmEngine, load_vllm
from letterwise.evaluation.calibration import calibration_errors, fit_calibration
from letterwise.evaluation.evaluate import EvaluationItems, evaluate_model, number_of_items
from letterwise.evaluation.metrics import summarise
from letterwise.evaluation.pieces import read_columns, read_table, write_table
from letterwise.evaluation.plain_text import prose_passages
from letterwise.evaluation.retention import compare_with_base, summarise_retention
from letterwise.evaluation.statistics import Bootstrap
from letterwise.evaluation.tables import of_model
from letterwise.evaluation_log import EvaluationLogEntry, add_to_evaluation_log, read_evaluation_log
from letterwise.files import fingerprint, sha256_file
from letterwise.models import BaseModel, load_model
from letterwise.results import (
    OTHER_CONTROLS,
    POSITION_COUNT_PREDICTION_COLUMNS,
    QUESTION_TYPES,
    SPELLING_PREDICTION_COLUMNS,
    TASKS,
    Calibration,
    ModelRole,
    Task,
    TrainedRole,
    read_results,
    write_results,
)
from letterwise.run_folder import Run, Step, checksums_of
from letterwise.sharding import load_sharded, wanted


def calibrate_step(run: Run, adapter: Path) -> Step:
    """Ask the tuned model about validation words, and fit what its confidence means."""
    check_adapter(adapter, run.base)
    checksum = sha256_file(adapter / ADAPTER_WEIGHTS)
    settings = run.config.evaluation.model_copy(update={"split": "validation"})
    output = adapter / CALIBRATION_FILE

    def work() -> None:
        pieces = _ask(run, {"finetuned": adapter}, settings, TASKS, run.folder, "calibrating")
        if not processes.is_main():
            return
        spelling = read_table(pieces["spelling"], SPELLING_PREDICTION_COLUMNS)
        position_count = read_table(pieces["position_count"], POSITION_COUNT_PREDICTION_COLUMNS)
        calibration = fit_calibration(spelling, position_count, checksum)
        write_results(output, calibration)
        shutil.rmtree(run.folder / _PIECES, ignore_errors=True)
        chosen = ", ".join(f"{question_type}: {mode}" for question_type, mode in calibration.default_modes.items())
        run.terminal.say(f"  most accurate answer modes: {chosen}")

    asked = settings.model_dump(exclude={"bootstrap_samples"})
    inputs = [asked, run.config.seed, checksum, checksums_of(run.folder, run.data_files)]
    return Step("calibrate", inputs, [output], work, shared=True)


def evaluate_step(
    run: Run,
    adapters: Mapping[ModelRole, Path | None],
    tasks: Sequence[Task] = TASKS,
    output: Path | None = None,
) -> Step:
    """Ask every model everything, and summarise; a line of the run's `evaluation_log.jsonl` says who was asked when.

    Args:
        run: the experiment; its configuration says which split, modes and how many items.
        adapters: adapter folder of each role to evaluate; None for the bare base model.
        tasks: what to ask.
        output: where the results go; the run folder by default.
    """
    config, folder = run.config, output or run.folder
    for adapter in adapters.values():
        if adapter:
            check_adapter(adapter, run.base)
    checksums = {role: _checksum(run.base, adapter) for role, adapter in adapters.items()}
    tables = {task: folder / task / "predictions.parquet" for task in tasks}
    tuned = adapters.get("finetuned")
    calibration_file = tuned / CALIBRATION_FILE if tuned else None

    def work() -> None:
        read_evaluation_log(run.folder)  # better refused now than once everything was asked
        pieces = _ask(run, adapters, config.evaluation, tasks, folder, "evaluating")
        if not processes.is_main():
            return
        predictions = {}
        for task, columns in _COLUMNS.items():
            path = tables.get(task, folder / _PIECES / f"{task}.parquet")
            write_table(path, pieces[task], columns)
            predictions[task] = read_columns(path, [name for name in columns if name not in _UNMEASURED])
        tokens, _, _ = read_words(run.words_folder)
        results = summarise(
            predictions["spelling"],
            predictions["position_count"],
            {
                role: (run.base.id if not adapter else f"{run.base.id} + {role} adapter", checksums[role][:16])
                for role, adapter in adapters.items()
            },
            sorted({token.letters.lower() for token in tokens}),
            config.evaluation.split,
            config.seed,
            config.evaluation.bootstrap_samples,
        )
        if calibration_file and calibration_file.is_file():
            calibration = read_results(calibration_file, Calibration)
            tuned_predictions = [of_model(predictions[task], "finetuned") for task in TASKS]
            results.calibration = calibration_errors(calibration, *tuned_predictions)
        write_results(folder / "evaluation_results.json", results)
        asked = EvaluationLogEntry(
            split=config.evaluation.split,
            limit=config.evaluation.limit,
            tasks=list(tasks),
            folder=folder.as_posix(),
            models={role: checksum[:16] for role, checksum in checksums.items()},
        )
        add_to_evaluation_log(run.folder, asked)
        shutil.rmtree(folder / _PIECES, ignore_errors=True)

    inputs = [
        config.evaluation.model_dump(),
        config.seed,
        checksums,
        list(tasks),
        checksums_of(run.folder, run.data_files),
        checksums_of(run.folder, [calibration_file] if calibration_file else []),
    ]
    outputs = [folder / "evaluation_results.json", *tables.values()]
    return Step("evaluate", inputs, outputs, work, folder, shared=True)


def retention_step(run: Run) -> Step:
    """Measure what tuned and control adapter left of the base model's English.

    Raises:
        LetterwiseError: no adapter is trained.
    """
    roles: tuple[TrainedRole, ...] = ("finetuned", "control")
    adapters = {role: run.adapter(role) for role in roles if role == "finetuned" or run.adapter(role).is_dir()}
    for adapter in adapters.values():
        check_adapter(adapter, run.base)
    revisions: dict[ModelRole, str] = {"base": run.base.revision[:16]}
    revisions |= {role: _checksum(run.base, adapter)[:16] for role, adapter in adapters.items()}
    settings = run.config.evaluation

    def work() -> None:
        device = hardware.choose_device()
        dtype = hardware.choose_dtype(device)
        run.terminal.say(f"  on {hardware.describe(device, dtype)}")
        text = prose_passages(run.tokenizer)
        compared = {}
        with run.terminal.track("reading", len(adapters) * len(text.ids)) as advance:
            for role, adapter in adapters.items():
                compared[role] = compare_with_base(
                    load_adapter(load_model(run.base, device, dtype), adapter, run.base),
                    text.ids,
                    lambda finished, role=role: advance(finished, role),  # type: ignore[misc]
                )
        bootstrap = Bootstrap(settings.bootstrap_samples, run.config.seed)
        write_results(run.folder / RETENTION_FILE, summarise_retention(compared, text, revisions, dtype, bootstrap))

    inputs = [revisions, settings.bootstrap_samples, run.config.seed, platform.python_version()]
    # The run's environment is that of its evaluation; what this step ran in stands in its own file.
    return Step("retention", inputs, [run.folder / RETENTION_FILE], work, measures=False)


_PIECES = ".pieces"
_COLUMNS: dict[Task, dict[str, str]] = {
    "spelling": SPELLING_PREDICTION_COLUMNS,
    "position_count": POSITION_COUNT_PREDICTION_COLUMNS,
}
_UNMEASURED = ("question", "position", "generated_text", "predicted_spelling", "spelled")
"""Columns of which no metric is made."""


def _ask(
    run: Run,
    adapters: Mapping[ModelRole, Path | None],
    settings: EvaluationConfig,
    tasks: Sequence[Task],
    folder: Path,
    what: str,
) -> dict[Task, list[Path]]:
    """The answers of all models, in pieces that are kept in the folder until the caller removes them."""
    items = _items(run, settings)
    load = _engine_loader(run, [adapter for adapter in adapters.values() if adapter], settings)
    answered: dict[Task, list[Path]] = {task: [] for task in TASKS}
    mine = -(-len(adapters) * number_of_items(items, settings, tasks) // processes.count())
    with run.terminal.track(what, mine) as advance:
        for role, adapter in adapters.items():
            pieces = evaluate_model(
                role,
                lambda adapter=adapter: load(adapter),  # type: ignore[misc]
                run.tokenizer,
                items,
                settings,
                tasks,
                fingerprint([run.base.revision, _checksum(run.base, adapter), settings.model_dump()]),
                folder / _PIECES,
                lambda finished, role=role: advance(finished, role),  # type: ignore[misc]
                together=wanted(run.config.training),
            )
            answered["spelling"] += pieces.spelling
            answered["position_count"] += pieces.position_count
    return answered


def _checksum(base: BaseModel, adapter: Path | None) -> str:
    return sha256_file(adapter / ADAPTER_WEIGHTS) if adapter else base.revision


def _items(run: Run, settings: EvaluationConfig) -> EvaluationItems:
    spelling, position_count = load_data(run.data_folder)
    asked = position_count[settings.split].data.table
    by_type = [asked.filter(pc.equal(asked["question_type"], kind))[: settings.limit] for kind in QUESTION_TYPES]
    questions = StoredQuestions(pa.concat_tables(by_type).combine_chunks())
    tokens, _, _ = read_words(run.words_folder)
    trained = pd.Series(spelling["train"]["word"][:]).str.lower().drop_duplicates()
    trained = trained[trained.isin({token.letters.lower() for token in tokens})]
    sample = trained.sample(min(settings.training_tokens, len(trained)), random_state=run.config.seed)
    held_out = spelling[settings.split]
    words = held_out.select(range(min(settings.limit or len(held_out), len(held_out))))["word"]
    return EvaluationItems(words, sorted(sample), questions)


def _engine_loader(run: Run, adapters: Sequence[Path], settings: EvaluationConfig) -> Callable[[Path | None], Engine]:
    """What loads the base model, or it with an adapter, into the engine that the settings name; says where it runs."""
    if settings.engine == "vllm":
        hardware.require_gpu_package("evaluation.engine: vllm", "vllm", "vllm")
    device = hardware.choose_device()
    dtype = hardware.choose_dtype(device)
    sharded = wanted(run.config.training)
    among = f", sharded among {processes.count()} processes" * sharded
    run.terminal.say(f"  on {hardware.describe(device, dtype)}, {settings.engine}{among}")
    if settings.engine == "vllm":
        return lambda adapter: VllmEngine(load_vllm(run.base, dtype, adapters), run.tokenizer, adapter)
    return lambda adapter: TransformersEngine(
        load_for_inference(run.base, adapter, sharded), run.tokenizer, settings.batch_size
    )


def load_for_inference(base: BaseModel, adapter: Path | None, sharded: bool = False) -> PreTrainedModel:
    """The base model, with an adapter if one is given, on the best device at hand or sharded among all processes."""
    device = hardware.choose_device()

    def load(held_on: torch.device | None = None) -> PreTrainedModel:
        return load_merged(base, adapter, device, hardware.choose_dtype(device), held_on).requires_grad_(False)

    return load_sharded(load, device) if sharded else load()


def run_adapters(run: Run) -> dict[ModelRole, Path | None]:
    """What a run evaluates: the base model, the tuned adapter, and the controls that were trained."""
    adapters: dict[ModelRole, Path | None] = {"base": None, "finetuned": run.adapter("finetuned")}
    controls: tuple[TrainedRole, ...] = ("control", *OTHER_CONTROLS)
    return adapters | {role: run.adapter(role) for role in controls if run.adapter(role).is_dir()}
