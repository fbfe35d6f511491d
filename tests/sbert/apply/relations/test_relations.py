"""Relations between names: what is found, that two names alone are none, what is computed again, what is refused."""

import json
import re
from pathlib import Path

import pytest

from sbert.apply.entities.run import find_entities
from sbert.apply.relations import job as relations_job_module
from sbert.apply.relations.run import find_relations
from sbert.apply.relations.settings import RelationSettings
from sbert.apply.word_vectors import WordReader, WordVectors
from sbert.derived.any_table import verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.errors import ColumnError, LabelError, SettingsError, TableError, TooFewLabelsError
from tests.support.tables import Rows, update, write

ANIMALS, CITIES, FOODS = ("cat", "match", "select"), ("hamburg", "rain", "energy"), ("cake", "butter", "oven")


def name(text: str, word: str, kind: str | None = None) -> dict[str, object]:
    start = text.index(word)
    return {"start": start, "end": start + len(word)} | ({} if kind is None else {"type": kind})


def pair(text: str, head: str, tail: str, relation: str | None) -> dict[str, object]:
    return {"text": text, "head": name(text, head), "tail": name(text, tail), "relation": relation}


LABELS = [pair(f"the {animal} sat on {city}", animal, city, "sat on") for animal in ANIMALS for city in CITIES]
LABELS += [pair(f"{food} turns into {animal} red", food, animal, "becomes") for animal in ANIMALS for food in FOODS]
LABELS += [pair(f"login {food} or {city} id", food, city, None) for food in FOODS for city in CITIES]
TEXTS = {
    "sat": ("the cat sat on rain", ["cat", "rain"]),
    "both": ("butter turns into match red", ["butter", "match"]),
    "none": ("login cake or energy id", ["cake", "energy"]),
    "one": ("the cat sat on rain", ["cat"]),
    "no": ("", []),
}


def raw_rows(texts: dict[str, tuple[str, list[str]]]) -> Rows:
    return [
        {"id": row, "text": text or "oven", "names": json.dumps([name(text, word) for word in words])}
        for row, (text, words) in texts.items()
    ]


@pytest.fixture
def places(tmp_path: Path, model: str) -> tuple[str, str, str]:
    write(tmp_path / "raw/a.jsonl", raw_rows(TEXTS))
    refresh(tmp_path, model)
    write(tmp_path / "labels.jsonl", LABELS)
    return str(tmp_path / "table"), str(tmp_path / "labels.jsonl"), str(tmp_path / "out")


def refresh(folder: Path, model: str) -> None:
    update(folder / "raw", folder / "table", model=model, settings=KEPT)


def found_in(out: str) -> dict[str, list[tuple[str, str, str]]]:
    rows = DerivedTable.open(out).scan().collect().iter_rows(named=True)
    return {
        row["id"]: [(each["head"]["text"], each["relation"], each["tail"]["text"]) for each in row["relations"]]
        for row in rows
    }


KEPT = {"source": {"keep_columns": ["text", "names"]}, "deletion_limit": {"max_drop_share": 1}}
SETTINGS = RelationSettings(entities_column="names")


def test_related_names_are_found_and_two_names_alone_are_none(places: tuple[str, str, str]) -> None:
    report = find_relations(*places, SETTINGS)
    assert found_in(places[2]) == {
        "sat": [("cat", "sat on", "rain")],
        "both": [("butter", "becomes", "match")],
        "none": [],
        "one": [],
        "no": [],
    }
    assert report.num_relations == 2
    assert report.num_rows_with_relations == 2
    assert report.num_labelled_none == 9
    assert report.num_labelled_pairs == {"becomes": 9, "sat on": 9}
    assert report.found > 0.8
    assert report.kept_out > 0.8
    assert report.relations[0].examples == ("butter → match",)
    assert verify_any(places[2]).findings == []


