"""The spellings that one model wrote, by word, on disk: a million of them would not fit into memory.

Built from the finished pieces by the main process and read by all. Knows nothing about models.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from letterwise.engines.engine import Generation
from letterwise.files import atomic_path

LETTERS_AND_OTHER = (*"abcdefghijklmnopqrstuvwxyz", "")
"""Whose probabilities are kept of each written token, in this order."""
_MOST_PARAMETERS = 500


def build_store(path: Path, pieces: Sequence[Path]) -> None:
    """Write the store from pieces with `word`, `generated_text`, `token_texts` and `letter_probabilities`."""
    with atomic_path(path) as temporary, closing(sqlite3.connect(temporary)) as connection, connection:
        connection.execute("CREATE TABLE spelling (word TEXT PRIMARY KEY, text TEXT, tokens TEXT, probabilities BLOB)")
        for piece in pieces:
            connection.executemany("INSERT OR REPLACE INTO spelling VALUES (?, ?, ?, ?)", _records(piece))


def _records(piece: Path) -> Iterator[tuple[str, str, str, bytes]]:
    columns = ["word", "generated_text", "token_texts", "letter_probabilities"]
    for row in pq.read_table(piece, columns=columns).to_pylist():
        probabilities = np.asarray(row["letter_probabilities"], dtype=np.float64)
        yield row["word"], row["generated_text"], json.dumps(row["token_texts"]), probabilities.tobytes()


def read_spellings(path: Path, words: Collection[str]) -> dict[str, Generation]:
    """The spellings of some words."""
    found: dict[str, Generation] = {}
    wanted = sorted(set(words))
    # Nobody writes to a finished store, so no lock is needed, which network file systems do badly.
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        for start in range(0, len(wanted), _MOST_PARAMETERS):
            some = wanted[start : start + _MOST_PARAMETERS]
            places = ", ".join("?" * len(some))
            for row in connection.execute(f"SELECT * FROM spelling WHERE word IN ({places})", some):
                found[row[0]] = _generation(*row[1:])
    return found


def _generation(text: str, tokens: str, probabilities: bytes) -> Generation:
    steps: list[list[float]] = np.frombuffer(probabilities).reshape(-1, len(LETTERS_AND_OTHER)).tolist()
    by_letter: Any = tuple(dict(zip(LETTERS_AND_OTHER, step, strict=True)) for step in steps)
    return Generation(text, tuple(json.loads(tokens)), by_letter)
