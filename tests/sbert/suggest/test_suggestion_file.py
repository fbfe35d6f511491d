"""The file of suggestions is a label file once it is filled in."""

from pathlib import Path

import polars as pl
import pytest

from sbert.errors import SettingsError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import load_labels
from sbert.labels.settings import LabelSettings
from sbert.suggest.suggestion_file import write_suggestions


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_the_file_is_labels_once_it_is_filled_in(tmp_path: Path, ending: str) -> None:
    texts = [f"text number {word}" for word in "one two three four five six seven eight nine ten red blue".split()]
    rows = pl.DataFrame({"text": texts, "label": pl.Series([None] * 12, dtype=pl.String), "id": texts, "density": 0.5})
    uri = str(tmp_path / f"suggested.{ending}")
    write_suggestions(rows, uri)
    read = {"jsonl": pl.read_ndjson, "csv": pl.read_csv, "parquet": pl.read_parquet}[ending](uri)
    assert read["text"].to_list() == texts
    with pytest.raises(SettingsError, match="the file exists and may hold labels"):
        write_suggestions(rows, uri)
    filled = read.with_columns(label=pl.Series(["a", "b"] * 5 + [None, None]))
    Path(uri).unlink()
    write_suggestions(filled, uri)
    labels = load_labels(uri, LabelSettings(near_duplicate_similarity=1.0, dev_share=0, test_share=0))
    assert labels.kind == LabelKind.CLASSES
    assert labels.train.height == 10
    assert labels.num_rejected == {"no_label": 2}


def test_an_ending_that_is_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must end in .jsonl, .csv, .parquet"):
        write_suggestions(pl.DataFrame({"text": ["a"]}), str(tmp_path / "out.xlsx"))