def test_only_rows_whose_text_or_names_changed_are_read_again(
    places: tuple[str, str, str], tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_relations(*places, SETTINGS)
    read: list[str] = []

    class CountingReader(WordReader):
        def read(self, texts: list[str]) -> list[WordVectors]:  # type: ignore[override]
            read.extend(texts)
            return super().read(texts)

    monkeypatch.setattr(relations_job_module, "WordReader", CountingReader)
    texts = {**TEXTS, "one": ("the cat sat on energy", ["cat", "energy"])}
    write(tmp_path / "raw/a.jsonl", raw_rows(texts))
    refresh(tmp_path, model)
    report = find_relations(*places, SETTINGS)
    assert read == ["the cat sat on energy"]
    assert report.output.num_rows_built == len(TEXTS)
    assert found_in(places[2])["sat"] == [("cat", "sat on", "rain")]


def test_names_come_from_the_output_of_entities(places: tuple[str, str, str], tmp_path: Path, model: str) -> None:
    marked = [
        {"text": text, "entities": [name(text, word, "thing" if word in FOODS else "place") for word in words]}
        for text, words in TEXTS.values()
        if len(words) > 1
    ]
    write(tmp_path / "marked.jsonl", marked)
    entities = str(tmp_path / "entities")
    find_entities(places[0], str(tmp_path / "marked.jsonl"), entities)
    find_relations(entities, *places[1:])
    relations = found_in(places[2])
    assert relations["sat"] == [("cat", "sat on", "rain")]
    assert relations["none"] == []
    assert find_relations(entities, *places[1:]).output.num_rows_built == 0
    with pytest.raises(SettingsError, match="leave entities_column out"):
        find_relations(entities, *places[1:], SETTINGS)
    with pytest.raises(SettingsError, match="this is an output of relations"):
        find_relations(places[2], places[1], str(tmp_path / "other"))
    write(tmp_path / "raw/b.jsonl", [{"id": "new", "text": "the cat sat on hamburg", "names": "[]"}])
    refresh(tmp_path, model)
    with pytest.raises(
        SettingsError, match=r"it was made from version 0 of .*, but the newest is 1: run `sbert entities` first"
    ):
        find_relations(entities, *places[1:])


def test_a_relation_keeps_to_the_types_of_its_examples(
    places: tuple[str, str, str], tmp_path: Path, model: str
) -> None:
    typed = []
    for each in LABELS:
        kinds = ("animal", "city") if each["relation"] == "sat on" else ("food", "animal")
        typed.append({**each, **{side: {**each[side], "type": kind} for side, kind in zip(("head", "tail"), kinds, strict=True)}})  # type: ignore[dict-item]  # fmt: skip
    write(tmp_path / "labels.jsonl", typed)
    text = "the cat sat on rain"
    rows: Rows = [
        {"id": kind, "text": text, "names": json.dumps([name(text, "cat", "animal"), name(text, "rain", kind)])}
        for kind in ("city", "food")
    ]
    write(tmp_path / "raw/a.jsonl", rows)
    refresh(tmp_path, model)
    find_relations(*places, SETTINGS)
    assert found_in(places[2]) == {"city": [("cat", "sat on", "rain")], "food": []}


def test_names_that_are_far_apart_are_not_looked_at(places: tuple[str, str, str]) -> None:
    find_relations(*places, SETTINGS.model_copy(update={"max_words_between": 1}))
    assert not any(found_in(places[2]).values())


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        (
            {**LABELS[0], "tail": {"start": 3, "end": 99}},
            LabelError,
            "line 1: the tail ends at 99, but the text has 22",
        ),
        (
            {**LABELS[0], "tail": {"start": 5, "end": 9}},
            LabelError,
            "line 1: the head at 4 to 7 and the tail at 5 to 9 over",
        ),
        (
            {**LABELS[0], "mood": 1},
            LabelError,
            "line 1: there is no field 'mood': the fields are text, head, tail, rel",
        ),
        ({**LABELS[0], "head": {"start": 0}}, LabelError, "the field 'head.end' is missing"),
        (LABELS[0], TooFewLabelsError, "have 1 relation, 'sat on', but at least 2 are needed"),
        ({**LABELS[0], "relation": None}, TooFewLabelsError, "have 0 relations, but at least 2"),
    ],
)
def test_bad_labels_are_refused(
    places: tuple[str, str, str], label: dict[str, object], kind: type[Exception], message: str
) -> None:
    write(Path(places[1]), [label])
    with pytest.raises(kind, match=re.escape(message)):
        find_relations(*places, SETTINGS)
    write(Path(places[1]), [LABELS[0], LABELS[1], LABELS[-10]])
    with pytest.raises(TooFewLabelsError, match="1 of 2 relations have fewer than 2 examples, such as 'becomes'"):
        find_relations(*places, SETTINGS)
    assert not Path(places[2]).exists()


def test_names_that_are_nowhere_or_wrong_are_refused(places: tuple[str, str, str], tmp_path: Path, model: str) -> None:
    with pytest.raises(SettingsError, match="this table has no marked names"):
        find_relations(*places)
    with pytest.raises(ColumnError, match="no kept column 'marks'"):
        find_relations(*places, RelationSettings(entities_column="marks"))
    write(tmp_path / "raw/a.jsonl", [{"id": "a", "text": "the cat", "names": '[{"start": 4, "end": 70}]'}])
    refresh(tmp_path, model)
    with pytest.raises(
        TableError, match="row a: column 'names': a name goes from 4 to 70, but the text has 7 characters"
    ):
        find_relations(*places, SETTINGS)
