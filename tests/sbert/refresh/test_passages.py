"""A refresh that cuts documents into passages: rows, what an edit costs, and what the table remembers."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.errors import SettingsError
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.fingerprints import rows_fingerprint
from sbert.refresh.job import RefreshSettings
from sbert.refresh.passages import token_counter
from sbert.sync.change_feed import write_changes
from sbert.table.verify import verify_table
from tests.support.refreshing import refreshed
from tests.support.tables import read, texts, write

CUT: dict[str, Any] = {"source": {"passages": {"max_tokens": 16}}}
FINGERPRINT = "460d3fe7f4715a0de4e792df0eb9c58d4c22acbe721bc630dbdcc54240184675"
"""Of the default settings, in the release before there were passages."""
PIECES = {"splits": {"split_bytes": 600, "pack_below_bytes": 0}}


def document(number: int, count: int = 12) -> str:
    """Return a document of `count` sentences."""
    return " ".join(f"{text.capitalize()}." for text in texts(100 * number, count))


def write_documents(path: Path, contents: dict[str, str]) -> Path:
    return write(path, [{"id": name, "text": text, "kind": f"kind of {name}"} for name, text in contents.items()])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two documents of several passages."""
    write_documents(tmp_path / "raw/a.jsonl", {"x": document(1), "y": document(2)})
    return tmp_path / "raw"


def test_each_passage_is_a_row_with_the_columns_of_its_document(raw: Path, tmp_path: Path, model: str) -> None:
    settings = {"source": {**CUT["source"], "keep_columns": ["kind"]}}
    report = refreshed(raw, tmp_path / "table", model, settings).report
    table = read(tmp_path / "table")
    assert report.num_rows_read == report.num_rows_encoded == table.height > 4
    assert report.num_documents_read == report.num_documents_written == 2
    assert not table["truncated"].any()
    assert table["num_tokens"].max() <= 16
    for row in table.iter_rows(named=True):
        name, number = row["id"].split("#")
        assert name == row["document_id"]
        assert int(number) >= 1
        assert row["passage"] == document({"x": 1, "y": 2}[name])[row["start"] : row["end"]]
        assert row["kind"] == f"kind of {name}"
        assert row["headings"] is None
    assert verify_table(str(tmp_path / "table")).findings == []


def test_a_second_run_does_nothing_and_remembers_the_settings(raw: Path, tmp_path: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, CUT)
    again = refreshed(raw, tmp_path / "table", model)
    assert again.plan.is_empty
    assert again.plan.changes == ()


def test_a_changed_sentence_encodes_at_most_three_passages(tmp_path: Path, model: str) -> None:
    chance = random.Random(0)
    sentences = [f"{text.capitalize()} {chance.random():.6f}." for text in texts(0, 300)]
    write_documents(tmp_path / "raw/a.jsonl", {"x": " ".join(sentences)})
    settings = {"source": {"passages": {"max_tokens": 48}}}
    first = refreshed(tmp_path / "raw", tmp_path / "table", model, settings).report
    sentences[150] = "A new sentence stands here."
    write_documents(tmp_path / "raw/a.jsonl", {"x": " ".join(sentences)})
    report = refreshed(tmp_path / "raw", tmp_path / "table").report
    assert first.num_rows_read >= 100
    assert 1 <= report.num_texts_encoded <= 3
    assert report.num_rows_carried + report.num_rows_encoded == report.num_rows_read


