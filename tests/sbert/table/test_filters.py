"""Filters find the same rows through every reader: pruning never loses a row.

A reader prunes by the statistics in the Delta log and by the bounds in the Parquet footers. Every column of the table and
every type of kept column is filtered through each reader, in the state after a refresh, a checkpoint and a compaction.
"""

import datetime as dt
import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, QueryBuilder
from deltalake.transaction import AddAction

from sbert.index.query_file import search_file
from sbert.sync.change_feed import write_changes
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.verify import verify_table
from tests.support.tables import objects_apart, texts, update

NON_BMP = "\U00020bb7"  # 𠮷: two surrogates in JSON escapes
LONG = "long-" * 300  # ids above 1,024 characters
NUM_ROWS = 6
KEPT = {
    "body": pl.String,
    "price": pl.Float64,
    "share": pl.Float32,
    "stock": pl.Int64,
    "year": pl.Int16,
    "sold": pl.Boolean,
    "day": pl.Date,
    "seen": pl.Datetime("us", "UTC"),
    "local": pl.Datetime("us"),
    "cost": pl.Decimal(10, 2),
    "raw": pl.Binary,
    "tags": pl.List(pl.String),
    "place": pl.Struct({"x": pl.Int64}),
    "nothing": pl.String,
}


class Filter(NamedTuple):
    """One condition, its SQL, and the rows of `NUM_ROWS` that it finds."""

    column: str
    operator: str
    value: Any
    num_rows: int


def source_rows() -> pl.DataFrame:
    day, moment = dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, 12, 0, 0, 500, tzinfo=dt.UTC)
    return pl.DataFrame(
        {
            "id": [f"{NON_BMP}0", f"{NON_BMP}1", LONG + "2", LONG + "3", "plain 4", f"z{NON_BMP}5"],
            "text": texts(0, NUM_ROWS),
            "body": [f"{LONG}{number}{NON_BMP}" for number in range(NUM_ROWS - 1)] + [None],
            "price": [0.5, None, float("nan"), 3.5, 4.5, float("inf")],
            "share": [0.5, 1.5, 2.5, 3.5, 4.5, None],
            "stock": [0, 1, 2, 3, None, 2**60],
            "year": [2020, 2021, 2022, 2023, 2024, None],
            "sold": [True, False, None, True, True, False],
            "day": [day + dt.timedelta(number) for number in range(NUM_ROWS - 1)] + [None],
            "seen": [moment + dt.timedelta(microseconds=number) for number in range(NUM_ROWS - 1)] + [None],
            "local": [(moment + dt.timedelta(number)).replace(tzinfo=None) for number in range(NUM_ROWS - 1)] + [None],
            "cost": [Decimal(f"{number}.25") for number in range(NUM_ROWS - 1)] + [None],
            "raw": [bytes([number]) for number in range(NUM_ROWS - 1)] + [None],
            "tags": [["a"], None, [], ["b"], ["c", NON_BMP], ["d"]],
            "place": [{"x": number} for number in range(NUM_ROWS)],
            "nothing": [None] * NUM_ROWS,
        },
        schema={"id": pl.String, "text": pl.String, **KEPT},
        strict=False,
    )


def filters(source: str) -> list[Filter]:
    moment = dt.datetime(2026, 1, 1, 12, 0, 0, 503, tzinfo=dt.UTC)
    return [
        Filter("id", "=", f"{NON_BMP}1", 1),
        Filter("id", "=", LONG + "3", 1),
        Filter("id", "=", f"z{NON_BMP}5", 1),
        Filter("id", ">=", NON_BMP, 2),
        Filter("id", "=", "absent", 0),
        Filter("source", "=", source, NUM_ROWS),
        Filter("num_tokens", ">=", 1, NUM_ROWS),
        Filter("truncated", "=", False, NUM_ROWS),
        Filter("body", "=", f"{LONG}3{NON_BMP}", 1),
        Filter("price", "<=", 3.5, 2),
        Filter("share", ">=", 2.5, 3),
        Filter("stock", ">=", 2, 3),
        Filter("year", ">=", 2022, 3),
        Filter("sold", "=", True, 3),
        Filter("day", ">=", dt.date(2026, 1, 3), 3),
        Filter("seen", ">=", moment, 2),
        Filter("local", ">=", moment.replace(tzinfo=None), 4),
        Filter("cost", ">=", Decimal("2.25"), 3),
    ]


def sql(condition: Filter) -> str:
    value = condition.value
    if isinstance(value, dt.datetime):
        kind = "timestamptz" if value.tzinfo else "timestamp"
        literal = f"{kind} '{value.isoformat(sep=' ')}'"
    elif isinstance(value, dt.date):
        literal = f"date '{value}'"
    else:
        literal = f"'{value}'" if isinstance(value, str) else str(value)
    return f'"{condition.column}" {condition.operator} {literal}'


