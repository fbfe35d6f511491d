"""`summarize`: rows of documents, only what changed, a ranker from labels, bad input."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from sbert.apply.summaries.job import SummaryJob
from sbert.apply.summaries.run import summarize
from sbert.apply.summaries.settings import SummaryBudget, SummarySettings
from sbert.derived.any_table import vacuum_any, verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.erase.run import erase
from sbert.errors import BrokenObjectError, ColumnError, LabelError, ModelError, TableError, TooFewLabelsError
from sbert.table.erased_keys import ErasedKeys
from tests.support.tables import Rows, objects_apart, update, write
from tests.support.tiny_models import WORDS

WITH_TEXT = {"source": {"keep_columns": ("text",)}}
PASSAGES = {"source": {"passages": {"max_tokens": 48}}, "splits": {"pack_below_bytes": 0}}
QUICK = SummarySettings.model_validate(
    {
        "budget": {"max_sentences": 1, "max_similarity": 1},
        "ranker": {"num_networks": 2, "num_hidden": 8, "num_epochs": 10, "learning_rate": 0.02, "num_folds": 2},
    }
)


def sentence(number: int) -> str:
    """Return a sentence that follows from a number."""
    words = [WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(4 + number % 5)]
    return f"{' '.join(words).capitalize()} {number}."


def document(number: int) -> dict[str, object]:
    """Return a document of five sentences."""
    return {"id": f"d{number}", "text": " ".join(sentence(number * 10 + at) for at in range(5))}


def output(out: object) -> pl.DataFrame:
    return DerivedTable.open(str(out)).scan().collect().sort("source", "id")


@pytest.fixture
def table(tmp_path: Path, model: str) -> str:
    """A table of passages of two objects with three documents each."""
    for name, first in (("a", 0), ("b", 3)):
        write(tmp_path / f"raw/{name}.jsonl", [document(number) for number in range(first, first + 3)])
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=PASSAGES)
    return str(tmp_path / "table")


def test_each_document_has_a_row_with_its_sentences(tmp_path: Path, table: str) -> None:
    report = summarize(table, str(tmp_path / "out"), QUICK)
    assert report.num_documents == 6
    assert report.num_computed == 6
    assert report.decision.ranker == ""
    rows = output(tmp_path / "out")
    assert rows["id"].to_list() == [f"d{number}" for number in range(6)]
    for row in rows.iter_rows(named=True):
        text = str(document(int(row["id"][1:]))["text"])
        parts = [text[part["start"] : part["end"]] for part in row["sentences"]]
        assert " ".join(parts) == text
        assert sorted(part["rank"] for part in row["sentences"]) == [1, 2, 3, 4, 5]
        (place,) = (at for at, part in enumerate(row["sentences"]) if part["chosen"])
        assert row["sentences"][place]["rank"] == 1
        assert row["summary"] == parts[place]
        assert row["num_words"] == len(parts[place].split())
    assert verify_any(str(tmp_path / "out")).findings == []


def test_only_documents_that_changed_are_computed_again(tmp_path: Path, table: str) -> None:
    out = str(tmp_path / "out")
    summarize(table, out, QUICK)
    assert summarize(table, out, QUICK).output.version == 0
    changed = [document(0), {**document(1), "text": sentence(77) + " " + sentence(78)}, document(2), document(9)]
    write(tmp_path / "raw/a.jsonl", changed)
    update(tmp_path / "raw", table, settings=PASSAGES)
    report = summarize(table, out, QUICK, concurrency=2)
    assert report.num_documents == 7
    assert report.num_computed == 2
    assert report.output.num_shards_kept == 1
    summarize(table, str(tmp_path / "fresh"), QUICK)
    assert output(out).equals(output(tmp_path / "fresh"))
    vacuum_any(out, retention_hours=0, apply=True)
    other = QUICK.model_copy(update={"max_ranked_sentences": 3})
    again = summarize(table, out, other)
    assert again.num_computed == 7
    assert again.num_cut == 6
    assert verify_any(out).findings == []


def test_documents_that_are_rows_are_summarized_also_with_no_sentence_or_one(tmp_path: Path, model: str) -> None:
    rows: Rows = [{"id": "a", "text": "..."}, {"id": "b", "text": sentence(1)}, document(1)]
    write(tmp_path / "raw/a.jsonl", rows)
    table, out = str(tmp_path / "table"), str(tmp_path / "out")
    update(tmp_path / "raw", table, model=model, settings=WITH_TEXT)
    report = summarize(table, out, SummarySettings(budget=SummaryBudget(max_similarity=1)))
    assert report.num_documents == 3
    assert report.num_without_text == 1
    assert report.num_whole == 2
    summaries = output(out)
    assert summaries["summary"].to_list() == [None, sentence(1), document(1)["text"]]
    assert summaries["num_sentences"].to_list() == [0, 1, 5]
    update(tmp_path / "raw", tmp_path / "bare", model=model)
    with pytest.raises(ColumnError, match="a summary needs the text"):
        summarize(str(tmp_path / "bare"), str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_an_erased_document_leaves_no_summary(tmp_path: Path, table: str) -> None:
    out = str(tmp_path / "out")
    summarize(table, out, QUICK)
    erase(table, ErasedKeys(ids=["d1"]), derived=[out])
    assert output(out)["id"].to_list() == ["d0", "d2", "d3", "d4", "d5"]
    report = summarize(table, out, QUICK)
    assert report.num_documents == 5
    assert report.num_computed == 0
    assert verify_any(out).findings == []


def test_an_encoder_that_is_gone_is_named_and_the_output_stays(tmp_path: Path, table: str, model: str) -> None:
    away = str(tmp_path / "away")
    shutil.copytree(model, tmp_path / "copy")
    update(tmp_path / "raw", tmp_path / "second", model=str(tmp_path / "copy"), settings=PASSAGES)
    shutil.move(str(tmp_path / "copy"), away)
    with pytest.raises(ModelError, match=r"its encoder .* cannot be loaded"):
        summarize(str(tmp_path / "second"), str(tmp_path / "out"), QUICK)
    with pytest.raises(TableError, match="this is an embeddings table"):
        summarize(table, str(tmp_path / "second"), QUICK)


@pytest.fixture
def labelled(tmp_path: Path, model: str) -> tuple[str, Path]:
    """A table of 24 documents, and labels by which the last sentence is the summary."""
    write(tmp_path / "raw/a.jsonl", [document(number) for number in range(24)])
    update(tmp_path / "raw", tmp_path / "many", model=model, settings=objects_apart(source={"keep_columns": ("text",)}))
    labels: Rows = [{"document": f"d{number}", "summary": sentence(number * 10 + 4)} for number in range(24)]
    return str(tmp_path / "many"), write(tmp_path / "labels/a.jsonl", labels)


def test_a_ranker_learns_from_labels_and_is_found_again(tmp_path: Path, labelled: tuple[str, Path]) -> None:
    table, labels = labelled
    out = str(tmp_path / "out")
    report = summarize(table, out, QUICK, labels_uri=str(labels))
    quality = report.decision.quality
    assert quality is not None
    assert quality.ranker.value > 0.9 > quality.lexrank.value
    assert report.decision.is_new
    summaries = dict(output(out).select("id", "summary").iter_rows())
    assert sum(summaries[f"d{number}"] == sentence(number * 10 + 4) for number in range(24)) >= 22
    # The same labels in another file and order, with a repeated and an incomplete row, are the same labels.
    lines = [json.loads(line) for line in labels.read_text().splitlines()]
    write(labels.parent / "a.jsonl", lines[::-1][:12])
    write(labels.parent / "b.jsonl", [*lines[:16], {"document": "d1", "summary": " "}])
    again = summarize(table, out, QUICK, labels_uri=str(labels.parent))
    assert again.decision.ranker == report.decision.ranker
    assert not again.decision.is_new
    assert again.num_computed == 0
    without = summarize(table, out, QUICK)
    assert without.decision.ranker == ""
    assert without.num_computed == 24


def test_labels_that_are_not_learned_from_are_counted_by_reason(tmp_path: Path, labelled: tuple[str, Path]) -> None:
    table, labels = labelled
    lines = [json.loads(line) for line in labels.read_text().splitlines()]
    more = [
        {"document": "d1", "summary": sentence(11)},  # a second summary
        {"document": "gone", "summary": "She won."},
        {"document": None, "summary": "She won."},
        lines[0],
    ]
    write(labels, [*lines, *more])
    counts = summarize(table, str(tmp_path / "out"), QUICK, labels_uri=str(labels)).decision.labels
    assert counts is not None
    assert counts.account() == (
        "28 labels of 25 documents, 24 learned from, 1 row incomplete, 1 row repeated, 1 document with several summaries, "
        "1 document not in the table"
    )


@pytest.mark.parametrize(
    ("lines", "error", "text"),
    [
        ([{"document": "d1"}], ColumnError, "no column 'summary'"),
        ([{"document": "d1", "summary": ""}], LabelError, "none has both a document and a summary"),
        (
            [{"document": f"x{at}", "summary": "She won."} for at in range(9)],
            TooFewLabelsError,
            r"9 documents not in the table; .* unlike 'x0', or leave the labels out",
        ),
        ([{"document": "d1", "summary": ["a", "b"]}], LabelError, "write each value as text"),
    ],
)
def test_labels_that_nothing_can_be_learned_from_are_refused(
    tmp_path: Path, table: str, lines: Rows, error: type[Exception], text: str
) -> None:
    labels = write(tmp_path / "labels/a.jsonl", lines)
    with pytest.raises(error, match=text):
        summarize(table, str(tmp_path / "out"), QUICK, labels_uri=str(labels))
    assert not (tmp_path / "out").exists()


def test_label_files_without_the_column_or_cut_off_are_named(tmp_path: Path, table: str) -> None:
    write(tmp_path / "labels/a.jsonl", [{"document": "d1", "summary": "She won."}])
    write(tmp_path / "labels/b.jsonl", [{"document": "d1", "label": "good"}])
    with pytest.raises(ColumnError, match=r"b\.jsonl: no column 'summary'"):
        summarize(table, str(tmp_path / "out"), QUICK, labels_uri=str(tmp_path / "labels"))
    (tmp_path / "labels/b.jsonl").write_text('{"document": "d1", "summ')
    with pytest.raises(BrokenObjectError, match=r"b\.jsonl"):
        summarize(table, str(tmp_path / "out"), QUICK, labels_uri=str(tmp_path / "labels"))


def test_a_damaged_or_missing_ranker_is_named(tmp_path: Path, labelled: tuple[str, Path]) -> None:
    table, labels = labelled
    out = tmp_path / "out"
    ranker = summarize(table, str(out), QUICK, labels_uri=str(labels)).decision.ranker
    (out / "_rankers" / ranker / "ranker.safetensors").write_bytes(b"{}")
    with pytest.raises(TableError, match="the files of the ranker are damaged"):
        summarize(table, str(out), QUICK, labels_uri=str(labels))
    shutil.rmtree(out / "_rankers")
    from sbert.derived.part_table import derive_parts

    job = SummaryJob(budget=QUICK.budget, ranker=ranker, ranker_uri=str(out))
    with pytest.raises(TableError, match="is not in _rankers/"):
        derive_parts(job, table, str(out))
