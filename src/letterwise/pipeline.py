"""The steps of a run: what each reads and writes, and what can be skipped.

Knows the order of the work and the layout of a run folder; the work itself is done on the floors below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from peft import PeftModel

from letterwise import hardware, processes
from letterwise.adapters import ADAPTER_WEIGHTS, CALIBRATION_FILE
from letterwise.analysis_results import ITEM_ANALYSIS_FILE
from letterwise.config import NO_PART_OF_TRAINING, dump_config, load_config
from letterwise.data.build import build_data, load_data, load_questions
from letterwise.data.word_lists import HELD_OUT_FILE, TOKENS_FILE, build_words, read_words
from letterwise.errors import LetterwiseError
from letterwise.evaluation.evaluate import QuickEvaluation, quick_evaluation
from letterwise.evaluation.item_analysis import analyse_items
from letterwise.evaluation.transfer import analyse_transfer
from letterwise.evaluation_steps import calibrate_step, evaluate_step, run_adapters
from letterwise.files import make_folder, write_text
from letterwise.probe_results import PROBES_FILE
from letterwise.publication import PUBLICATION_FILE
from letterwise.reporting.figures import write_all_figures
from letterwise.reporting.over_seeds import seed_folders
from letterwise.reporting.report import REPORT_FILES, write_report
from letterwise.reporting.report_record import FIGURES, FURTHER_FILES, RECORD_FILES, check_finished
from letterwise.reporting.word_figures import plot_token_distribution
from letterwise.results import (
    QUESTION_TYPES,
    TASKS,
    EvaluationResults,
    QuestionType,
    TrainedRole,
    TransferResults,
    read_results,
    read_training_log,
    write_results,
)
from letterwise.run_folder import Run, Step, checksums_of
from letterwise.sharding import wanted
from letterwise.tasks.questions import Question
from letterwise.training.own_process import train_in_own_process
from letterwise.training.tracking import Watch, finishing, open_tracker
from letterwise.training.train import ROLE_OF_CONTROL, TrainingReport, train


def words_step(run: Run) -> Step:
    """Extract letter tokens and draw held-out words."""
    config = run.config

    def work() -> None:
        held_out = build_words(config.words, run.tokenizer, config.seed, run.words_folder)
        tokens, _, _ = read_words(run.words_folder)
        plot_token_distribution(tokens, run.words_folder / "token_distribution.png")
        run.terminal.say(
            f"  {len(tokens):,} letter tokens, {len(held_out.validation):,} validation words, "
            f"{len(held_out.test):,} test words"
        )

    outputs = [run.words_folder / TOKENS_FILE, run.words_folder / HELD_OUT_FILE]
    return Step("words", [config.words.model_dump(), config.seed, run.base.revision], outputs, work)


def data_step(run: Run) -> Step:
    """Build and audit the data sets."""
    config = run.config

    def work() -> None:
        audit = build_data(config.data, run.tokenizer, config.seed, run.words_folder, run.data_folder)
        write_results(run.folder / "data_audit.json", audit)
        run.terminal.say(f"  {audit.n['training_texts']:,} training texts; audit: no overlap, spelling only")

    words = checksums_of(run.folder, [run.words_folder / TOKENS_FILE, run.words_folder / HELD_OUT_FILE])
    outputs = [run.folder / "data_audit.json", *run.data_files]
    return Step("data", [config.data.model_dump(), config.seed, words, run.base.revision], outputs, work)


def questions_in_training(run: Run) -> dict[QuestionType, list[Question]]:
    """The validation questions that are asked while an adapter is trained, by type."""
    count = run.config.training.evaluation_words
    asked = load_questions(load_data(run.data_folder)[1]["validation"])
    return {kind: [each for each in asked if each.question_type == kind][:count] for kind in QUESTION_TYPES}


def train_step(run: Run, role: TrainedRole, watch: Watch | None = None) -> Step:
    """Train the spelling adapter, or a control adapter for as many steps as that one took.

    Args:
        run: the experiment.
        role: which adapter.
        watch: is told of each evaluation on validation words.
    """
    config = run.config

    def work() -> None:
        make_folder(config.checkpoint_folder)  # better refused now than at the first checkpoint
        train_adapter = _trainer(run)
        spelling, _ = load_data(run.data_folder)
        words = spelling["validation"]["word"][: config.training.evaluation_words]
        questions = [question for asked in questions_in_training(run).values() for question in asked]

        def evaluate(model: PeftModel) -> QuickEvaluation:
            return quick_evaluation(model, run.tokenizer, words, questions, config.evaluation.batch_size)

        tracker = open_tracker(config.tracking, config, f"{config.run_name}-{role}", run.terminal.say, watch)
        steps = _steps_taken(run) if role != "finetuned" else config.training.max_steps
        shown = 0
        with finishing(tracker), run.terminal.track(f"training {role}", steps) as advance:

            def on_step(figures: Any) -> None:
                nonlocal shown
                advance(figures.step - shown, f"loss {figures.loss:.3f} · {figures.tokens_per_second:,.0f} tokens/s")
                shown = figures.step

            report = train_adapter(
                config.model_copy(update={"seed": config.training_seed}),
                run.base,
                run.tokenizer,
                spelling["train"],
                role,
                evaluate,
                tracker,
                max_steps=steps,
                on_step=on_step,
                say=run.terminal.say,
            )
        rate = report.tokens / report.seconds if report.seconds else 0.0
        run.terminal.say(
            f"  {report.steps} steps, {report.tokens:,} tokens in {report.seconds:,.0f} s ({rate:,.0f} tokens/s); "
            f"kept step {report.best_step}"
        )

    sections = config.model_dump(mode="json", include={"words", "data", "lora", "training", "seed"})
    for name in NO_PART_OF_TRAINING:
        sections["training"].pop(name)
    inputs: list[Any] = [sections, checksums_of(run.folder, run.data_files), run.base.revision]
    if role != "finetuned":
        inputs.append(_steps_taken(run))
    adapter = run.adapter(role)
    return Step(f"train-{role}", inputs, [adapter / ADAPTER_WEIGHTS], work, shared=True)


def _trainer(run: Run) -> Callable[..., TrainingReport]:
    """What trains as the configuration says, where there is what that needs; says where it trains."""
    settings = run.config.training
    if settings.load_in_4bit:
        hardware.require_gpu_package("training.load_in_4bit", "bitsandbytes", "gpu")
    if settings.use_unsloth:
        hardware.require_gpu_package("training.use_unsloth", "unsloth", "unsloth")
    device = hardware.choose_device()
    ways = ", 4-bit base" * settings.load_in_4bit + ", Unsloth" * settings.use_unsloth
    ways += f", sharded among {processes.count()} processes" * wanted(settings)
    run.terminal.say(f"  on {hardware.describe(device, hardware.choose_dtype(device, settings.dtype))}{ways}")
    return train_in_own_process if settings.use_unsloth else train


def _steps_taken(run: Run) -> int:
    log = run.folder / "training_log.jsonl"
    steps = [entry.step for entry in read_training_log(log) if entry.model == "finetuned"] if log.is_file() else []
    return max(steps, default=run.config.training.max_steps)


def transfer_step(run: Run) -> Step:
    """Analyse transfer and items, and draw the figures.

    Only `correlation` is over the checkpoints of further seeds as well, of those that were analysed.
    """
    config = run.config
    tables = [run.folder / task / "predictions.parquet" for task in TASKS]
    log = run.folder / "training_log.jsonl"
    results = run.folder / "evaluation_results.json"

    for path in (*tables, log, results):
        if not path.is_file():
            raise LetterwiseError(f"{path} does not exist; run the steps train and evaluate first.")

    # Not their logs, which an interrupted training may have begun anew.
    others = [folder / "transfer.json" for folder in seed_folders(run.folder, config).values() if folder != run.folder]

    def work() -> None:
        spelling, position_count = (pd.read_parquet(path) for path in tables)
        transfer = analyse_transfer(
            spelling,
            position_count,
            read_training_log(log),
            config.seed,
            config.evaluation.bootstrap_samples,
            [point for other in others for point in read_results(other, TransferResults).checkpoints],
        )
        # First, so that no transfer analysis stands beside the items of an earlier evaluation.
        write_results(run.folder / ITEM_ANALYSIS_FILE, analyse_items(spelling, position_count, run.tokenizer))
        write_results(run.folder / "transfer.json", transfer)
        # The service shows them; beside the adapter they travel with it.
        for name in ("evaluation_results.json", "transfer.json") if run.adapter("finetuned").is_dir() else ():
            write_text(run.adapter("finetuned") / name, (run.folder / name).read_text(encoding="utf-8"))
        figures = write_all_figures(run.folder)
        run.terminal.say(f"  {len(figures)} figures")

    read = [*tables, log, *others, results]
    inputs = [config.evaluation.bootstrap_samples, config.seed, checksums_of(run.folder.parent, read)]
    return Step("transfer", inputs, [run.folder / name for name in ("transfer.json", ITEM_ANALYSIS_FILE)], work)


def report_step(run: Run) -> Step:
    """Write up what the run found."""
    check_finished(run.folder)
    adapter = run.adapter("finetuned")

    def work() -> None:
        report = write_report(run.folder, adapter)
        met = report.conclusion.success_criteria_met.values()
        run.terminal.say(f"  {sum(met)} of {len(met)} success criteria met")

    read = [*RECORD_FILES, *FURTHER_FILES, PUBLICATION_FILE, PROBES_FILE, *FIGURES.values()]
    beside = [adapter / CALIBRATION_FILE, adapter / ADAPTER_WEIGHTS]
    others = [run.folder.parent / run.config.with_seed(seed).run_name for seed in run.config.further_seeds]
    wanted_of_others = ("config.yaml", "data_audit.json", "evaluation_results.json")
    seeds = [checksums_of(other, [other / name for name in wanted_of_others]) for other in others]
    inputs = [checksums_of(run.folder, [run.folder / name for name in read]), checksums_of(adapter, beside), seeds]
    outputs = [run.folder / name for name in REPORT_FILES]
    return Step("report", inputs, outputs, work, measures=False)


def run_all(run: Run) -> tuple[EvaluationResults, TransferResults]:
    """All steps in order, skipping what is up to date; returns what the run came to.

    Further seeds come before the report, which shows them, and are part of a transfer analysis that is made anew.
    """
    run.execute(words_step(run))
    run.execute(data_step(run))
    run.execute(train_step(run, "finetuned"))
    for control in run.config.training.controls:
        run.execute(train_step(run, ROLE_OF_CONTROL[control]))
    run.execute(calibrate_step(run, run.adapter("finetuned")))
    run.execute(evaluate_step(run, run_adapters(run)))
    run.execute(transfer_step(run))
    recorded = run.folder / "config.yaml"
    if processes.is_main() and (run.config.further_seeds or load_config(recorded).further_seeds):
        # Every step is that of this configuration, even where all were up to date before it named other further seeds.
        write_text(recorded, dump_config(run.config))
    for seed in run.config.further_seeds:
        other = Run(run.config.with_seed(seed), run.terminal)
        other.base = run.base  # found once: its weights are checksummed
        run.terminal.say(f"Once more with training seed {seed}, in {other.folder}:")
        run_all(other)
    if run.config.further_seeds:
        run.execute(transfer_step(run))
    run.execute(report_step(run))
    return (
        read_results(run.folder / "evaluation_results.json", EvaluationResults),
        read_results(run.folder / "transfer.json", TransferResults),
    )