def arrow_filter(condition: Filter) -> pc.Expression:
    column, value = ds.field(condition.column), condition.value
    return {"=": column == value, ">=": column >= value, "<=": column <= value}[condition.operator]


def polars_filter(condition: Filter) -> pl.Expr:
    column, value = pl.col(condition.column), pl.lit(condition.value)
    return {"=": column == value, ">=": column >= value, "<=": column <= value}[condition.operator]


def by_pyarrow(table: str, condition: Filter) -> int:
    return int(DeltaTable(table).to_pyarrow_dataset().to_table(filter=arrow_filter(condition)).num_rows)


def by_pandas(table: str, condition: Filter) -> int:
    return len(DeltaTable(table).to_pandas(filters=[(condition.column, condition.operator, condition.value)]))


def by_duckdb(table: str, condition: Filter) -> int:
    with duckdb.connect() as connection:
        connection.register("vectors", DeltaTable(table).to_pyarrow_dataset())
        count = connection.execute(f"select count(*) from vectors where {sql(condition)}").fetchone()
    assert count is not None
    return int(count[0])


def by_polars(table: str, condition: Filter, *, use_pyarrow: bool = False) -> int:
    return pl.scan_delta(table, use_pyarrow=use_pyarrow).filter(polars_filter(condition)).collect().height


def by_datafusion(table: str, condition: Filter) -> int:
    query = QueryBuilder().register("vectors", DeltaTable(table))
    return pa.table(
        query.execute(f"select id from vectors where {sql(condition).replace('timestamptz', 'timestamp')}")
    ).num_rows


def by_sbert(table: str, condition: Filter) -> int:
    return Table.open(table).scan().filter(polars_filter(condition)).collect().height


READERS: dict[str, Callable[[str, Filter], int]] = {
    "pyarrow": by_pyarrow,
    "pandas": by_pandas,
    "duckdb": by_duckdb,
    "polars": by_polars,
    "polars with pyarrow": partial(by_polars, use_pyarrow=True),
    "datafusion": by_datafusion,
    "sbert": by_sbert,
}


def wrong_answers(table: str, source: str) -> list[str]:
    wrong = []
    for reader, count in READERS.items():
        for condition in filters(source):
            num_rows = count(table, condition)
            if num_rows != condition.num_rows:
                shown = sql(condition)[:60]
                wrong.append(f"{reader}: {shown}: {num_rows} rows, expected {condition.num_rows}")
    for name, num_nulls in {"nothing": NUM_ROWS, "stock": 1, "embedding": 0, "text_hash": 0}.items():
        dataset = DeltaTable(table).to_pyarrow_dataset()
        num_nulls_by_reader = {
            "pyarrow": dataset.to_table(filter=ds.field(name).is_null()).num_rows,
            "polars": pl.scan_delta(table).filter(pl.col(name).is_null()).collect().height,
        }
        wrong += [
            f"{reader}: {name} is null: {rows} rows, expected {num_nulls}"
            for reader, rows in num_nulls_by_reader.items()
            if rows != num_nulls
        ]
    return wrong


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory: pytest.TempPathFactory, model: str) -> tuple[str, str]:
    """A table of one object whose name is not in the basic multilingual plane, and the object's URI."""
    folder = tmp_path_factory.mktemp("filters")
    (folder / "raw").mkdir()
    source = folder / f"raw/{NON_BMP} ä.parquet"
    source_rows().write_parquet(source)
    settings = objects_apart(source={"keep_columns": list(KEPT)})
    update(folder / "raw", folder / "table", model=model, settings=settings)
    return str(folder / "table"), str(source)


@pytest.fixture
def table(refreshed: tuple[str, str], tmp_path: Path) -> str:
    shutil.copytree(refreshed[0], tmp_path / "table")
    return str(tmp_path / "table")


def restore_bounds_of_earlier_versions(table: str) -> None:
    """Write the statistics that earlier versions of the library wrote: bounds of two columns, JSON with escapes."""
    delta = DeltaTable(table)
    adds = []
    for shard in Table.open(table).shards():
        rows = pl.read_parquet(f"{table}/{shard.name}")
        least, greatest = (
            rows.select("source", "id").min().row(0, named=True),
            rows.select("source", "id").max().row(0, named=True),
        )
        stats = {
            "numRecords": shard.num_rows,
            "minValues": least,
            "maxValues": greatest,
            "nullCount": {"source": 0, "id": 0},
        }
        adds.append(AddAction(shard.name, shard.num_bytes, {}, 0, False, json.dumps(stats)))
    delta.create_write_transaction(adds, mode="append", schema=delta.schema())


