"""Labelled texts with marked spans: both formats, and every fault named with its place."""

import json
from pathlib import Path

import pytest

from sbert.apply.marked_texts import label_fingerprint, read_marked_texts
from sbert.errors import EmptySourceError, LabelError, MissingError


def write(path: Path, *lines: object) -> str:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(path)


def entity(start: int, end: int, kind: str = "person", **more: object) -> dict[str, object]:
    return {"start": start, "end": end, "type": kind, **more}


def test_json_lines_and_two_columns_give_the_same_texts(tmp_path: Path) -> None:
    as_json = write(
        tmp_path / "a.jsonl",
        {"text": "Zoe Bell lives in Malta .", "entities": [entity(18, 23, "place"), entity(0, 8, text="Zoe Bell")]},
        "",
        {"text": "No names .", "entities": [], "id": 7},
    )
    lines = ["-DOCSTART- O", "", "Zoe\tB-person", "Bell\tI-person", "lives\tO", "in\tO", "Malta NNP I-place", ". O", ""]
    as_columns = write(tmp_path / "a.txt", *lines, "No O", "names O", ". O")
    texts = read_marked_texts(as_json)
    assert texts == read_marked_texts(as_columns)
    assert [(span.start, span.end, span.type) for span in texts[0].entities] == [(0, 8, "person"), (18, 23, "place")]
    assert label_fingerprint(texts) == label_fingerprint(texts[::-1])


def test_a_new_entity_begins_where_the_tag_says_so(tmp_path: Path) -> None:
    lines = ["Anna B-person", "Bert B-person", "Malta U-place", "Rome B-place", "Roma L-place"]
    (text,) = read_marked_texts(write(tmp_path / "a.txt", *lines))
    assert [text.text[span.start : span.end] for span in text.entities] == ["Anna", "Bert", "Malta", "Rome Roma"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"text": "Zoe", "entities": [entity(0, 9)]},
            "line 2: an entity of type 'person' ends at 9, but the text has 3 char",
        ),
        (
            {"text": "Zoe Bell", "entities": [entity(0, 8), entity(4, 8)]},
            "line 2: the entities at 0 to 8 and 4 to 8 over",
        ),
        ({"text": "Zoe", "entities": [entity(2, 2)]}, "not after its start 2"),
        ({"text": "a b", "entities": [entity(1, 2)]}, "holds only white space"),
        (
            {"text": "Zoe Bell", "entities": [entity(0, 3, text="Bell")]},
            "is 'Zoe' in the text, but the label says 'Bell'",
        ),
        ({"text": "Zoe", "entities": [], "mood": 1}, "there is no field 'mood': the fields are text, entities, id"),
        (
            {"text": "Zoe", "entities": [entity(0, 3, label="x")]},
            "no field 'entities.0.label': the fields are start, end",
        ),
        ({"text": "Zoe"}, "the field 'entities' is missing"),
        ({"text": "Zoe", "entities": [{"start": "0", "end": 3, "type": "x"}]}, "the field 'entities.0.start'"),
        (["Zoe"], "a JSON list, expected an object"),
        ("{", "line 2: not JSON"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, line: object, message: str) -> None:
    uri = write(tmp_path / "a.jsonl", {"text": "fine", "entities": []}, line)
    with pytest.raises(LabelError, match=message.replace(".", r"\.")):
        read_marked_texts(uri)


def test_a_line_without_a_tag_and_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"line 2: 'just words' does not end in a tag"):
        read_marked_texts(write(tmp_path / "a.txt", "Zoe B-person", "just words"))
    with pytest.raises(LabelError, match=r"are read from JSON Lines .*not from csv"):
        read_marked_texts(write(tmp_path / "b.csv", "text,entities"))


def test_no_labels_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        read_marked_texts(str(tmp_path / "nothing"))
    with pytest.raises((LabelError, EmptySourceError), match=r"a\.jsonl"):
        read_marked_texts(write(tmp_path / "a.jsonl", ""))
