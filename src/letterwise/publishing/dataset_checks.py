"""Does every row of a published data set load, and does it hold the truth?

Knows the columns of the data; knows nothing about the Hub.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import disable_progress_bars, enable_progress_bars, load_dataset

from letterwise.data.training_rows import PLAIN, rendered, true_letters
from letterwise.errors import LetterwiseError
from letterwise.files import sha256_file
from letterwise.publishing.dataset_bundle import of_type
from letterwise.reporting.dataset_card import CONFIGS
from letterwise.results import QUESTION_TYPES, DataAudit, read_results
from letterwise.tasks.letter_count import count_letter
from letterwise.tasks.letter_position import letter_at

Row = dict[str, Any]


def row_problems(folder: Path) -> list[str]:
    """What is wrong with the rows: not those that were audited, not loadable, or not true."""
    try:
        audit = read_results(folder / "data_audit.json", DataAudit)
        tables = {
            (config, split): pq.read_table(folder / config / f"{split}.parquet")
            for config, splits in CONFIGS.items()
            for split in splits
        }
    except (LetterwiseError, OSError, ValueError) as error:
        return [" ".join(str(error).split())]
    problems = [
        f"{name} is not the file that data_audit.json tells of"
        for name, checksum in audit.checksums.items()
        if sha256_file(folder / name) != checksum
    ]
    for (config, split), table in tables.items():
        rows = table.to_pylist()
        wrong = [(number, problem) for number, row in enumerate(rows) if (problem := _problem(config, row))]
        problems += [f"{config}/{split}.parquet, row {number} ({rows[number]['id']}): {what}" for number, what in wrong]
    test = tables["position_count", "test"]
    problems += [
        f"{name}/test.parquet is not the {name} questions of position_count/test.parquet"
        for name in QUESTION_TYPES
        if tables[name, "test"].to_pylist() != of_type(test, name).to_pylist()
    ]
    return problems + _loading_problems(folder, tables)


def _loading_problems(folder: Path, tables: dict[tuple[str, str], Any]) -> list[str]:
    """Load every config as users do, and compare it with the files row by row."""
    problems = []
    disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as cache:
            for config, splits in CONFIGS.items():
                loaded = load_dataset(str(folder), config, cache_dir=cache)
                if set(loaded) != set(splits):
                    problems.append(f"config {config} has the splits {', '.join(loaded)}, not {', '.join(splits)}")
                for split in set(splits) & set(loaded):
                    if loaded[split].to_list() != tables[config, split].to_pylist():
                        problems.append(f"load_dataset gives other rows of {config}/{split} than its file holds")
    except Exception as error:  # datasets raises many kinds for a broken card or file
        problems.append(f"load_dataset refuses it: {' '.join(str(error).split())}")
    finally:
        enable_progress_bars()
    return problems


def _problem(config: str, row: Row) -> str | None:
    """What is wrong with a row, if anything."""
    try:
        return _untruth(config, row)
    except (LetterwiseError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read ({' '.join(str(error).split())})"


def _untruth(config: str, row: Row) -> str | None:
    word = str(row["word"])
    if config == "spelling" and row.get("exercise", PLAIN) != PLAIN:
        return _exercise_problem(row)
    if config == "spelling":
        letters = re.sub(r"[\W\d_]+", "", row["completion"]).lower()
        if letters != word.lower():
            return f"the completion spells '{letters}', the word is '{word}'"
        if not row["text"].startswith(row["prompt"] + row["completion"]):
            return "the text is not prompt and completion"
        return None
    if word not in row["question"]:
        return f"the question does not name '{word}'"
    if row["question_type"] == "letter_count":
        truth = str(count_letter(word, row["letter"]))
    else:
        truth = letter_at(word, row["position"])
    return f"the answer is '{row['answer']}', the truth '{truth}'" if truth != row["answer"] else None


def _exercise_problem(row: Row) -> str | None:
    """Make the text again from the true letters of its words."""
    try:
        example = rendered(row, true_letters(row))
    except KeyError as error:
        return f"there is no exercise or wording {error}"
    if example is None:
        return f"the exercise '{row['exercise']}' does not suit the word '{row['word']}'"
    ((start, end),) = example.spans
    wanted = (example.text, example.text[:start], example.text[start:end])
    if wanted != (row["text"], row["prompt"], row["completion"]):
        return f"the text is '{row['text'].strip()}', and should be '{example.text.strip()}'"
    return None
