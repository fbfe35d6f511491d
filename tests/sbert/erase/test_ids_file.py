"""Ids come from every format that raw text has."""

from pathlib import Path

import pytest

from sbert.erase.ids_file import read_keys
from sbert.errors import SettingsError


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.jsonl", '{"id": "a"}\n{"id": 7, "source": "s3://raw/x.jsonl"}\n{"id": null}\n'),
        ("ids.csv", "id,source\na,\n7,s3://raw/x.jsonl\n"),
    ],
)
def test_a_file_names_ids_alone_or_with_their_source(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    keys = read_keys(str(tmp_path / name))
    assert keys.ids == {"a"}
    assert keys.pairs == {("s3://raw/x.jsonl", "7")}


def test_of_plain_text_each_line_is_an_id(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\n\nb c\n")
    assert read_keys(str(tmp_path / "ids.txt")).ids == {"a", "b c"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("ids.csv", "number\n1\n", "no column 'id'"), ("ids.jsonl", '{"id": null}\n', "no id is named")],
)
def test_a_file_without_ids_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SettingsError, match=message):
        read_keys(str(tmp_path / name))


def test_an_empty_name_of_the_file_is_refused() -> None:
    with pytest.raises(SettingsError, match="no file of ids"):
        read_keys("")
