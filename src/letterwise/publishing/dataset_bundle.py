"""The bundle of a data set: exactly the folder that is uploaded.

The parquet files of a run as they are, with a card, `eval.yaml` and figures. Knows the layout of a run folder; knows
nothing about the Hub's protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from letterwise import __version__
from letterwise.data.build import load_data
from letterwise.files import atomic_path, write_json
from letterwise.publication import BUNDLE_FILE, Bundle
from letterwise.publishing.bundle import check_target, copy_file, seal
from letterwise.publishing.sources import FinishedRun
from letterwise.reporting.dataset_card import CONFIGS, eval_yaml, write_dataset_card
from letterwise.reporting.dataset_figures import plot_answers, plot_word_lengths
from letterwise.reporting.templating import render
from letterwise.results import QUESTION_TYPES, DataAudit, read_results

RUN_FILES = ("data_audit.json", "config.yaml", "environment.json")
BUILT = ("spelling", "position_count")


def bundle_dataset(
    run: FinishedRun, to: Path, repo_id: str | None = None, *, license_id: str | None = None, tags: Sequence[str] = ()
) -> Bundle:
    """Make the folder of a dataset repository, in place of what was there.

    Args:
        run: a run whose data is built.
        to: the folder, replaced as a whole when everything is ready.
        repo_id: where it will be uploaded; by default the folder's name stands for it.
        license_id: as the Hub spells it; by default each source keeps its own.
        tags: further tags of the card.

    Raises:
        LetterwiseError: the data is missing, or the folder cannot be written.
    """
    check_target(to)
    audit = read_results(run.folder / "data_audit.json", DataAudit)
    spelling, _ = load_data(run.folder / "data")
    bundle = Bundle(
        kind="dataset",
        letterwise=__version__,
        repo_id=repo_id or to.name,
        run_name=run.name,
        license=license_id or "other",
        base=run.published_base(),
        tags=list(tags),
    )
    with atomic_path(to) as folder:
        folder.mkdir()
        for name in RUN_FILES:
            copy_file(run.folder / name, folder / name)
        for config in BUILT:
            for split in CONFIGS[config]:
                name = f"{config}/{split}.parquet"
                copy_file(run.folder / "data" / name, folder / name)
        for question_type in QUESTION_TYPES:
            (folder / question_type).mkdir()
            questions = of_type(pq.read_table(folder / "position_count/test.parquet"), question_type)
            with (folder / question_type / "test.parquet").open("wb") as stream:
                pq.write_table(questions, stream)
        (folder / "eval.yaml").write_text(eval_yaml(), encoding="utf-8")
        (folder / "LICENSE").write_text(render("dataset_license.txt.jinja", bundle=bundle), encoding="utf-8")
        copy_file(run.folder / "words/token_distribution.png", folder / "figures/token_distribution.png")
        words = {split: _words(spelling[split]) for split in CONFIGS["spelling"]}
        plot_word_lengths(words, folder / "figures/word_lengths.png")
        plot_answers(audit, folder / "figures/answers.png")
        write_json(folder / BUNDLE_FILE, bundle.model_dump(mode="json"))
        write_dataset_card(folder)
        bundle = seal(folder, bundle)
    return bundle


def _words(rows: Dataset) -> list[str]:
    """What the rows are about, without the strings of letters that are no words."""
    columns = [name for name in ("word", "exercise") if name in rows.column_names]  # older data has no exercises
    return [row["word"] for row in rows.select_columns(columns) if row.get("exercise") != "strings"]


def of_type(questions: pa.Table, question_type: str) -> pa.Table:
    """The questions of one type, in their order."""
    return questions.filter(pc.equal(questions["question_type"], question_type))
