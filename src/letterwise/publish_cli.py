"""The commands of `letterwise publish`: read options, call what publishes, print what came out.

Wires, decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from letterwise.config import load_config
from letterwise.errors import LetterwiseError
from letterwise.reporting.console import Terminal

if TYPE_CHECKING:
    from letterwise.publication import RepositoryKind, Upload
    from letterwise.publishing.sources import FinishedRun

EXIT_DIFFERENT = 1

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Publish a finished run's model and data to the Hugging Face Hub, and verify what arrived.",
)

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Experiment YAML; configs/ holds one for each real use.")
]
NameOption = Annotated[str | None, typer.Option("--run-name", help="Overrides the configuration's run_name.")]
ToOption = Annotated[
    Path | None, typer.Option("--to", help="Folder to make; by default dist/ and the repository's name.")
]
LicenseOption = Annotated[str | None, typer.Option("--license", help="As the Hub spells it, such as apache-2.0.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="A further tag; may be given more than once.")]
PublicOption = Annotated[
    bool, typer.Option("--public/--private", help="Of a repository that is new; one that exists stays as it is.")
]
MessageOption = Annotated[str, typer.Option("--message", help="First line of the commit.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Make the folder, list its files, upload nothing.")]
MergedOption = Annotated[bool, typer.Option("--merged", help="Also publish the stand-alone model, in merged/.")]
SourceOption = Annotated[
    str | None,
    typer.Option("--source-url", help="Where pip gets letterwise, such as git+https://…; the card says so."),
]
DEFAULT_CONFIG = Path("configs/experiment_config.yaml")
DEFAULT_MESSAGE = "Publish with letterwise"


@dataclass
class _Order:
    """What is wanted of one repository."""

    kind: RepositoryKind
    run: FinishedRun
    repo_id: str | None
    to: Path | None = None
    dataset_id: str | None = None
    merged: bool = False
    license_id: str | None = None
    tags: Sequence[str] = ()
    public: bool = False
    message: str = DEFAULT_MESSAGE
    dry_run: bool = False
    source_url: str | None = None
    terminal: Terminal = field(default_factory=Terminal)


def _open(config: Path, run_name: str | None) -> FinishedRun:
    settings = load_config(config)
    folder = settings.results_folder / (run_name or settings.run_name)
    if not (folder / "config.yaml").is_file():
        raise LetterwiseError(f"{folder} holds no run; finish one first with `letterwise run`.")
    from letterwise.models import resolve_base
    from letterwise.packaged_models import PACKAGED
    from letterwise.publishing.sources import FinishedRun
    from letterwise.results import Environment, read_results
    from letterwise.run_folder import Run

    used = Run(load_config(folder / "config.yaml"))
    name = used.config.base_model
    pinned = read_results(folder / "environment.json", Environment).base_revision
    on_hub = name not in PACKAGED and not Path(name).expanduser().is_dir()
    base = resolve_base(name, pinned if on_hub else None)
    return FinishedRun(used.config.run_name, folder, used.adapter("finetuned"), name, base)


@app.command()
def model(
    config: ConfigOption = DEFAULT_CONFIG,
    run_name: NameOption = None,
    repo_id: Annotated[
        str | None, typer.Option("--repo-id", help="Upload there, such as your-name/letterwise-quick.")
    ] = None,
    dataset_id: Annotated[
        str | None, typer.Option("--dataset-id", help="The published dataset; without it there are no .eval_results.")
    ] = None,
    merged: MergedOption = False,
    to: ToOption = None,
    license_id: LicenseOption = None,
    source_url: SourceOption = None,
    tag: TagOption = None,
    public: PublicOption = False,
    message: MessageOption = DEFAULT_MESSAGE,
    dry_run: DryRunOption = False,
) -> None:
    """Bundle the tuned adapter with its card, results and stored predictions; upload and verify it with `--repo-id`.

    The token comes from HF_TOKEN or from `hf auth login`. Exit code 1: what arrived is not what was measured.
    """
    _check_names({"--repo-id": repo_id, "--dataset-id": dataset_id}, source_url)
    run = _open(config, run_name)
    order = _Order(
        *("model", run, repo_id, to, dataset_id, merged, license_id, tag or (), public, message, dry_run, source_url)
    )
    _finish([_carry_out(order)])


@app.command()
def dataset(
    config: ConfigOption = DEFAULT_CONFIG,
    run_name: NameOption = None,
    repo_id: Annotated[
        str | None, typer.Option("--repo-id", help="Upload there, such as your-name/letterwise-quick-data.")
    ] = None,
    to: ToOption = None,
    license_id: LicenseOption = None,
    tag: TagOption = None,
    public: PublicOption = False,
    message: MessageOption = DEFAULT_MESSAGE,
    dry_run: DryRunOption = False,
) -> None:
    """Bundle the data with its card and eval.yaml; upload and verify it with `--repo-id`.

    The token comes from HF_TOKEN or from `hf auth login`. Exit code 1: what arrived is not what was built.
    """
    _check_names({"--repo-id": repo_id})
    run = _open(config, run_name)
    order = _Order("dataset", run, repo_id, to, None, False, license_id, tag or (), public, message, dry_run)
    _finish([_carry_out(order)])


@app.command("all")
def both(
    repo_id: Annotated[str, typer.Option("--repo-id", help="Of the model, such as your-name/letterwise-quick.")],
    dataset_id: Annotated[str, typer.Option("--dataset-id", help="Of the data, such as your-name/letterwise-data.")],
    config: ConfigOption = DEFAULT_CONFIG,
    run_name: NameOption = None,
    merged: MergedOption = False,
    license_id: LicenseOption = None,
    source_url: SourceOption = None,
    tag: TagOption = None,
    public: PublicOption = False,
    message: MessageOption = DEFAULT_MESSAGE,
) -> None:
    """Upload and verify a finished run's data, then its model, which names the data at that commit.

    `--license` is the model's; the data stays under the licences of its sources. Exit code 1 as of the single commands.
    """
    _check_names({"--repo-id": repo_id, "--dataset-id": dataset_id}, source_url)
    run = _open(config, run_name)
    run.check(merged, license_id)  # before anything is uploaded
    tags = tag or ()
    data_done = _carry_out(_Order("dataset", run, dataset_id, tags=tags, public=public, message=message))
    order = _Order(
        "model", run, repo_id, None, dataset_id, merged, license_id, tags, public, message, False, source_url
    )
    _finish([data_done, _carry_out(order)])


@app.command("verify")
def verify_(
    repository: Annotated[str, typer.Argument(help="Repository on the Hub, or a bundle's folder.")],
    kind: Annotated[str | None, typer.Option("--type", help="model or dataset, where both have that name.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Commit, tag or branch.")] = None,
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="Where the adapter's base model was a local folder.")
    ] = None,
) -> None:
    """Download into an empty cache and check files, card, figures, stored predictions or rows.

    Exit code 1, and what differs, if anything does.
    """
    if kind not in (None, "model", "dataset"):
        raise LetterwiseError(f"--type must be model or dataset, not {kind}.")
    terminal = Terminal()
    folder = Path(repository).expanduser()
    local = folder.is_dir()
    if not local:
        _check_names({"REPOSITORY": repository})
    from letterwise.publishing.verify import downloaded, kind_of, verify

    if local:
        checks = verify(folder, base_model, on_hub=False, say=terminal.say)
    else:
        chosen: RepositoryKind = kind or kind_of(repository)  # type: ignore[assignment]
        with downloaded(repository, chosen, revision) as files:
            checks = verify(files, base_model, on_hub=True, say=terminal.say)
    wrong = sum(len(check.problems) for check in checks)
    terminal.say(f"{repository}: {'verified' if not wrong else f'not verified, {wrong} problems'}")
    if wrong:
        raise typer.Exit(EXIT_DIFFERENT)


def _check_names(names: dict[str, str | None], source_url: str | None = None) -> None:
    from letterwise.publication import check_repo_id, check_source_url

    for option, name in names.items():
        check_repo_id(name, option)
    check_source_url(source_url)


def _carry_out(order: _Order) -> Upload | None:
    """Make the bundle and, where a repository is named, upload and verify it."""
    from letterwise.publishing.bundle import bundle_model
    from letterwise.publishing.dataset_bundle import bundle_dataset
    from letterwise.publishing.publish import publish, published_revision

    run, say = order.run, order.terminal.say
    default = f"letterwise-{run.name}" + ("-data" if order.kind == "dataset" else "")
    to = order.to or Path("dist") / (order.repo_id or default).rpartition("/")[2]
    say(f"bundling {order.kind}: …")
    if order.kind == "model":
        bundle_model(
            *(run, to, order.repo_id, order.dataset_id, published_revision(run, order.dataset_id)),
            merged=order.merged,
            license_id=order.license_id,
            tags=order.tags,
            source_url=order.source_url,
        )
    else:
        bundle_dataset(run, to, order.repo_id, license_id=order.license_id, tags=order.tags)
    if order.repo_id is None or order.dry_run:
        _list(to, order.terminal)
        say(f"Bundle: {to}; nothing was uploaded")
        return None
    return publish(run, to, order.repo_id, order.kind, private=not order.public, message=order.message, say=say)


def _list(folder: Path, terminal: Terminal) -> None:
    from letterwise.publishing.verify import sizes_in

    table = Table("file", "bytes", title=str(folder))
    table.columns[1].justify = "right"
    sizes = sizes_in(folder)
    for name, size in sizes.items():
        table.add_row(name, f"{size:,}")
    table.add_row(f"{len(sizes)} files", f"{sum(sizes.values()):,}", end_section=True)
    terminal.console.print(table)


def _finish(uploads: Sequence[Upload | None]) -> None:
    terminal = Terminal()
    done = [upload for upload in uploads if upload]
    for upload in done:
        what = "uploaded and verified" if upload.uploaded_to_hugging_face else "uploaded, but NOT verified"
        terminal.say(f"{upload.kind} {upload.repo_id}: {what} ({upload.url}, commit {upload.commit[:12]})")
    if not all(upload.uploaded_to_hugging_face for upload in done):
        raise typer.Exit(EXIT_DIFFERENT)
