"""Finished pieces of an evaluation on disk, and the one table that they make.

An interrupted evaluation goes on with the pieces that are missing, and several processes divide them among themselves:
a piece holds the same items whoever answers them. Nothing here holds more than some pieces in memory. Knows columns;
knows nothing about models, or about what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from letterwise import processes
from letterwise.files import atomic_path

PIECE = 250
"""Items answered between two saves."""
_ROWS_AT_A_TIME = 10_000

Rows = list[dict[str, Any]]


def answer_in_pieces(
    total: int,
    path_of: Callable[[range], Path],
    rows: Callable[[range], Rows],
    schema: pa.Schema,
    on_items: Callable[[int], None],
    on_end: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Make the pieces that are not there yet, each process its share, and wait until all are there.

    Args:
        total: number of items.
        path_of: where the piece with these items belongs.
        rows: answers these items.
        schema: of the rows.
        on_items: called with the number of items just finished, or found finished, by this process.
        on_end: called in every process once its share is done, unless no piece was missing.

    Returns:
        The pieces in the order of the items.
    """
    pieces = [range(start, min(start + PIECE, total)) for start in range(0, total, PIECE)]
    paths = [path_of(piece) for piece in pieces]
    there = processes.decided_by_main(lambda: [path.is_file() for path in paths])
    for piece in processes.share([piece for piece, done in zip(pieces, there, strict=True) if done]):
        on_items(len(piece))
    missing = [(piece, path) for piece, path, done in zip(pieces, paths, there, strict=True) if not done]
    for piece, path in processes.share(missing):
        table = pa.Table.from_pylist(rows(piece), schema=schema)
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary)
        on_items(len(piece))
    if missing:
        on_end()
    processes.wait_for_everyone()
    return paths


def table_schema(columns: Mapping[str, str]) -> pa.Schema:
    """The parquet columns that pandas reads as these types."""
    return pa.Schema.from_pandas(pd.DataFrame(columns=list(columns)).astype(dict(columns)), preserve_index=False)


def write_table(path: Path, pieces: Sequence[Path], columns: Mapping[str, str]) -> None:
    """Put pieces together into one parquet file, atomically."""
    schema = table_schema(columns)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for table in _some_at_a_time(pieces, schema):
            writer.write_table(table)


def read_table(pieces: Sequence[Path], columns: Mapping[str, str]) -> pd.DataFrame:
    """Pieces as one table in memory."""
    schema = table_schema(columns)
    tables = [pq.read_table(piece, columns=schema.names).cast(schema) for piece in pieces]
    table: pd.DataFrame = (pa.concat_tables(tables) if tables else schema.empty_table()).to_pandas()
    return table


def _some_at_a_time(pieces: Iterable[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for piece in pieces:
        waiting.append(pq.read_table(piece, columns=schema.names).cast(schema))
        if sum(map(len, waiting)) >= _ROWS_AT_A_TIME:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


CATEGORIES = (
    *("model", "mode", "subset", "question_type"),
    *("letter", "position_class", "answer", "predicted", "generated_answer"),
)
NUMBERED = ("id", "word")


def read_columns(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Some columns of a table in as little memory as they need, for tables of millions of rows.

    Texts of which there are few become categories, and in the place of an id or a word stands a number, equal where
    they are equal.
    """
    names = list(columns)
    categories = [name for name in CATEGORIES if name in names]
    numbered = [name for name in NUMBERED if name in names]
    table = pq.read_table(path, columns=names, read_dictionary=[*categories, *numbered])
    for name in numbered:
        codes = table[name].unify_dictionaries().chunks
        indices = pa.chunked_array([chunk.indices for chunk in codes], pa.int32())
        table = table.set_column(table.schema.get_field_index(name), name, indices)
    types = {pa.large_string(): pd.StringDtype(), pa.string(): pd.StringDtype()}
    read: pd.DataFrame = table.to_pandas(
        self_destruct=True, split_blocks=True, ignore_metadata=True, types_mapper=types.get
    )
    return read
