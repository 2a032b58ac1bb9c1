from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from letterwise.evaluation import pieces
from letterwise.evaluation.metrics import summarise
from letterwise.evaluation.pieces import answer_in_pieces, read_columns, read_table, table_schema, write_table
from letterwise.results import MODEL_ROLES, POSITION_COUNT_PREDICTION_COLUMNS, SPELLING_PREDICTION_COLUMNS

MakeTables = Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
COLUMNS = (SPELLING_PREDICTION_COLUMNS, POSITION_COUNT_PREDICTION_COLUMNS)


def in_pieces(table: pd.DataFrame, columns: dict[str, str], folder: Path) -> list[Path]:
    """A table as an evaluation leaves it: a piece of every hundred rows."""
    paths = []
    for start in range(0, len(table), 100):
        paths.append(folder / f"{len(columns)}-{start:06d}.parquet")
        pq.write_table(pa.Table.from_pandas(table[start : start + 100], table_schema(columns), False), paths[-1])
    return paths


def test_pieces_make_the_table_that_pandas_would_have_written(make_tables: MakeTables, tmp_path: Path) -> None:
    for table, columns in zip(make_tables(), COLUMNS, strict=True):
        paths = in_pieces(table, columns, tmp_path)
        write_table(tmp_path / "predictions.parquet", paths, columns)
        assert_frame_equal(pd.read_parquet(tmp_path / "predictions.parquet"), table)
        assert_frame_equal(read_table(paths, columns), table)


def test_no_pieces_make_a_table_without_rows(tmp_path: Path) -> None:
    for columns in COLUMNS:
        write_table(tmp_path / "predictions.parquet", [], columns)
        found = pd.read_parquet(tmp_path / "predictions.parquet")
        assert (len(found), list(found.columns)) == (0, list(columns))


def test_a_summary_of_compact_columns_is_that_of_the_whole_tables(make_tables: MakeTables, tmp_path: Path) -> None:
    whole, compact = make_tables(), []
    for table, columns in zip(whole, COLUMNS, strict=True):
        write_table(tmp_path / "predictions.parquet", in_pieces(table, columns, tmp_path), columns)
        compact.append(read_columns(tmp_path / "predictions.parquet", [name for name in columns if name != "position"]))
    identities = {role: (role, "r1") for role in MODEL_ROLES}
    expected, found = (
        summarise(spelling, questions, identities, ["straw", "berry"], "test", 0, 100)
        for spelling, questions in (whole, compact)
    )
    assert found == expected
    assert found.model_dump_json() == expected.model_dump_json(), "in the same order too"
    sizes = [sum(table.memory_usage(deep=True).sum() for table in tables) for tables in (whole, compact)]
    assert sizes[1] < sizes[0] / 2


def test_only_missing_pieces_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 4)
    asked: list[range] = []
    finished: list[int] = []
    ends: list[int] = []

    def rows(piece: range) -> list[dict[str, object]]:
        asked.append(piece)
        return [{"number": number} for number in piece]

    def work() -> list[Path]:
        def path_of(piece: range) -> Path:
            return tmp_path / f"{piece.start}.parquet"

        return answer_in_pieces(
            10, path_of, rows, pa.schema({"number": pa.int64()}), finished.append, lambda: ends.append(len(asked))
        )

    paths = work()
    paths[1].unlink()
    assert work() == work() == paths
    assert ends == [3, 4], "once whatever was missing is answered"
    assert asked == [range(0, 4), range(4, 8), range(8, 10), range(4, 8)]
    assert sum(finished) == 30
    assert [row["number"] for path in paths for row in pq.read_table(path).to_pylist()] == list(range(10))
