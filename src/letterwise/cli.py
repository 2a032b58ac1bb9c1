"""The command line: reads options, calls the pipeline, prints what came out.

Wires, decides nothing.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from letterwise import __version__
from letterwise.config import load_config, override
from letterwise.errors import LetterwiseError
from letterwise.export_commands import add_export_commands
from letterwise.probe_commands import add_probe_commands
from letterwise.publish_cli import app as publish_app
from letterwise.report_commands import add_report_commands
from letterwise.reporting.console import Terminal
from letterwise.sweep_commands import add_sweep_commands

if TYPE_CHECKING:
    from letterwise.run_folder import Run

# Read by the library when it is imported, which the commands do.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

EXIT_BAD_INPUT = 2

app = typer.Typer(
    name="letterwise",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Does teaching a language model to spell make it better at letter counts and positions it was never trained "
    "on? `letterwise run` answers; the other commands are its steps, each of which can be run alone.",
    rich_markup_mode="markdown",
)
app.add_typer(publish_app, name="publish")


class TaskChoice(StrEnum):
    """What `evaluate` asks."""

    SPELLING = "spelling"
    POSITION_COUNT = "position_count"
    ALL = "all"


class SplitChoice(StrEnum):
    """Which held-out words `evaluate` asks about."""

    VALIDATION = "validation"
    TEST = "test"


class ControlChoice(StrEnum):
    """Control adapters that `train` knows."""

    SHUFFLED = "shuffled"
    FORMAT_ONLY = "format_only"
    RANDOM_LABEL = "random_label"
    CEILING = "ceiling"


ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Experiment YAML; configs/ holds one for each real use.")
]
BaseOption = Annotated[
    str | None,
    typer.Option("--base-model", help="Hub id, folder, embedded or gemma; overrides the configuration."),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Overrides the configuration's seed.")]
NameOption = Annotated[str | None, typer.Option("--run-name", help="Overrides the configuration's run_name.")]
DEFAULT_CONFIG = Path("configs/experiment_config.yaml")


def _open(config: Path, base_model: str | None, seed: int | None, run_name: str | None) -> Run:
    given = {"base_model": base_model, "seed": seed, "run_name": run_name}
    settings = override(load_config(config), {key: value for key, value in given.items() if value is not None})
    # PyTorch takes seconds to import: neither --help nor a mistake in the configuration should wait for it.
    from letterwise.run_folder import Run

    return Run(settings)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"letterwise {__version__}")
        raise typer.Exit


@app.command()
def words(
    config: ConfigOption = DEFAULT_CONFIG,
    base_model: BaseOption = None,
    seed: SeedOption = None,
    run_name: NameOption = None,
) -> None:
    """Extract the letter tokens of the base model's vocabulary, and draw held-out dictionary words.

    Writes words/tokens.json, words/held_out_words.json and a figure of token lengths, and prints their table.
    """
    run_ = _open(config, base_model, seed, run_name)
    from letterwise.data.word_lists import read_words
    from letterwise.pipeline import words_step
    from letterwise.words.vocabulary import token_table

    run_.execute(words_step(run_))
    tokens, _, _ = read_words(run_.words_folder)
    counts = token_table(tokens)
    table = Table("letters", *(" ".join(column).strip() for column in counts.columns), title="Letter tokens")
    for length, row in counts.iterrows():
        table.add_row(str(length), *(f"{value:,}" for value in row))
    run_.terminal.console.print(table)
    run_.terminal.say(f"Written to {run_.words_folder}")


@app.command()
def data(
    config: ConfigOption = DEFAULT_CONFIG,
    base_model: BaseOption = None,
    seed: SeedOption = None,
    run_name: NameOption = None,
) -> None:
    """Build the spelling texts and the questions, and prove that nothing leaks.

    Writes `data/spelling/*.parquet`, `data/position_count/*.parquet` and data_audit.json. A build that would leak fails
    and names the word or text.
    """
    run_ = _open(config, base_model, seed, run_name)
    from letterwise.pipeline import data_step, words_step

    run_.execute(words_step(run_))
    run_.execute(data_step(run_))
    run_.terminal.say(f"Written to {run_.data_folder}; audit in {run_.folder / 'data_audit.json'}")


@app.command()
def train(
    config: ConfigOption = DEFAULT_CONFIG,
    control: Annotated[
        ControlChoice | None,
        typer.Option("--control", help="Train that control adapter instead of the tuned one (docs/method.md)."),
    ] = None,
    base_model: BaseOption = None,
    seed: SeedOption = None,
    run_name: NameOption = None,
) -> None:
    """Fine-tune a LoRA adapter on spelling only; an interrupted training goes on where it stopped.

    Writes checkpoints/<run_name>/finetuned/{last,best}, or those of the control, and training_log.jsonl.
    """
    run_ = _open(config, base_model, seed, run_name)
    from letterwise.pipeline import data_step, train_step, words_step
    from letterwise.training.train import ROLE_OF_CONTROL

    run_.execute(words_step(run_))
    run_.execute(data_step(run_))
    role = ROLE_OF_CONTROL[control.value] if control else "finetuned"
    run_.execute(train_step(run_, role))
    run_.terminal.say(f"Adapter: {run_.adapter(role)}")


@app.command()
def evaluate(
    config: ConfigOption = DEFAULT_CONFIG,
    task: Annotated[TaskChoice, typer.Option("--task", help="What to ask.")] = TaskChoice.ALL,
    model: Annotated[
        str | None, typer.Option("--model", help="Evaluate this model (as for --base-model) as it is.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="Evaluate this adapter instead of the run's own.")
    ] = None,
    split: Annotated[SplitChoice | None, typer.Option("--split", help="Overrides evaluation.split.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="At most this many words, and questions of each type.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Results folder; by default the run's, or a part of it when options differ."),
    ] = None,
    seed: SeedOption = None,
    run_name: NameOption = None,
) -> None:
    """Ask base, tuned and control model to spell, count and index, in every answer mode.

    Needs the run's words and data. Writes predictions.parquet for each task and evaluation_results.json; an
    interrupted evaluation goes on where it stopped. Choose on `--split validation`; look at test words once.
    """
    run_ = _open(config, model, seed, run_name)
    from letterwise.evaluation_steps import evaluate_step, run_adapters
    from letterwise.reporting.terminal_tables import print_results
    from letterwise.results import TASKS, EvaluationResults, ModelRole, read_results

    evaluation = run_.config.evaluation.model_dump()
    given = {"split": split and split.value, "limit": limit}
    evaluation.update({key: value for key, value in given.items() if value is not None})
    run_.config = override(run_.config, {"evaluation": evaluation})
    tasks = TASKS if task is TaskChoice.ALL else tuple(name for name in TASKS if name == task.value)
    adapters: dict[ModelRole, Path | None] = {"base": None}
    if adapter:
        adapters["finetuned"] = adapter
    elif not model:
        adapters = run_adapters(run_)
    if output is None and (model or adapter or split or limit or tasks != TASKS):
        parts = [task.value, run_.config.evaluation.split, str(limit or "all")]
        parts += [Path(model).name] if model else []
        parts += adapter.resolve().parts[-3:] if adapter else []  # such as quick, finetuned, best
        output = run_.folder / "evaluations" / "-".join(parts)
    run_.execute(evaluate_step(run_, adapters, tasks, output))
    folder = output or run_.folder
    print_results(run_.terminal, read_results(folder / "evaluation_results.json", EvaluationResults))
    run_.terminal.say(f"Written to {folder}")


@app.command()
def transfer(
    config: ConfigOption = DEFAULT_CONFIG,
    base_model: BaseOption = None,
    seed: SeedOption = None,
    run_name: NameOption = None,
) -> None:
    """Analyse how far spelling carried over and which items are answered right, and draw the figures.

    Needs the run's evaluation. Writes transfer.json, item_analysis.json and the figures of both tasks.
    """
    run_ = _open(config, base_model, seed, run_name)
    from letterwise.pipeline import transfer_step
    from letterwise.reporting.terminal_tables import transfer_table
    from letterwise.results import TransferResults, read_results

    run_.execute(transfer_step(run_))
    results = read_results(run_.folder / "transfer.json", TransferResults)
    run_.terminal.console.print(transfer_table(results))
    run_.terminal.say(f"Written to {run_.folder}: transfer.json, item_analysis.json")


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    base_model: BaseOption = None,
    seed: SeedOption = None,
    run_name: NameOption = None,
) -> None:
    """Do everything: words, data, training, control, evaluation, transfer, report; then print the result.

    Writes results/<run_name>/ and checkpoints/<run_name>/. Steps whose inputs did not change are skipped, and an
    interrupted one goes on where it stopped. With further_seeds in the configuration, everything is done once more for
    each of them, in a run of its own.
    """
    run_ = _open(config, base_model, seed, run_name)
    from letterwise.pipeline import run_all
    from letterwise.reporting.over_seeds import read_seeds
    from letterwise.reporting.summary import conclusion
    from letterwise.reporting.terminal_tables import print_results, seed_table

    results, transfer_results = run_all(run_)
    print_results(run_.terminal, results)
    if run_.config.further_seeds:
        run_.terminal.console.print(seed_table(read_seeds(run_.folder, run_.config)))
    run_.terminal.say(conclusion(results, transfer_results))
    run_.terminal.say(f"Everything is in {run_.folder}")


@app.command()
def merge(
    adapter: Annotated[Path, typer.Argument(help="Adapter folder, such as checkpoints/quick/finetuned/best.")],
    to: Annotated[Path, typer.Argument(help="Folder to write the stand-alone model to.")],
    base_model: Annotated[str, typer.Option("--base-model", help="What the adapter was trained on.")] = "embedded",
    revision: Annotated[str | None, typer.Option("--revision", help="Of a Hub base model.")] = None,
) -> None:
    """Merge an adapter into its base model: one folder that transformers loads by itself.

    The merged weights are float32, so that its greedy answers are those of base plus adapter.
    """
    from letterwise.adapters import merge_adapter
    from letterwise.models import resolve_base

    merge_adapter(resolve_base(base_model, revision), adapter, to)
    Terminal().say(f"Merged model: {to}")


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option("--model", help="Adapter or model folder, or Hub id; overrides MODEL_PATH.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Overrides HOST.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Overrides PORT.")] = None,
) -> None:
    """Serve a model over HTTP: playground on /, documentation on /docs, metrics on /metrics.

    Other settings are environment variables (docs/api.md). SIGHUP reloads the model; SIGTERM drains, then stops.
    """
    from letterwise.api.server import serve as run_server
    from letterwise.api.settings import load_settings

    given = {"model_path": model, "host": host, "port": port}
    run_server(load_settings(**{name: value for name, value in given.items() if value is not None}))


@app.command()
def doctor(
    results_folder: Annotated[Path, typer.Option("--results-folder", help="Where runs will be written.")] = Path(
        "results"
    ),
) -> None:
    """Say what this machine can do for letterwise, and what it lacks.

    Looks at processor, memory, disk, GPU, compiler, network and keys; writes nothing, and shows no key's value.
    """
    from letterwise.doctor import examine

    marks = {"good": "[green]✓[/]", "lacking": "[yellow]![/]", "info": "·"}
    table = Table("", "what", "found", "note", title="letterwise doctor", show_lines=False)
    for finding in examine(results_folder):
        table.add_row(marks[finding.verdict], finding.what, finding.found, finding.remedy)
    Terminal().console.print(table)


add_sweep_commands(app)
add_probe_commands(app)
add_report_commands(app)
add_export_commands(app)


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    try:
        app()
    except LetterwiseError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
