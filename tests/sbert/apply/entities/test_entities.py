"""Entities of a table's rows: what is found, what is computed again, what is refused."""

import json
from pathlib import Path

import polars as pl
import pytest

from sbert.apply.entities import job as entities_job_module
from sbert.apply.entities.run import EntitiesReport, find_entities
from sbert.apply.entities.settings import EntitySettings
from sbert.apply.word_vectors import WordReader, WordVectors
from sbert.derived.any_table import verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.errors import ColumnError, LabelError, TableError, TooFewLabelsError
from tests.support.tables import Rows, update, write

COLOURS = ("red", "green", "blue")
CITIES = ("hamburg", "train", "rain")


def labelled(text: str) -> dict[str, object]:
    """Return a text whose colours and cities are marked."""
    entities = []
    for kind, names in (("colour", COLOURS), ("city", CITIES)):
        for name in names:
            if name in text.split():
                start = text.index(name)
                entities.append({"start": start, "end": start + len(name), "type": kind})
    return {"text": text, "entities": entities}


LABELS = [labelled(f"the {colour} cat sat on a mat at {city}") for colour in COLOURS for city in CITIES]
LABELS += [labelled("the cat sat on a mat")] * 2


@pytest.fixture
def places(tmp_path: Path, model: str) -> tuple[str, str, str]:
    texts = ["the red cat sat on a mat at hamburg", "the cat sat on a mat", "the blue cat sat on a mat at rain"]
    raw: Rows = [{"id": str(at), "text": text} for at, text in enumerate(texts)]
    write(tmp_path / "raw/a.jsonl", raw)
    update(tmp_path / "raw", tmp_path / "table", model=model, settings={"source": {"keep_columns": ["text"]}})
    write(tmp_path / "labels.jsonl", LABELS)
    return str(tmp_path / "table"), str(tmp_path / "labels.jsonl"), str(tmp_path / "out")


def found_in(out: str) -> dict[str, list[tuple[str, str]]]:
    rows = DerivedTable.open(out).scan().collect()
    return {
        row["id"]: [(entity["text"], entity["type"]) for entity in row["entities"]]
        for row in rows.iter_rows(named=True)
    }


def test_entities_lie_where_they_say_and_have_the_type_of_the_labels(places: tuple[str, str, str]) -> None:
    report = find_entities(*places)
    entities = found_in(places[2])
    assert entities == {
        "0": [("red", "colour"), ("hamburg", "city")],
        "1": [],
        "2": [("blue", "colour"), ("rain", "city")],
    }
    rows = DerivedTable.open(places[2]).scan().explode("entities").drop_nulls("entities").unnest("entities").collect()
    assert rows["probability"].is_between(0.3, 1).all()
    assert report.num_labelled_entities == {"city": 9, "colour": 9}
    assert report.num_entities == 4
    assert report.num_rows_with_entities == 2
    assert report.types[0].frequent
    assert verify_any(places[2]).findings == []


def test_only_texts_that_changed_are_read_again(
    places: tuple[str, str, str], tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_entities(*places)
    read: list[str] = []

    class CountingReader(WordReader):
        def read(self, texts: list[str]) -> list[WordVectors]:  # type: ignore[override]
            read.extend(texts)
            return super().read(texts)

    monkeypatch.setattr(entities_job_module, "WordReader", CountingReader)
    assert find_entities(*places).output.num_rows_built == 0
    texts = ["the cat sat on a mat", "the green cat sat on a mat at train", "the red cat sat on a mat at hamburg"]
    write(tmp_path / "raw/a.jsonl", [{"id": str(at), "text": text} for at, text in enumerate(texts)])
    update(tmp_path / "raw", tmp_path / "table", model=model, settings={"source": {"keep_columns": ["text"]}})
    assert find_entities(*places).output.num_rows_built == 3
    assert read == ["the green cat sat on a mat at train"]
    assert found_in(places[2])["2"] == [("red", "colour"), ("hamburg", "city")]
    write(tmp_path / "labels.jsonl", LABELS[2:])
    assert find_entities(*places).output.num_rows_built == 3
    assert len(read) == 4


def test_base_labels_of_other_types_and_a_least_probability_count(places: tuple[str, str, str], tmp_path: Path) -> None:
    base = write(tmp_path / "base.jsonl", [{**each, "entities": [{**span, "type": "thing"} for span in each["entities"]]}  # type: ignore[attr-defined]
                                          for each in LABELS * 20])  # fmt: skip
    settings = EntitySettings(base_labels_uri=str(base))
    report: EntitiesReport = find_entities(*places, settings)
    assert report.num_base_texts == 220
    assert found_in(places[2])["2"] == [("blue", "colour"), ("rain", "city")]
    none = find_entities(*places, settings.model_copy(update={"min_probability": 0.999999}))
    assert none.num_entities < report.num_entities
    assert none.tagger == report.tagger


def test_the_same_labels_give_the_same_output_wherever_they_lie(places: tuple[str, str, str], tmp_path: Path) -> None:
    first = find_entities(*places)
    moved = write(tmp_path / "moved/b.jsonl", LABELS[::-1])
    again = find_entities(places[0], str(moved.parent), places[2])
    assert again.tagger == first.tagger
    assert again.output.num_rows_built == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([{**LABELS[0], "entities": LABELS[0]["entities"][:1]}], "have 1 type of entities, 'colour', but at least 2"),  # type: ignore[index]
        ([{"text": "no names", "entities": []}], "have 0 types of entities, but at least 2"),
    ],
)
def test_labels_of_one_type_are_refused(places: tuple[str, str, str], labels: Rows, message: str) -> None:
    write(Path(places[1]), labels)
    with pytest.raises(TooFewLabelsError, match=message):
        find_entities(*places)
    assert not Path(places[2]).exists()


def test_labels_and_tables_that_cannot_be_used_are_refused_before_any_work(
    places: tuple[str, str, str], tmp_path: Path, model: str
) -> None:
    with pytest.raises(ColumnError, match="no kept column of texts 'body'"):
        find_entities(*places, EntitySettings(text_column="body"))
    update(tmp_path / "raw", tmp_path / "bare", model=model)
    with pytest.raises(ColumnError, match="no kept column holds the encoded text"):
        find_entities(str(tmp_path / "bare"), *places[1:])
    with pytest.raises(LabelError, match="marked spans are read from JSON Lines"):
        find_entities(places[0], str(next(Path(places[0]).glob("*.parquet"))), places[2])
    assert not Path(places[2]).exists()


def test_a_tagger_that_is_gone_or_damaged_is_named(places: tuple[str, str, str], tmp_path: Path) -> None:
    report = find_entities(*places)
    record = tmp_path / "out/_taggers" / report.tagger / "tagger.json"
    assert json.loads(record.read_text())["types"] == ["city", "colour"]
    record.write_text("{")
    with pytest.raises(TableError, match="the files of the tagger are damaged"):
        find_entities(*places)
    record.unlink()
    assert find_entities(*places).output.num_rows_built == 0  # fitted again


def test_the_output_is_read_as_a_table(places: tuple[str, str, str]) -> None:
    find_entities(*places)
    kind = DerivedTable.open(places[2]).scan().collect_schema()["entities"]
    assert isinstance(kind, pl.List)
    assert [field.name for field in kind.inner.fields] == ["start", "end", "type", "text", "probability"]  # type: ignore[union-attr]
