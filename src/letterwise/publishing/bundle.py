"""The bundle of a model: exactly the folder that is uploaded.

Everything in it is copied or derived from a finished run. Knows the layout of a run folder and of a bundle; knows
nothing about the Hub's protocol.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from transformers import GenerationConfig

from letterwise import __version__
from letterwise.adapters import ADAPTER_BASE_FILE, ADAPTER_WEIGHTS, CALIBRATION_FILE, merge_adapter
from letterwise.analysis_results import ITEM_ANALYSIS_FILE, RETENTION_FILE
from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, write_json
from letterwise.licences import LICENSE_FILE, write_terms
from letterwise.models import first_line, load_tokenizer, quiet
from letterwise.probe_results import PROBES_FIGURE, PROBES_FILE
from letterwise.publication import BUNDLE_FILE, PREDICTIONS_FILE, Bundle, checksums_in
from letterwise.publishing.predictions import load_engine, record_predictions
from letterwise.publishing.sources import FinishedRun
from letterwise.reporting.hub_results import eval_result_files
from letterwise.reporting.model_card import SPELLING_TOKENS, usage_code, write_model_card
from letterwise.reporting.report_record import read_probes, read_retention
from letterwise.results import TASKS, Environment, EvaluationResults, read_results

RUN_FILES = (
    *("evaluation_results.json", "transfer.json", "data_audit.json"),
    *("environment.json", "config.yaml", "training_log.jsonl"),
)
MERGED = "merged"


def bundle_model(
    run: FinishedRun,
    to: Path,
    repo_id: str | None = None,
    dataset_id: str | None = None,
    dataset_revision: str | None = None,
    *,
    merged: bool = False,
    license_id: str | None = None,
    tags: Sequence[str] = (),
    source_url: str | None = None,
) -> Bundle:
    """Make the folder of a model repository, in place of what was there.

    Args:
        run: a finished run.
        to: the folder, replaced as a whole when everything is ready.
        repo_id: where it will be uploaded; by default the folder's name stands for it.
        dataset_id: the published dataset, named in the card and in `.eval_results`.
        dataset_revision: its commit.
        merged: also add the stand-alone model.
        license_id: as the Hub spells it; by default that of the base model.
        tags: further tags of the card.
        source_url: where pip gets letterwise, for the card.

    Raises:
        LetterwiseError: the run is not finished, or the folder cannot be written.
    """
    results = run.check(merged, license_id)
    check_target(to)
    bundle = Bundle(
        kind="model",
        letterwise=__version__,
        repo_id=repo_id or to.name,
        run_name=run.name,
        license=run.license(license_id),
        base=run.published_base(),
        dataset_id=dataset_id,
        dataset_revision=dataset_revision,
        merged=merged,
        tags=list(tags),
        source_url=source_url,
    )
    with atomic_path(to) as folder:
        folder.mkdir()
        _copy_run(run, results, folder)
        _write_adapter(run, bundle, folder)
        if merged:
            merge_adapter(run.base, run.adapter, folder / MERGED)
        stored = record_predictions(load_engine(run.base, run.adapter), run.folder / "data", results.split)
        write_json(folder / PREDICTIONS_FILE, stored.model_dump(mode="json"))
        _write_licence(run, bundle, folder)
        date = read_results(run.folder / "environment.json", Environment).created
        for name, text in eval_result_files(bundle, results, date).items():
            (folder / ".eval_results").mkdir(exist_ok=True)
            (folder / ".eval_results" / name).write_text(text, encoding="utf-8")
        bundle = bundle.model_copy(update={"usage_output": run_usage(bundle, folder)})
        write_json(folder / BUNDLE_FILE, bundle.model_dump(mode="json"))
        write_model_card(folder)
        bundle = seal(folder, bundle)
    return bundle


def seal(folder: Path, bundle: Bundle) -> Bundle:
    """Write down the checksum of every file; nothing may change after this."""
    bundle = bundle.model_copy(update={"checksums": checksums_in(folder)})
    write_json(folder / BUNDLE_FILE, bundle.model_dump(mode="json"))
    return bundle


def run_usage(bundle: Bundle, folder: Path) -> str:
    """What the card's example prints, run on the bundle instead of the repository.

    Raises:
        LetterwiseError: it fails.
    """
    code = usage_code(bundle.model_copy(update={"repo_id": str(folder)}))
    printed = io.StringIO()
    try:
        with quiet(), redirect_stdout(printed):
            exec(compile(code, "usage.py", "exec"), {})
    except Exception as error:  # transformers and peft raise many kinds
        raise LetterwiseError(f"The card's example does not run: {first_line(error)}") from error
    return printed.getvalue().removesuffix("\n")


def check_target(to: Path) -> None:
    """Make sure that replacing a folder destroys nothing but an older bundle.

    Raises:
        LetterwiseError: it would.
    """
    if to.exists() and not (to / BUNDLE_FILE).is_file() and (not to.is_dir() or any(to.iterdir())):
        raise LetterwiseError(f"{to} exists and is no bundle; name another folder, or remove it.")


def _copy_run(run: FinishedRun, results: EvaluationResults, folder: Path) -> None:
    """The run's files, its analyses where they are of the published adapter, and its figures."""
    probes = read_probes(run.folder / PROBES_FILE, results)
    found = {
        ITEM_ANALYSIS_FILE: (run.folder / ITEM_ANALYSIS_FILE).is_file(),  # of the same step as transfer.json
        RETENTION_FILE: read_retention(run.folder / RETENTION_FILE, results),
        PROBES_FILE: probes,
        PROBES_FIGURE: probes,
    }
    for name in (*RUN_FILES, *(name for name, current in found.items() if current)):
        copy_file(run.folder / name, folder / name)
    for task in TASKS:
        for path in (run.folder / task / "figures").glob("*.png"):
            copy_file(path, folder / "figures" / path.name)


def _write_adapter(run: FinishedRun, bundle: Bundle, folder: Path) -> None:
    for name in (ADAPTER_WEIGHTS, ADAPTER_BASE_FILE, CALIBRATION_FILE):
        copy_file(run.adapter / name, folder / name)
    config = json.loads((run.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = bundle.base.hub_id or bundle.base.id
    config["revision"] = bundle.base.revision if bundle.base.kind == "hub" else None
    write_json(folder / "adapter_config.json", config)
    tokenizer = load_tokenizer(run.base)
    with quiet():
        tokenizer.save_pretrained(folder)
        GenerationConfig(
            do_sample=False,
            max_new_tokens=SPELLING_TOKENS,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ).save_pretrained(folder)


def _write_licence(run: FinishedRun, bundle: Bundle, folder: Path) -> None:
    """The licence's text where it is known, with the notice that it asks for, or the file that came with the base."""
    if not write_terms(bundle.license, folder) and (text := run.file_of_base(LICENSE_FILE)):
        copy_file(text, folder / LICENSE_FILE)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file of a run into a bundle.

    Raises:
        LetterwiseError: the run does not have it.
    """
    if not source.is_file():
        raise LetterwiseError(f"{source} does not exist; run `letterwise run` to the end first.")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
