"""Filters: SQL over columns and literals; the same rows as a plain filter, and nothing else is accepted."""

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from sbert.errors import SettingsError
from sbert.index.row_filter import RowFilter
from sbert.index.search import search_table
from sbert.index.search_settings import SearchSettings
from sbert.index.version_rows import VersionRows
from sbert.table.delta import Table
from tests.support.made_tables import make_version


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = str(tmp_path_factory.mktemp("filter") / "table")
    return make_version(folder, {f"{at}": {str(row): at * 1_000 + row for row in range(200)} for at in range(3)})


@pytest.mark.parametrize(
    ("where", "plain"),
    [
        ("price < 10", pl.col("price") < 10),
        ("kind like 'kind 1%' and not flag", pl.col("kind").str.starts_with("kind 1") & ~pl.col("flag")),
        ("price between 1 and 3 or price is null", pl.col("price").is_between(1, 3) | pl.col("price").is_null()),
        ("day > date '2000-03-01'", pl.col("day") > pl.date(2000, 3, 1)),
        ("at < timestamp '2000-01-01 01:00:00'", pl.col("at") < pl.datetime(2000, 1, 1, 1, time_zone="UTC")),
        ("id in ('3', '150') and source = '2'", pl.col("id").is_in(["3", "150"]) & (pl.col("source") == "2")),
        ("cost >= 100.5", pl.col("cost") >= 100.5),
        ("num_tokens = 7 and truncated", (pl.col("num_tokens") == 7) & pl.col("truncated")),
        ("price > 1e9", pl.lit(value=False)),
    ],
)
def test_a_search_finds_what_it_finds_among_the_rows_of_a_plain_filter(
    table: Table, where: str, plain: pl.Expr
) -> None:
    frame = table.scan().collect().filter(plain)
    query = np.array([[0.5, 0.5, 0.5, 0.5]], np.float32)
    result = search_table(table, query, settings=SearchSettings(k=20, where=where))
    scores = np.array(frame["embedding"].to_list(), np.float32).reshape(-1, 4) @ query[0]
    np.testing.assert_allclose([hit.score for hit in result.hits()], np.sort(scores)[::-1][:20], atol=1e-6)
    row_filter = RowFilter(where, table)
    numbers = VersionRows(table).matching(row_filter)
    every = table.scan().select("id", "source", *table.kept_schema, "num_tokens", "truncated").collect()
    assert len(numbers) == frame.height
    assert row_filter.mask(every).arg_true().to_list() == numbers.tolist()
    assert result.way.num_rows_filtered == frame.height


def test_the_footer_has_bounds_of_kept_columns_that_cannot_hold_nan(table: Table) -> None:
    metadata = pq.ParquetFile(table.shard_uri(table.shards()[0].name)).metadata.row_group(0)
    bounded = {
        metadata.column(place).path_in_schema
        for place in range(metadata.num_columns)
        if metadata.column(place).statistics is not None and metadata.column(place).statistics.has_min_max
    }
    assert {"count", "day", "at", "cost"} <= bounded
    assert not bounded & {"price", "kind", "embedding.list.element", "text_hash"}


def test_only_row_groups_with_rows_of_the_filter_are_read(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    real = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, group: int, **options: object) -> object:
        groups.append(group)
        return real(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    rows = VersionRows(table)
    blocks = rows.vectors_at(rows.matching(RowFilter("source = '1' and id in ('3', '70', '71')", table)))
    assert [len(block.numbers_N) for block in blocks] == [1, 2]
    assert groups == [0, 1]  # of 3 shards with 4 row groups of 64 rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("price <", r"where: 'price <' is no expression of SQL"),
        ("colour = 'red'", r"no column 'colour' to filter by, it has id, source, .*kind"),
        ("kind = \"red\"", r"no column 'red' .* write texts in single quotes"),
        ("price", r"is of type Float64, expected true or false: add a comparison"),
        ("kind > 5", r"cannot be evaluated .*the columns are kind String"),
        ("day > '2020-01-01'", r"dates are written as date '2026-11-29'"),
        ("sum(price) > 3", r"holds a case or an aggregate, and a filter may hold only columns"),
        ("price = (select 1)", r"holds a subquery"),
        ("row_number() over () = 1", r"holds the function IntRange"),
        ("price > 1; drop table x", r"is no expression of SQL"),
    ],
)  # fmt: skip
def test_anything_but_columns_and_literals_is_refused_by_name(table: Table, where: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RowFilter(where, table)
