"""A JSON array that is cut off: the rows before the cut are in the table, and earlier rows stay."""

import json
from pathlib import Path

from tests.support.refreshing import refreshed
from tests.support.tables import read, texts, write


def array(path: Path, ids: range, *, is_cut: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = json.dumps([{"id": str(n), "text": text} for n, text in zip(ids, texts(ids.start, len(ids)), strict=True)])
    path.write_text(whole[:-5] if is_cut else whole)


def ids_of(table: Path, name: str) -> list[str]:
    rows = read(table)
    return sorted(rows.filter(rows["source"].str.ends_with(name))["id"].to_list(), key=int)


def test_rows_before_the_cut_are_embedded_and_earlier_rows_stay(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    array(raw / "new.json", range(4), is_cut=True)
    array(raw / "old.json", range(4))
    write(raw / "a.jsonl", [{"id": "9", "text": "other"}])
    first = refreshed(raw, str(table), model=model).report
    assert first.broken_objects.keys() == {str(raw / "new.json")}
    assert "is cut off after record 3" in first.broken_objects[str(raw / "new.json")]
    assert ids_of(table, "new.json") == ["0", "1", "2"]
    assert ids_of(table, "old.json") == ["0", "1", "2", "3"]

    again = refreshed(raw, str(table)).report
    assert again.broken_objects.keys() == {str(raw / "new.json")}
    assert again.num_texts_encoded == 0
    assert again.num_rows == 8

    array(raw / "old.json", range(6), is_cut=True)  # an object that has rows keeps them
    later = refreshed(raw, str(table)).report
    assert later.broken_objects.keys() == {str(raw / "new.json"), str(raw / "old.json")}
    assert ids_of(table, "new.json") == ["0", "1", "2"]
    assert ids_of(table, "old.json") == ["0", "1", "2", "3"]

    array(raw / "new.json", range(5))
    array(raw / "old.json", range(6))
    mended = refreshed(raw, str(table)).report
    assert mended.broken_objects == {}
    assert len(ids_of(table, "new.json")) == 5
    assert len(ids_of(table, "old.json")) == 6
    assert mended.num_rows == 12
