"""Derived tables lose the rows and their mentions; labels and models that had seen them are listed and left."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from sbert.apply.alignment.job import AlignmentJob
from sbert.apply.duplicates.job import DuplicatesJob
from sbert.apply.duplicates.rule import PairRule
from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.derived.verify import verify_derived
from sbert.erase.places import ErasedRows
from sbert.erase.run import erase
from sbert.erase.seen_by import find_seen_by
from sbert.errors import NotATableError, TableError
from sbert.registry.version_record import LabelsRecord, VersionRecord
from sbert.rows.cleaning import CleaningSettings, hash_texts
from sbert.sync.follow import sync
from sbert.table.delta import Table
from sbert.table.erased_keys import ErasedKeys
from sbert.table.followers import followers_of, forget_follower
from sbert.training.learned_texts import LEARNED_TEXTS_NAME, LearnedTexts
from tests.support.file_search import files_that_hold
from tests.support.made_tables import make_version
from tests.support.made_texts import make_text_version


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = str(tmp_path / "table")
    make_version(folder, {f"s3://raw/{name}.jsonl": {f"{name}-{at}": at * 3 for at in range(8)} for name in "ab"})
    return folder


def test_a_derived_table_loses_the_rows_and_their_mentions_in_lists_of_others(tmp_path: Path, table: str) -> None:
    out = str(tmp_path / "neighbours")
    derive(NeighboursJob(k=15), table, out)
    assert files_that_hold(out, b"'a-3'")
    receipt = erase(table, ErasedKeys(ids=["a-3"]), derived=[out])
    assert receipt.is_complete
    (place,) = [place for place in receipt.places if place.place == "derived table"]
    assert place.num_found == 1 + 15  # its row, and a mention in the list of each other row
    assert files_that_hold(out, b"'a-3'") == []
    derived = DerivedTable.open(out).scan().collect()
    assert derived.height == 15
    assert set(derived["neighbours"].list.len()) == {14}
    with pytest.raises(TableError, match="held rows that were erased"):
        DerivedTable.open(out, 0)
    derive(NeighboursJob(k=15), table, out)
    assert verify_derived(out).findings == []


def test_an_erased_representative_is_named_nowhere_and_the_next_run_names_another(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "duplicates")
    near = {"s3://raw/a": [(f"a-{at}", f"text {at}", [1.0, 0.01 * at]) for at in range(4)]}
    make_text_version(table, near | {"s3://raw/b": [("b-0", "other", [0.0, 1.0]), ("b-1", "more", [-1.0, 0.0])]})
    job = DuplicatesJob(rule=PairRule(conflict_check=False))
    derive(job, table, out)
    rows = DerivedTable.open(out).scan().collect()
    (first,) = {row["id"] for row in rows["representative"].to_list() if row["id"].startswith("a-")}
    receipt = erase(table, ErasedKeys(ids=[first, "b-0"]), derived=[out])
    assert receipt.is_complete
    (place,) = [place for place in receipt.places if place.place == "derived table"]
    assert place.num_found == 2 + 3  # two rows, and the representative of three others
    assert "3 mentions in other rows taken out" in place.action
    assert files_that_hold(out, f"'{first}'".encode()) == []
    rows = DerivedTable.open(out).scan().collect().sort("id")
    named = {row["id"]: row["representative"] for row in rows.to_dicts()}
    assert named.pop("b-1") == {"source": "s3://raw/b", "id": "b-1"}
    assert len(named) == 3
    assert set(named.values()) == {None}
    derive(job, table, out)
    rows = DerivedTable.open(out).scan().filter(pl.col("id") != "b-1").collect()
    (next_one,) = {row["id"] for row in rows["representative"].to_list()}
    assert next_one in named
    assert verify_derived(out).findings == []


def test_an_erased_partner_in_another_table_is_named_no_more_in_an_alignment(tmp_path: Path) -> None:
    ours, theirs, out = (str(tmp_path / name) for name in ("ours", "theirs", "out"))
    vectors = [[1.0, 0.1 * at, 0.01 * at * at] for at in range(6)]
    make_text_version(ours, {"s3://raw/de": [(f"de-{at}", f"Wort {at}", vector) for at, vector in enumerate(vectors)]})
    make_text_version(
        theirs, {"s3://raw/en": [(f"en-{at}", f"word {at}", vector) for at, vector in enumerate(vectors)]}
    )
    derive(AlignmentJob.of_newest(theirs, k=2), ours, out)
    partners = dict(DerivedTable.open(out).scan().select("id", "match").collect().iter_rows())
    (named,) = [row for row, match in partners.items() if match is not None and match["id"] == "en-3"]
    assert erase(theirs, ErasedKeys(pairs=[("s3://raw/en", "en-3")]), derived=[out]).is_complete
    after = dict(DerivedTable.open(out).scan().select("id", "match").collect().iter_rows())
    assert after == partners | {named: None}
    assert files_that_hold(out, b"'en-3'") == []


def test_the_rows_of_consumers_on_record_are_those_after_the_erasure(tmp_path: Path, table: str) -> None:
    out, store = str(tmp_path / "neighbours"), f"lancedb:{tmp_path}/lance#docs"
    derive(NeighboursJob(k=2), table, out)
    sync(table, store)
    rows = {state.name: state.num_rows for state in followers_of(Table.open(table))}
    assert rows == {out: 16, store: 16}
    keys = ErasedKeys(ids=["a-3", "b-1"])
    erase(table, keys, derived=[out], destinations=[store], is_dry_run=True)
    assert {state.num_rows for state in followers_of(Table.open(table))} == {16}
    receipt = erase(table, keys, derived=[out], destinations=[store])
    states = {state.name: state for state in followers_of(Table.open(table))}
    assert {name: state.num_rows for name, state in states.items()} == {out: 14, store: 14}
    assert {state.coverage for state in states.values()} == {1.0}
    assert states[out].version == 0
    assert states[store].version == receipt.version
    assert states[store].proven_version == 0


def test_a_table_that_is_no_consumer_on_record_is_not_noted(tmp_path: Path, table: str) -> None:
    out = str(tmp_path / "neighbours")
    derive(NeighboursJob(k=2), table, out)
    forget_follower(Table.open(table), out)
    assert erase(table, ErasedKeys(ids=["a-3"]), derived=[out]).is_complete
    assert followers_of(Table.open(table)) == []


def test_a_consumer_on_record_that_was_not_named_leaves_the_erasure_incomplete(tmp_path: Path, table: str) -> None:
    out = str(tmp_path / "neighbours")
    derive(NeighboursJob(k=2), table, out)
    store = f"lancedb:{tmp_path}/lance#docs"
    sync(table, store)
    receipt = erase(table, ErasedKeys(ids=["a-3"]))
    assert {place.location: place.problem.split(":")[0] for place in receipt.left} == {
        out: "it may hold the rows",
        store: "it may hold the rows",
    }
    assert f"--derived {out}" in next(place.problem for place in receipt.left if place.location == out)
    assert f"--destination {store}" in next(place.problem for place in receipt.left if place.location == store)
    assert files_that_hold(out, b"'a-3'")
    assert erase(table, ErasedKeys(ids=["a-3"])).version == receipt.version  # nothing was left to commit
    assert erase(table, ErasedKeys(ids=["a-3"]), derived=[out], destinations=[store]).is_complete
    assert files_that_hold(out, b"'a-3'") == []


def test_a_consumer_that_is_gone_is_forgotten_before_an_erasure(tmp_path: Path, table: str) -> None:
    out = str(tmp_path / "neighbours")
    derive(NeighboursJob(k=2), table, out)
    shutil.rmtree(out)
    assert not erase(table, ErasedKeys(ids=["a-3"])).is_complete
    forget_follower(Table.open(table), out)
    assert erase(table, ErasedKeys(ids=["a-3"])).is_complete


def test_pages_that_quote_texts_of_a_derived_table_go_with_the_first_erased_row(tmp_path: Path, table: str) -> None:
    out = tmp_path / "neighbours"
    derive(NeighboursJob(k=2), table, str(out))
    page = out / "_reports/page.html"
    page.parent.mkdir()
    page.write_text("the text of a person")
    assert erase(table, ErasedKeys(ids=["nobody"]), derived=[str(out)]).num_rows_erased == 0
    assert page.exists()
    receipt = erase(table, ErasedKeys(ids=["a-3"]), derived=[str(out)])
    assert receipt.is_complete
    (place,) = [place for place in receipt.places if place.place == "reports of a derived table"]
    assert place.action == "1 file removed; the next run of the job writes them"
    assert not page.exists()


@pytest.mark.parametrize(
    ("record", "is_kept"),
    [
        ({"sentences": {"shoes|bad|2026": "shoes: 3 rows"}, "decisions": {"shoes|bad|2026": {"reason": "a-30"}}}, True),
        (
            {"sentences": {"shoes|bad|2026": "shoes: 3 rows"}, "decisions": {"shoes|bad|2026": {"reason": "of a-3"}}},
            False,
        ),
        ({"sentences": {"a-3|bad|2026": "a-3: 3 rows"}}, False),
        ({"topics": ["a-3"]}, False),
    ],
)
def test_a_record_of_alerts_stays_unless_an_erased_id_stands_in_it(
    tmp_path: Path, table: str, record: dict[str, object], is_kept: bool
) -> None:
    out = tmp_path / "neighbours"
    derive(NeighboursJob(k=2), table, str(out))
    reports = out / "_reports"
    reports.mkdir()
    (reports / "alerts.json").write_text(json.dumps(record))
    (reports / "opinion.html").write_text("the text of a person")
    assert erase(table, ErasedKeys(ids=["a-3"]), derived=[str(out)]).is_complete
    assert {file.name for file in reports.iterdir()} == ({"alerts.json"} if is_kept else set())


def test_a_wrong_derived_table_is_an_error_before_anything_is_done(tmp_path: Path, table: str) -> None:
    with pytest.raises(NotATableError):
        erase(table, ErasedKeys(ids=["a-3"]), derived=[str(tmp_path / "nowhere")])
    assert files_that_hold(table, b"'a-3'")


def test_labels_and_models_that_had_seen_a_row_are_listed_and_left(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    lines = [
        {"text": "the text  of a person", "label": "x", "split": "test"},
        {"id": "p-1", "text": "other words", "label": "y"},
        {"id": "p-2", "text": "not meant", "label": "y"},
    ]
    (labels / "one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (labels / "two.jsonl").write_text(json.dumps(lines[2]) + "\n")
    models = tmp_path / "models"
    for name, objects in (("v0001", ["two.jsonl@1"]), ("v0002", ["one.jsonl@1", "two.jsonl@1"])):
        record = VersionRecord(
            version=name,
            encoder_fingerprint="f",
            dim=4,
            base="b",
            run_id="r",
            labels=LabelsRecord(
                uri=str(labels),
                kind="classes",
                fingerprint="f",
                counts={},
                objects=[f"{labels}/{one}" for one in objects],
            ),
        )
        (models / name).mkdir(parents=True)
        (models / name / "version.json").write_text(record.model_dump_json())
    before = (labels / "one.jsonl").read_bytes()
    text_hash = hash_texts(pl.Series(["the text of a person"]))[0]
    rows = ErasedRows(ErasedKeys(ids=["p-1"]), frozenset([text_hash]))
    seen, problems = find_seen_by(None, str(models), rows, CleaningSettings())
    assert problems == []
    assert [(one.kind.value, Path(one.location).name, one.num_rows) for one in seen] == [
        ("labels", "one.jsonl", 2),
        ("model", "v0002", 2),
    ]
    assert seen[0].detail == "1 of them are dev or test rows"
    assert (labels / "one.jsonl").read_bytes() == before


def test_a_model_is_listed_by_its_record_of_learned_texts_when_its_labels_are_gone(tmp_path: Path) -> None:
    for name, text in (("v0001", "another text"), ("v0002", "the text of a person")):
        record = VersionRecord(version=name, encoder_fingerprint="f", dim=4, base="b", run_id="r")
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "version.json").write_text(record.model_dump_json())
        LearnedTexts.of(unlabelled=pl.Series([text])).write(tmp_path / name / "model")
    text_hashes = frozenset(hash_texts(pl.Series(["the text of a person", "nobody learned this"])))
    rows = ErasedRows(ErasedKeys(ids=["p-1"]), text_hashes)
    seen, problems = find_seen_by(None, str(tmp_path), rows, CleaningSettings())
    assert problems == []
    assert [(one.kind.value, Path(one.location).name, one.num_rows) for one in seen] == [("model", "v0002", 1)]
    assert seen[0].detail == "its record of learned texts holds 1 erased text"
    (tmp_path / "v0002/model" / LEARNED_TEXTS_NAME).write_bytes(b"damaged")
    seen, (problem,) = find_seen_by(None, str(tmp_path), rows, CleaningSettings())
    assert seen == []
    assert problem.location.endswith("v0002")
    assert "is damaged" in problem.problem


def test_labels_that_cannot_be_read_are_left(tmp_path: Path) -> None:
    rows = ErasedRows(ErasedKeys(ids=["p-1"]))
    _, (problem,) = find_seen_by(str(tmp_path / "nowhere"), None, rows, CleaningSettings())
    assert not problem.is_clean
