"""Words of a table: BM25 over segments, the same whatever the segments, and what was left out is said."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.errors import ColumnError, SettingsError
from sbert.index.search import search_table
from sbert.index.search_settings import SearchMode, SearchSettings
from sbert.index.top_k import NO_ROW
from sbert.index.version_rows import VersionRows
from sbert.index.words import bm25
from sbert.index.words.bm25 import WordView
from sbert.index.words.postings import build_postings, hash_terms
from sbert.index.words.settings import WordSettings
from sbert.index.words.word_index import drop_words, index_words
from sbert.storage.files import filesystem, join, read_bytes, strip_protocol, write_bytes
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.vacuum import vacuum_table
from sbert.table.verify import verify_table
from sbert.table.word_segments import read_word_segments
from tests.support.made_tables import make_version
from tests.support.tables import objects_apart, update, write

NOTES = {
    "1": "the invoice PR-1042 was paid twice",
    "2": "the invoice was lost",
    "3": "reset the password of the account",
    "4": "password password password",
    "5": "東京大学の入学試験",
}
WORDS = SearchSettings(mode=SearchMode.WORDS)


def notes_table(folder: Path, model: str, *, notes: dict[str, str] | None = None) -> str:
    """Refresh a table of notes; every note is an object and a split."""
    raw = folder / "raw"
    wanted = notes or NOTES
    for path in raw.glob("*.jsonl"):
        if path.stem not in wanted:
            path.unlink()
    for key, text in wanted.items():
        if not (raw / f"{key}.jsonl").exists():  # an object that is written again is a new split
            write(raw / f"{key}.jsonl", [{"id": key, "text": text}])
    table_settings = objects_apart(source={"keep_columns": ["text"]}, deletion_limit={"max_drop_share": 1.0})
    update(raw, folder / "table", model=model, settings=table_settings)
    return str(folder / "table")


@pytest.fixture(scope="module")
def table_uri(tmp_path_factory: pytest.TempPathFactory, model: str) -> str:
    return notes_table(tmp_path_factory.mktemp("notes"), model)


def scored_hits(uri: str, query: str, **asked: object) -> list[tuple[str, float]]:
    result = search_table(Table.open(uri), query, settings=WORDS.model_copy(update=asked))
    return [(hit.id, hit.score) for hit in result.hits()]


def bm25_by_hand(query: list[str], texts: list[list[str]]) -> list[float]:
    """Return the score of each text, by the formula alone."""
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        score = 0.0
        for term in set(query):
            holders = sum(term in other for other in texts)
            idf = math.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
            count = text.count(term)
            norm = bm25.BM25_K1 * (1 - bm25.BM25_B + bm25.BM25_B * len(text) / mean)
            score += idf * count * (bm25.BM25_K1 + 1) / (count + norm)
        scores.append(score)
    return scores


def test_scores_are_those_of_the_formula(table_uri: str) -> None:
    texts = [
        "the invoice pr 1042 pr-1042 was paid twice".split(),
        "the invoice was lost".split(),
        "reset the password of the account".split(),
        "password password password".split(),
        ["東京", "京大", "大学", "学の", "の入", "入学", "学試", "試験"],
    ]
    expected = bm25_by_hand(["the", "password"], texts)
    hits = dict(scored_hits(table_uri, "The password"))
    assert set(hits) == {"1", "2", "3", "4"}
    for key, score in hits.items():
        assert score == pytest.approx(expected[int(key) - 1], rel=1e-5)


@pytest.mark.parametrize(("query", "first"), [("PR-1042", "1"), ("pr 1042", "1"), ("大学", "5"), ("LOST", "2")])
def test_codes_and_rare_words_are_found_in_any_script(table_uri: str, query: str, first: str) -> None:
    assert scored_hits(table_uri, query)[0][0] == first


def test_a_query_without_a_known_word_finds_nothing(table_uri: str) -> None:
    assert scored_hits(table_uri, "zebra") == []


@given(
    texts=st.lists(st.lists(st.sampled_from("abcdef"), max_size=6).map(" ".join), min_size=1, max_size=30),
    cuts=st.sets(st.integers(1, 29)),
    left=st.sets(st.integers(0, 29)),
    query=st.lists(st.sampled_from("abcdefg"), max_size=4).map(" ".join),
)
@settings(max_examples=60, deadline=None)
def test_the_score_does_not_depend_on_the_segments(
    texts: list[str], cuts: set[int], left: set[int], query: str
) -> None:
    """Rows that left are still in segments; they neither are found nor count."""
    stayed = [at for at in range(len(texts)) if at not in left]
    numbers = np.full(len(texts), NO_ROW, np.int64)
    numbers[stayed] = np.arange(len(stayed))
    bounds = [0, *sorted(cut for cut in cuts if cut < len(texts)), len(texts)]
    parts = [
        bm25.Part(build_postings([pl.Series(texts[low:high], dtype=pl.String)]), numbers[low:high])
        for low, high in pairwise(bounds)
    ]
    whole = bm25.Part(
        build_postings([pl.Series([texts[at] for at in stayed], dtype=pl.String)]), np.arange(len(stayed))
    )
    got = bm25.WordScores(parts, len(stayed)).search([query], 10)
    wanted = bm25.WordScores([whole], len(stayed)).search([query], 10)
    np.testing.assert_array_equal(got[1], wanted[1])
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)


def test_postings_are_those_of_a_count() -> None:
    postings = build_postings([pl.Series(["a b a", ""]), pl.Series(["b"])])
    rows, counts = postings.of(int(hash_terms(["a"])[0]))
    assert rows.tolist() == [0]
    assert counts.tolist() == [2]
    rows, counts = postings.of(int(hash_terms(["b"])[0]))
    assert rows.tolist() == [0, 2]
    assert counts.tolist() == [1, 1]
    assert postings.of(int(hash_terms(["c"])[0]))[0].tolist() == []
    assert postings.lengths_R.tolist() == [3, 0, 1]


def test_the_index_follows_the_table_and_answers_as_no_index_does(tmp_path: Path, model: str) -> None:
    uri = notes_table(tmp_path, model)
    queries = ["the invoice", "password reset", "PR-1042", "大学"]
    before = [scored_hits(uri, query) for query in queries]
    result = search_table(Table.open(uri), "the", settings=WORDS)
    assert result.way.describe() == "words: no word index, the texts of 5 rows were read, 5 rows of version 0"
    report = index_words(uri, settings=WordSettings(segment_rows=2, merge_segments=64))
    assert report.num_segments == 3
    assert report.num_segments_built == 3
    assert report.num_rows_built == 5
    assert [scored_hits(uri, query) for query in queries] == before
    way = search_table(Table.open(uri), "the", settings=WORDS).way
    assert way.num_word_segments == 3
    assert way.num_rows_read == 0
    assert index_words(uri, settings=WordSettings(segment_rows=2, merge_segments=64)).num_segments_built == 0

    changed = {**NOTES, "6": "another invoice"}
    del changed["2"]
    notes_table(tmp_path, model, notes=changed)
    by_old_segments = [scored_hits(uri, query) for query in queries]
    assert search_table(Table.open(uri), "the", settings=WORDS).way.num_rows_read == 1
    report = index_words(uri)
    assert report.num_rows == 5
    assert [scored_hits(uri, query) for query in queries] == by_old_segments
    drop_words(uri)
    assert [scored_hits(uri, query) for query in queries] == by_old_segments
    compact_table(uri)
    assert [scored_hits(uri, query) for query in queries] == by_old_segments


def test_segments_are_merged_so_that_few_remain(tmp_path: Path, model: str) -> None:
    notes = {str(number): f"word{number} shared" for number in range(9)}
    uri = notes_table(tmp_path, model, notes=notes)
    apart = index_words(uri, settings=WordSettings(segment_rows=1, merge_segments=64))
    assert apart.num_segments == 9
    merged = index_words(uri, settings=WordSettings(merge_segments=3))
    assert merged.num_segments == 1
    assert len(scored_hits(uri, "shared")) == 9


def test_a_damaged_segment_is_left_out_and_built_again(
    tmp_path: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    uri = notes_table(tmp_path, model)
    index_words(uri)
    whole = scored_hits(uri, "the invoice")
    (record,) = read_word_segments(uri)
    file = Path(uri) / "_words" / record.data.name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1  # one bit, in an array: the file can still be opened
    file.write_bytes(content)
    assert "run `sbert index-words --check`" in verify_table(uri).findings[0]
    assert scored_hits(uri, "the invoice") == whole
    assert "a segment of the word index is left out" in caplog.text
    assert index_words(uri).num_segments_built == 0
    assert index_words(uri, check=True).num_segments_built == 1
    assert verify_table(uri).findings == []
    assert search_table(Table.open(uri), "the", settings=WORDS).way.num_word_segments == 1


def test_a_search_in_object_storage_copies_a_segment_once_and_checks_it(
    s3_bucket: str, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    local = notes_table(tmp_path, model)
    uri = f"{s3_bucket}/table"
    filesystem(uri).put(f"{local}/", strip_protocol(uri), recursive=True)
    index_words(uri)
    (record,) = read_word_segments(uri)
    file = join(uri, "_words", record.data.name)
    content = read_bytes(file)
    write_bytes(file, b"\xff" * len(content))
    assert search_table(Table.open(uri), "invoice", settings=WORDS).way.num_word_segments == 0  # damaged: left out
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    write_bytes(file, content)
    whole = scored_hits(uri, "invoice")
    assert sorted(hit for hit, _ in whole) == ["1", "2"]
    write_bytes(file, b"\xff" * len(content))
    result = search_table(Table.open(uri), "invoice", settings=WORDS)
    assert result.way.num_word_segments == 1  # the copy is read
    assert [(hit.id, hit.score) for hit in result.hits()] == whole
    assert index_words(uri, check=True).num_segments_built == 1
    assert read_bytes(file) == content


def test_vacuum_removes_segments_of_splits_that_no_version_needs(tmp_path: Path, model: str) -> None:
    uri = notes_table(tmp_path, model)
    index_words(uri)
    assert not [name for name in vacuum_table(uri, retention_hours=0).files if name.startswith("_words/")]
    notes_table(tmp_path, model, notes={"9": "all is new"})
    going = [name for name in vacuum_table(uri, retention_hours=0, apply=True).files if name.startswith("_words/")]
    assert [Path(name).suffix for name in going] == [".json", ".safetensors"]
    assert [hit for hit, _ in scored_hits(uri, "new")] == ["9"]


def test_a_table_without_text_or_with_too_many_rows_says_what_to_do(
    table_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_version(str(tmp_path / "made"), {"a": {"1": 1}})
    with pytest.raises(ColumnError, match=r"no kept column holds the encoded text .*--keep-columns text"):
        search_table(made, "word", settings=WORDS)
    assert [
        hit.id for hit in search_table(made, "KIND", settings=WORDS.model_copy(update={"words_column": "kind"})).hits()
    ] == ["1"]
    monkeypatch.setattr(bm25, "MAX_ROWS_READ", 4)
    with pytest.raises(SettingsError, match=r"5 rows are in no segment .* at most 4: run `sbert index-words` first"):
        search_table(Table.open(table_uri), "word", settings=WORDS)


def test_a_view_searches_among_chosen_rows_alone(table_uri: str) -> None:
    rows = VersionRows(Table.open(table_uri))
    view = WordView(rows)
    _, every = view.search(["the"], 5)
    wanted = every[0][every[0] != NO_ROW][1:]
    _, numbers = view.search(["the"], 5, np.sort(wanted))
    assert set(numbers[0][numbers[0] != NO_ROW]) == set(wanted)
