"""Files of changes hold what JSON can hold."""

import json
from pathlib import Path

import pyarrow as pa

from sbert.sync.feed_writers import open_feed


def test_numbers_that_json_lacks_are_null_in_json_lines(tmp_path: Path) -> None:
    schema = pa.schema([("change", pa.string()), ("source", pa.string()), ("id", pa.string()), ("price", pa.float64())])
    prices = [1.5, float("nan"), float("inf"), None]
    names = ["a", "b", "c", "d"]
    with open_feed(str(tmp_path / "feed.jsonl"), schema) as feed:
        feed.write(pa.table([["upsert"] * 4, names, names, prices], schema=schema))
    lines = (tmp_path / "feed.jsonl").read_text()
    assert [json.loads(line)["price"] for line in lines.splitlines()] == [1.5, None, None, None]
    assert not {"NaN", "Infinity"} & set(lines.split())
