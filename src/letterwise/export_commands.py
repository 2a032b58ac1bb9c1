"""The commands that write what a run made in the formats of other tools.

Wires, decides nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from letterwise.report_commands import finished_run
from letterwise.reporting.console import Terminal

if TYPE_CHECKING:
    from letterwise.models import BaseModel

ModelArgument = Annotated[Path, typer.Argument(help="Adapter folder, or the folder of a merged model.")]
FolderArgument = Annotated[Path, typer.Argument(help="Folder to write to; one that is there is replaced.")]
BaseOption = Annotated[str, typer.Option("--base-model", help="What an adapter was trained on.")]

exports = typer.Typer(no_args_is_help=True, help="Write what a run made in the formats of other tools.")


class SplitChoice(StrEnum):
    """Whose questions are exported."""

    VALIDATION = "validation"
    TEST = "test"


class Quantization(StrEnum):
    """Number types that CTranslate2 has for weights."""

    INT8 = "int8"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class GgufType(StrEnum):
    """Number types of the matrices in a GGUF file."""

    F32 = "f32"
    F16 = "f16"
    Q8_0 = "q8_0"


def add_export_commands(app: typer.Typer) -> None:
    """Add `export` to the command line."""
    app.add_typer(exports, name="export")


@exports.command("lm-eval")
def lm_eval(
    to: Annotated[Path, typer.Argument(help="Folder for the task files.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Experiment YAML of the run; not needed with --run-name.")
    ] = None,
    run_name: Annotated[str | None, typer.Option("--run-name", help="The run whose questions are exported.")] = None,
    split: Annotated[SplitChoice, typer.Option("--split", help="Whose questions.")] = SplitChoice.TEST,
) -> None:
    """Export a run's questions as tasks of the lm-evaluation-harness.

    Writes a task file and a JSON lines file for each type of question. The harness scores the same answers after the
    same prompt as mode `direct`, and finds the tasks by its option --include_path.
    """
    settings = finished_run(config, run_name)
    from letterwise.data.build import load_data, load_questions
    from letterwise.exporting.lm_eval_tasks import export_lm_eval

    _, questions = load_data(settings.run_folder / "data")
    names = export_lm_eval(load_questions(questions[split.value]), to)
    Terminal().say(f"Written to {to}; run them with: lm_eval --include_path {to} --tasks {','.join(names)}")


@exports.command("ctranslate2")
def ctranslate2(
    model: ModelArgument,
    to: FolderArgument,
    quantization: Annotated[Quantization, typer.Option("--quantization", help="Of the weights.")] = Quantization.INT8,
    base_model: BaseOption = "embedded",
) -> None:
    """Export a model for CTranslate2, which is quick on processors.

    An adapter is merged into its base first. Evaluate a quantized model before relying on it.
    """
    from letterwise.exporting.ctranslate2_model import export_ctranslate2

    with _merged(model, base_model) as merged:
        export_ctranslate2(merged, to, quantization.value)
    Terminal().say(f"CTranslate2 model: {to}")


@exports.command("gguf")
def gguf(
    model: ModelArgument,
    to: FolderArgument,
    weights: Annotated[GgufType, typer.Option("--type", help="Number type of the matrices.")] = GgufType.F16,
    base_model: BaseOption = "embedded",
) -> None:
    """Export a model as GGUF, for llama.cpp, LM Studio and Ollama.

    Writes model.gguf and, for each task, a Modelfile with the prompt that the model was evaluated with. An adapter is
    merged into its base first.
    """
    from letterwise.exporting.gguf_model import export_gguf

    with _merged(model, base_model) as merged:
        export_gguf(merged, to, weights.value)
    Terminal().say(f"GGUF model: {to}; for Ollama: ollama create letterwise -f {to / 'Modelfile'}")


@contextmanager
def _merged(model: Path, base_model: str) -> Iterator[BaseModel]:
    """A stand-alone model: the folder itself, or an adapter merged into its base for the time being."""
    from letterwise.adapters import merge_adapter
    from letterwise.models import resolve_base

    if not (model / "adapter_config.json").is_file():
        yield resolve_base(str(model))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "merged"
        merge_adapter(resolve_base(base_model), model, folder)
        yield resolve_base(str(folder))
