"""Documents: passages put together again, with the places that sentences have in the document."""

from pathlib import Path

import numpy as np
import pytest

from sbert.apply.summaries.documents import Document, DocumentReader
from sbert.apply.summaries.sentences import count_words, split_documents
from sbert.errors import ColumnError
from sbert.table.delta import Table
from sbert.table.shard_layout import locate_splits
from tests.support.tables import update, write

WITH_TEXT = {"source": {"keep_columns": ("text",)}}
TEXT = (
    "# Oil\n\nThe engine needs oil. Change the oil every year!\nUse a clean can (see Fig. 2).\n\n"
    "## Tyres\n\nTyres need air. Look at the pressure each month, and after a long trip. Dr. Smith said so.\n"
)


def documents(table: object) -> list[Document]:
    opened = Table.open(str(table))
    shards = locate_splits(opened.uri, opened.shards())
    splits = sorted({part.fingerprint for shard in shards for part in shard.splits})
    reader = DocumentReader(opened)
    return [document for split in splits for document in reader.documents(shards, split)]


@pytest.mark.parametrize("overlap", [0, 8])
@pytest.mark.parametrize("with_headings", [True, False])
def test_sentences_of_passages_have_their_places_in_the_document(
    tmp_path: Path, model: str, overlap: int, with_headings: bool
) -> None:
    write(tmp_path / "raw/a.jsonl", [{"id": "d", "text": TEXT}, {"id": "e", "text": "One sentence only."}])
    passages = {"max_tokens": 24, "overlap_tokens": overlap, "with_headings": with_headings}
    settings = {"source": {"passages": passages}}
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    assert Table.open(str(tmp_path / "table")).num_rows > 3
    first, second = documents(tmp_path / "table")
    assert first.id == "d"
    assert second.id == "e"
    whole, alone = split_documents([first, second], 100)
    assert tuple(" ".join(text.split()) for text in whole.texts) == (
        "The engine needs oil.",
        "Change the oil every year!",
        "Use a clean can (see Fig. 2).",
        "Tyres need air.",
        "Look at the pressure each month, and after a long trip.",
        "Dr. Smith said so.",
    )
    places = zip(whole.starts_S.tolist(), whole.ends_S.tolist(), strict=True)
    assert [TEXT[start:end].split() for start, end in places] == [text.split() for text in whole.texts]
    assert alone.texts == ("One sentence only.",)


def test_a_table_of_whole_documents_needs_a_kept_text(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", [{"id": "d", "text": TEXT, "kind": "x"}, {"id": "e", "text": "..."}])
    update(tmp_path / "raw", tmp_path / "bare", model=model)
    with pytest.raises(ColumnError, match=r"a summary needs the text of the documents: .*--keep-columns text"):
        DocumentReader(Table.open(str(tmp_path / "bare")))
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=WITH_TEXT)
    first, second = documents(tmp_path / "table")
    assert first.text == TEXT
    assert first.has_text
    assert not second.has_text
    assert len(split_documents([first], 2)[0]) == 2
    assert split_documents([first, second], 100)[1].num_sentences == 0


def test_of_two_documents_with_one_id_the_later_one_counts(tmp_path: Path, model: str) -> None:
    early = "The cat sat on the mat and the train to Hamburg is late. " * 6
    lines = [{"id": "d", "text": early}, {"id": "e", "text": "Butter in the oven."}, {"id": "d", "text": "She won."}]
    write(tmp_path / "raw/a.jsonl", lines)
    settings = {"source": {"passages": {"max_tokens": 24}}}
    update(tmp_path / "raw", tmp_path / "table", model=model, settings=settings)
    texts = {document.id: document.text for document in documents(tmp_path / "table")}
    assert texts == {"e": "Butter in the oven.", "d": "She won."}


def test_a_gap_between_passages_ends_a_sentence_and_moves_no_place() -> None:
    from sbert.apply.summaries.documents import _join

    document = _join("s", "d", b"", [(0, "no end here"), (20, "and here"), (29, "it goes on.")])
    (sentences,) = split_documents([document], 10)
    assert sentences.texts == ("no end here", "and here\nit goes on.")
    assert sentences.starts_S.tolist() == [0, 20]
    assert sentences.ends_S.tolist() == [11, 40]


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("one two", 2), ("e.g. this-one", 2), ("明天见。", 4), ("ab 明天", 3)]
)
def test_words_are_runs_without_spaces_or_characters(text: str, count: int) -> None:
    assert count_words([text]).tolist() == [count]


def test_documents_without_text_between_others_keep_their_place() -> None:
    empty = Document("s", "e", b"", "", np.zeros(1, np.int64), np.zeros(1, np.int64))
    full = Document("s", "f", b"", "A cat. A dog.", np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert [len(sentences) for sentences in split_documents([empty, full, empty, full], 5)] == [0, 2, 0, 2]
