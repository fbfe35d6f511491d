"""The page of a map: it holds the rows, no text of a table can become part of it, and the same seed makes it again."""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbert.apply.map.colourings import ColouringKind, column_colouring, is_colourable
from sbert.apply.map.page_data import KINDS, SEPARATOR, TEXT, pack, text_column
from sbert.apply.map.run import MapPage, draw_map
from sbert.apply.map.settings import MapSettings
from sbert.apply.map.topics import name_groups
from sbert.derived.derived_table import DerivedTable
from sbert.errors import ColumnError, SettingsError, TableError
from sbert.table.delta import Table
from tests.support.made_tables import make_version
from tests.support.tables import update, write

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u0000&lt; {{ 7*7 }}"


def unpack(packed: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the properties and, by name, the arrays and the columns of texts of packed data."""
    whole = gzip.decompress(base64.b64decode(packed))
    first = 4 + int.from_bytes(whole[:4], "little")
    header = json.loads(whole[4:first])
    values: dict[str, Any] = {}
    for name, place in header["arrays"].items():
        content = whole[first + place["offset"] :][: place["bytes"]]
        values[name] = (
            content.decode().split(SEPARATOR) if place["kind"] == TEXT else np.frombuffer(content, KINDS[place["kind"]])
        )
    return header["facts"], values


def content(html: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the data of a page."""
    match = re.search(r'<script type="text/plain" id="data">([A-Za-z0-9+/=]*)</script>', html)
    assert match is not None
    return unpack(match[1])


@pytest.fixture(scope="module")
def drawn(made: Table) -> MapPage:
    """The map of all rows."""
    return draw_map(made, MapSettings(text_column="kind", num_topics=3))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A table of 120 rows in two splits."""
    folder = str(tmp_path_factory.mktemp("made") / "a & <i>b")
    return make_version(folder, {name: {str(row): row + 1000 * (name == "b") for row in range(60)} for name in "ab"})


def test_the_page_holds_every_row(made: Table, drawn: MapPage) -> None:
    page = drawn
    properties, values = content(page.html)
    rows = made.scan().collect().sort("text_hash", "source", "id")
    assert page.num_rows == 120
    assert page.num_table_rows == 120
    assert page.version == 0
    assert properties["rows"] == 120
    assert properties["table_rows"] == 120
    shown = {name: values[f"t{at}"] for at, name in enumerate(properties["columns"])}
    assert properties["columns"][0] == "kind"
    assert "raw" not in shown  # bytes are no text
    assert shown["id"] == rows["id"].to_list()
    assert shown["source"] == rows["source"].to_list()
    assert shown["kind"] == ["" if value is None else value for value in rows["kind"].to_list()]
    assert len(values["x"]) == 120
    assert len(values["y"]) == 120
    assert max(np.ptp(values["x"].astype(int)), np.ptp(values["y"].astype(int))) == 65_535
    by_name = {item["name"]: (item, values[f"c{at}"]) for at, item in enumerate(properties["colourings"])}
    flags, codes = by_name["flag"]
    shown_flags = [flags["labels"][code] for code in codes]
    assert shown_flags == ["no value" if flag is None else str(flag).lower() for flag in rows["flag"].to_list()]
    assert len(page.topics) == 3


def test_the_same_seed_makes_the_same_page(made: Table, drawn: MapPage) -> None:
    assert draw_map(made, MapSettings(text_column="kind", num_topics=3)).html == drawn.html


def test_a_sample_has_the_smallest_hashes(made: Table) -> None:
    page = draw_map(made, MapSettings(text_column="kind", max_rows=50))
    rows = made.scan().collect().sort("text_hash", "source", "id").head(50)
    properties, values = content(page.html)
    assert properties["rows"] == 50
    assert properties["table_rows"] == 120
    assert values[f"t{properties['columns'].index('id')}"] == rows["id"].to_list()


@pytest.mark.parametrize("count", [1, 2, 9, 10])
def test_few_rows_are_a_map_too(tmp_path: Path, count: int) -> None:
    table = make_version(str(tmp_path / "table"), {"a": {str(row): row for row in range(count)}})
    properties, _ = content(draw_map(table, MapSettings(text_column="kind")).html)
    assert properties["rows"] == count


def test_no_text_becomes_part_of_the_page(tmp_path: Path, model: str) -> None:
    raw = write(
        tmp_path / "raw.jsonl", [{"id": "1", "text": "red", "note": HOSTILE}, {"id": "2", "text": "blue", "note": "b"}]
    )
    folder = tmp_path / "<script>alert(3)<" / "script>"
    update(raw, folder, model=model, settings={"source": {"keep_columns": ["text", "note"]}})
    html = draw_map(Table.open(str(folder)), MapSettings(text_column="note", color_by="text")).html
    assert "alert(" not in html.replace("alert(3)", "")
    assert "<script>alert" not in html
    properties, values = content(html)
    assert HOSTILE.replace("\0", " ") in values["t0"]
    assert properties["colouring"] == [item["name"] for item in properties["colourings"]].index("text")


def test_the_column_of_the_text_gives_the_colours_where_it_is_asked_for(made: Table) -> None:
    for color_by in ("kind", None):
        properties, _ = content(draw_map(made, MapSettings(text_column="kind", color_by=color_by)).html)
        named = {item["name"]: item for item in properties["colourings"]}
        assert ("kind" in named) == (color_by == "kind")
        shown = properties["colourings"][properties["colouring"]]
        assert shown is named["kind"] if color_by == "kind" else shown["kind"] == "topic"


def test_the_page_may_run_its_own_script_and_load_nothing(drawn: MapPage) -> None:
    html = drawn.html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert policy is not None
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in policy[1]
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", html)
    assert "innerHTML" not in html


def test_a_table_that_cannot_be_drawn_is_refused(made: Table, tmp_path: Path) -> None:
    with pytest.raises(
        ColumnError, match=r"no kept column holds the encoded text \(text; kept: kind, .*--keep-columns text"
    ):
        draw_map(made)
    with pytest.raises(ColumnError, match=r"no kept column 'colour' \(kept: kind, price"):
        draw_map(made, MapSettings(text_column="kind", color_by="colour"))
    with pytest.raises(ColumnError, match="no kept column of texts 'price'"):
        draw_map(made, MapSettings(text_column="price"))
    empty = make_version(str(tmp_path / "empty"), {"a": {}})
    with pytest.raises(TableError, match="version 0 has no rows"):
        draw_map(empty, MapSettings(text_column="kind"))


def test_coordinates_are_a_derived_table_that_the_page_shows(made: Table, tmp_path: Path) -> None:
    out = str(tmp_path / "coordinates")
    settings = MapSettings(text_column="kind", max_rows=50)
    page = draw_map(made, settings, coordinates_uri=out)
    every = DerivedTable.open(out).scan().collect()
    assert every.height == 120
    assert every.select(pl.col("x").is_finite().all() & pl.col("y").is_finite().all()).item()
    properties, values = content(page.html)
    keys = pl.DataFrame({name: values[f"t{properties['columns'].index(name)}"] for name in ("source", "id")})
    shown = keys.join(every, on=["source", "id"], how="left", maintain_order="left")
    assert abs(np.corrcoef(shown["x"], values["x"])[0, 1]) > 0.9999
    assert draw_map(made, settings, coordinates_uri=out).html == page.html
    assert DerivedTable.open(out).version == 0
    with pytest.raises(SettingsError, match="needs a folder of its own"):
        draw_map(made, settings, coordinates_uri=made.uri)


def test_packed_data_comes_back() -> None:
    arrays = {"x": np.array([0, 1, 65_535], np.uint16), "c": np.array([7, 8, 9], np.uint8)}
    texts = {"t": ["a", "", "𠮷 \n"], "u": ["", "", ""]}
    properties, values = unpack(pack({"title": "é"}, arrays, texts))
    assert properties == {"title": "é"}
    assert values["t"] == texts["t"]
    assert values["u"] == texts["u"]
    assert values["x"].tolist() == [0, 1, 65_535]
    assert values["c"].tolist() == [7, 8, 9]


def test_columns_of_any_type_are_shown_as_text() -> None:
    assert text_column(pl.Series([1.5, None, 1e9]), 50) == ["1.5", "", "1e+09"]
    assert text_column(pl.Series([["a", "b"], None]), 50) == ['["a", "b"]', ""]
    assert text_column(pl.Series(["x" * 30]), 20) == ["x" * 19 + "…"]
    assert text_column(pl.Series([True, False]), 20) == ["true", "false"]


def test_numbers_are_coloured_by_ranges_with_nearly_as_many_rows_each() -> None:
    colouring = column_colouring("price", pl.Series([float(value) for value in range(80)] + [None, float("nan")]))
    assert colouring.kind is ColouringKind.NUMBER
    assert colouring.labels[-1] == "no value"
    assert colouring.num_rest == 1
    assert colouring.labels[0] == "0 to 10"
    assert np.bincount(colouring.codes_N[:80]).tolist() == [10, 10, 10, 10, 9, 10, 10, 11]
    assert colouring.codes_N[80:].tolist() == [8, 8]


def test_rare_values_share_one_colour() -> None:
    values = pl.Series(["often"] * 300 + [f"v{number:03}" for number in range(150)])
    colouring = column_colouring("kind", values)
    assert colouring.labels[0] == "often"
    assert colouring.labels[-1] == "other values"
    assert len(colouring.labels) == 101
    assert np.count_nonzero(colouring.codes_N == 100) == 51
    assert not is_colourable(values)
    assert is_colourable(values.head(310))


def test_a_topic_is_named_by_words_that_others_lack() -> None:
    texts = pl.Series(["the card is the new card"] * 5 + ["the rate of the exchange"] * 5)
    names = name_groups(texts, np.array([0] * 5 + [1] * 5))
    assert all("the" not in name.split(", ") for name in names)
    assert names == ["topic 1", "topic 2"]  # a word of one of two topics is at most twice as frequent in it
    more = pl.concat([texts, pl.Series([f"the word{number} is other{number}" for number in range(50)])])
    names = name_groups(more, np.array([0] * 5 + [1] * 5 + [2] * 50))
    assert names[0] == "card, new"
    assert set(names[1].split(", ")) == {"exchange", "rate"}