def test_sentences_are_counted_in_parts_of_bounded_memory(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SentenceEncoder.from_pretrained(model)
    expected = token_counter(encoder, "", 16).count(texts(0, 10)).tolist()
    tokenize, sizes = encoder.tokenize, []

    def remember(some: list[str], *, prompt: str) -> TokenizedTexts:
        sizes.append(len(some))
        return tokenize(some, prompt=prompt)

    monkeypatch.setattr(encoder, "tokenize", remember)
    monkeypatch.setattr("sbert.refresh.passages.COUNTED_AT_ONCE", 4)
    assert token_counter(encoder, "", 16).count(texts(0, 10)).tolist() == expected
    assert max(sizes) == 4


def test_other_passages_are_another_setting_of_the_table(raw: Path, tmp_path: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, CUT)
    changed = refreshed(raw, tmp_path / "table", model, {"source": {"passages": {"overlap_tokens": 4}}})
    assert [change.name for change in changed.plan.changes] == ["source.passages"]
    passages = changed.plan.job.settings.source.passages
    assert passages is not None
    assert passages.max_tokens == 16
    assert passages.overlap_tokens == 4  # the one that is not named stays


def test_passages_can_be_turned_off_again(raw: Path, tmp_path: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, CUT)
    settings = RefreshSettings().with_source(passages={"of": "nothing"}).allowing_drops(allowed=True)
    refreshed(raw, tmp_path / "table", model, settings)
    table = read(tmp_path / "table")
    assert table["id"].to_list() == ["x", "y"]
    assert "passage" not in table.columns


@pytest.mark.parametrize("passages", [None, {"of": "nothing"}])
def test_a_table_without_passages_keeps_its_fingerprint(passages: object) -> None:
    settings = RefreshSettings.model_validate({"source": {"passages": passages}})
    assert rows_fingerprint("encoder", settings) == FINGERPRINT


def test_a_document_whose_id_comes_again_leaves_as_a_whole(tmp_path: Path, model: str) -> None:
    lines = [
        {"id": "x", "text": document(1, 20)},
        {"id": "y", "text": document(2)},
        {"id": "x", "text": document(3, 4)},
    ]
    write(tmp_path / "raw/a.jsonl", lines)
    report = refreshed(tmp_path / "raw", tmp_path / "table", model, CUT | {"reading": {"block_rows": 2}}).report
    table = read(tmp_path / "table")
    assert " ".join(table.filter(table["document_id"] == "x").sort("start")["passage"]) == document(3, 4)
    assert report.rejects_by_reason == {"duplicate_id": 1}
    assert report.num_documents_read == 3
    assert report.num_documents_written == 2


def test_documents_of_several_slices_that_share_an_id_leave_but_the_last(tmp_path: Path, model: str) -> None:
    names = ["x", "y", "z", "x", "v"]
    lines = [{"id": name, "text": document(number)} for number, name in enumerate(names)]
    write(tmp_path / "raw/a.jsonl", lines)
    outcome = refreshed(tmp_path / "raw", tmp_path / "table", model, CUT | PIECES)
    assert len(outcome.plan.build) > 1
    table = read(tmp_path / "table")
    assert " ".join(table.filter(table["document_id"] == "x").sort("start")["passage"]) == document(3)
    assert table["document_id"].n_unique() == 4
    assert table["id"].is_unique().all()


def test_rejected_passages_and_documents_add_up(tmp_path: Path, model: str) -> None:
    raw = tmp_path / "raw"
    write_documents(raw / "a.jsonl", {"x": document(1), "blank": "  \n ", "short": "No."})
    (raw / "b.jsonl").write_text("[1]\n" + json.dumps({"id": "y", "text": document(2)}) + "\n")
    report = refreshed(raw, tmp_path / "table", model, CUT | {"cleaning": {"min_chars": 4}}).report
    assert report.rejects_by_reason == {"broken_row": 1, "empty_text": 1, "too_short": 1}
    assert report.num_rows_read == report.num_rows_encoded + 3
    assert report.num_documents_read == 5
    assert report.num_documents_written == 2


def test_a_misfit_of_a_document_counts_once(tmp_path: Path, model: str) -> None:
    lines = [{"id": str(number), "text": document(number), "n": number} for number in range(3)]
    write(tmp_path / "raw/a.jsonl", lines)
    settings = {"source": {**CUT["source"], "keep_columns": ["n"]}, "reading": {"block_rows": 3}}
    refreshed(tmp_path / "raw", tmp_path / "table", model, settings)
    lines[1]["n"] = "many"
    write(tmp_path / "raw/a.jsonl", lines)
    report = refreshed(tmp_path / "raw", tmp_path / "table").report
    assert report.misfits_by_column == {"n": 1}
    assert report.num_texts_encoded == 0


def test_equal_passages_are_encoded_once(tmp_path: Path, model: str) -> None:
    write_documents(tmp_path / "raw/a.jsonl", {"x": document(1), "y": document(1)})
    report = refreshed(tmp_path / "raw", tmp_path / "table", model, CUT).report
    assert report.num_texts_encoded * 2 == report.num_rows_read


def test_the_change_feed_names_passages(raw: Path, tmp_path: Path, model: str) -> None:
    refreshed(raw, tmp_path / "table", model, CUT)
    before = read(tmp_path / "table")
    write_documents(raw / "a.jsonl", {"y": document(2)})
    refreshed(raw, tmp_path / "table", settings={"deletion_limit": {"max_drop_share": 1.0}})
    write_changes(str(tmp_path / "table"), 0, None, str(tmp_path / "changes.jsonl"))
    changes = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_text().splitlines()]
    deleted = {row["id"] for row in changes if row["change"] == "delete"}
    assert deleted == set(before.filter(before["document_id"] == "x")["id"])


def test_a_backfill_of_one_object_keeps_the_other_documents(raw: Path, tmp_path: Path, model: str) -> None:
    write_documents(raw / "b.jsonl", {"z": document(3)})
    settings = CUT | {"splits": {"pack_below_bytes": 0}}
    refreshed(raw, tmp_path / "table", model, settings)
    write_documents(raw / "a.jsonl", {"x": document(4), "y": document(5)})
    write_documents(raw / "b.jsonl", {"z": document(6)})
    refreshed(raw, tmp_path / "table", settings=settings, selection=Selection(include=("b.jsonl",)))
    table = read(tmp_path / "table")
    by_document = {name: " ".join(rows.sort("start")["passage"]) for (name,), rows in table.group_by("document_id")}
    assert by_document == {"x": document(1), "y": document(2), "z": document(6)}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"passages": {"max_tokens": 100_000}}, "max_tokens is 100000, and the encoder takes"),
        ({"passages": {"overlap_tokens": 5_000}}, "overlap_tokens is 5000, and a passage has at most"),
        ({"passages": {}, "keep_columns": ["passage"]}, "keep_columns names passage"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    raw: Path, tmp_path: Path, model: str, source: object, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        refreshed(raw, tmp_path / "table", model, {"source": source})
