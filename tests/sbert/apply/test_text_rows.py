"""Texts are found in a table by the hash of their cleaned form, and their rows say what they hold."""

from pathlib import Path

from sbert.apply.text_rows import rows_of_texts
from sbert.table.delta import Table
from tests.support.made_tables import make_version
from tests.support.tables import objects_apart, texts, update, write


def test_the_first_row_by_source_and_id_speaks_for_a_text(tmp_path: Path, model: str) -> None:
    first, second, third, other = texts(0, 4)
    write(tmp_path / "raw/b.jsonl", [{"id": "1", "text": first, "shop": "of b", "count": 1}])
    rows = [
        {"id": "9", "text": first, "shop": "of a, late", "count": 2},
        {"id": "10", "text": first, "shop": "of a, early", "count": 3},  # ids are texts: 10 comes before 9
        {"id": "3", "text": second, "shop": None, "count": 4},
        {"id": "4", "text": third, "shop": "north", "count": None},
    ]
    write(tmp_path / "raw/a.jsonl", rows)
    settings = objects_apart(source={"keep_columns": ["shop", "count"]}).model_dump(mode="json")
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    table = Table.open(str(tmp_path / "table"))
    asked = [third, other, f"  {first}\u200b", second, third]  # cleaning removes what was added
    found = rows_of_texts(table, asked, ["shop", "source", "count"])
    assert found.is_found.to_list() == [True, False, True, True, True]
    assert found.values["shop"].to_list() == ["north", None, "of a, early", "", "north"]
    a = f"{tmp_path}/raw/a.jsonl"
    assert found.values["source"].to_list() == [a, None, a, a, a]
    assert found.values["count"].to_list() == ["", None, "3", "4", ""]
    assert rows_of_texts(table, asked).is_found.equals(found.is_found)


def test_nothing_is_found_in_a_table_without_rows_and_no_text_is_found_anywhere(tmp_path: Path) -> None:
    empty = make_version(str(tmp_path / "empty"), {})
    found = rows_of_texts(empty, ["a", "b"], ["kind"])
    assert found.is_found.to_list() == [False, False]
    assert found.values["kind"].to_list() == [None, None]
    table = make_version(str(tmp_path / "table"), {"a": {"1": 1}})
    assert rows_of_texts(table, [], ["kind"]).values["kind"].to_list() == []