def test_filters_find_their_rows_through_every_reader(table: str, refreshed: tuple[str, str]) -> None:
    assert wrong_answers(table, refreshed[1]) == []


def test_filters_find_their_rows_after_a_checkpoint(table: str, refreshed: tuple[str, str]) -> None:
    DeltaTable(table).create_checkpoint()
    assert wrong_answers(table, refreshed[1]) == []


def test_filters_find_their_rows_after_compaction(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    for number in range(2):
        source_rows().slice(3 * number, 3).write_parquet(tmp_path / f"raw/{number}.parquet")
    settings = objects_apart(source={"keep_columns": list(KEPT)})
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    assert compact_table(str(tmp_path / "table")).num_shards == 1
    wrong = wrong_answers(str(tmp_path / "table"), str(tmp_path / "raw/0.parquet"))
    assert len(wrong) == len(READERS)
    assert all('"source" =' in answer and f"3 rows, expected {NUM_ROWS}" in answer for answer in wrong)


def test_rows_with_nan_are_found_by_readers_that_prune_by_footers(tmp_path: Path, model: str) -> None:
    """Bounds of floats leave NaN out: by them, DuckDB and pyarrow take every value for at most the greatest number."""
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    raw.mkdir()
    prices = pl.DataFrame({"text": texts(0, 3), "price": [1.0, 5.0, float("nan")]})
    prices.with_columns(pl.col("price").cast(pl.Float32).alias("share")).write_parquet(raw / "a.parquet")
    update(raw, table, model=model, settings=objects_apart(source={"keep_columns": ["price", "share"]}))
    (shard,) = DeltaTable(table).file_uris()
    dataset = DeltaTable(table).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        for name in ("price", "share"):
            for condition, num_rows in {"isnan({})": 1, "{} > 5": 1, "not {} <= 5": 1, "{} <= 5": 2}.items():
                query = f"select count(*) from read_parquet('{shard}') where {condition.format(name)}"
                assert connection.execute(query).fetchall() == [(num_rows,)], query
            assert dataset.to_table(filter=~(ds.field(name) <= 5)).num_rows == 1


def test_rows_with_nan_are_found_in_the_files_that_commands_write(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    raw.mkdir()
    settings = objects_apart(source={"keep_columns": ["price"]})
    for number, price in enumerate([1.0, float("nan")]):
        pl.DataFrame({"text": texts(number, 1), "price": [price]}).write_parquet(raw / f"{number}.parquet")
        update(raw, table, model=model, settings=settings)
    pl.DataFrame({"text": texts(0, 1), "price": [2.0]}).write_parquet(raw / "0.parquet")
    update(raw, table, settings=settings)
    (tmp_path / "queries.jsonl").write_text('{"text": "one"}\n')
    write_changes(table, 0, 2, str(tmp_path / "changes.parquet"))
    search_file(Table.open(table), str(tmp_path / "queries.jsonl"), str(tmp_path / "hits.parquet"))
    for name in ("changes", "hits"):
        query = f"select count(*) from read_parquet('{tmp_path}/{name}.parquet') where isnan(price)"
        assert duckdb.sql(query).fetchall() == [(1,)], name


@pytest.mark.parametrize("with_checkpoint", [False, True])
def test_the_next_refresh_mends_a_table_of_an_earlier_version_once(
    table: str, refreshed: tuple[str, str], with_checkpoint: bool
) -> None:
    restore_bounds_of_earlier_versions(table)
    if with_checkpoint:
        DeltaTable(table).create_checkpoint()
    assert len(wrong_answers(table, refreshed[1])) > len(KEPT)
    assert any("run `sbert refresh` or `sbert compact`" in finding for finding in verify_table(table).findings)
    raw, settings = Path(refreshed[1]).parent, objects_apart(source={"keep_columns": list(KEPT)})
    report = update(raw, table, settings=settings).report
    assert report.version == 2
    assert report.num_texts_encoded == 0
    assert wrong_answers(table, refreshed[1]) == []
    assert verify_table(table).findings == []
    assert update(raw, table, settings=settings).version == 2


def test_compact_mends_a_table_of_an_earlier_version_that_has_nothing_to_merge(
    table: str, refreshed: tuple[str, str]
) -> None:
    restore_bounds_of_earlier_versions(table)
    done = compact_table(table)
    assert done.version == 2
    assert done.num_shards_merged == 0
    assert wrong_answers(table, refreshed[1]) == []
    assert compact_table(table).version == 2
