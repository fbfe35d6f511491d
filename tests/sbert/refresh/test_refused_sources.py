"""Sources that cannot be what the caller meant: columns of plain text, nothing but empty or unreadable objects."""

import logging
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from sbert.errors import ColumnError, IncompleteError
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.plan import make_plan
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run import refresh
from sbert.source.listing import list_objects
from sbert.source.plain_text_columns import check_columns_of_plain_text
from sbert.source.settings import SourceSettings
from tests.support.refreshing import refreshed
from tests.support.tables import objects_apart, rows, write

SPLIT_COUNTS = {
    "num_splits_built",
    "num_splits_resumed",
    "num_splits_kept",
    "num_splits_copied",
    "num_splits_dropped",
    "splits_by_reason",
    "broken_objects",
}


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"text_column": "#1 String"}, "'#1 String'"),
        ({"text_column": "{a}. {b}"}, "'a', 'b'"),
        ({"id_column": "key"}, "'key'"),
    ],
)
def test_a_column_of_plain_text_is_refused(tmp_path: Path, model: str, columns: dict[str, str], named: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.txt").write_text("#1 String\tx\nred\t1\n")
    job = RefreshJob(
        raw_uri=str(tmp_path / "raw"),
        table_uri=str(tmp_path / "table"),
        model=model,
        settings=RefreshSettings.model_validate({"source": columns}),
    )
    with pytest.raises(
        ColumnError, match=rf"names {named}, such as .*a\.txt: leave .* rename objects that hold records to \.tsv"
    ):
        make_plan(job)


def test_plain_text_beside_objects_with_the_column_is_named_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "lang=en/a.jsonl", [{"body": "red"}])
    (tmp_path / "lang=en/b.txt").write_text("green\n")
    objects = list_objects(str(tmp_path))
    for source in (SourceSettings(), SourceSettings(text_column="lang")):
        check_columns_of_plain_text("raw", objects, source, is_new=True)
    assert not caplog.text
    check_columns_of_plain_text("raw", objects, SourceSettings(text_column="body"), is_new=True)
    assert "raw: 1 of 2 objects are plain text" in caplog.text
    assert "b.txt: a line is read as a text" in caplog.text


def test_plain_text_of_a_table_that_has_the_column_already_is_not_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text("green\n")
    source = SourceSettings(text_column="body")
    check_columns_of_plain_text("raw", list_objects(str(tmp_path)), source, is_new=False)
    assert "1 of 1 objects are plain text" in caplog.text


def test_a_source_of_empty_objects_gives_a_warning(
    tmp_path: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "raw/a.jsonl", [])
    with caplog.at_level(logging.WARNING, "sbert"):
        report = refreshed(tmp_path / "raw", tmp_path / "table", model).report
    assert report.version == 0
    assert report.num_rows == 0
    assert "all 1 objects are empty, such as" in caplog.text


def test_a_new_table_without_a_readable_row_is_not_published(tmp_path: Path, model: str) -> None:
    path = tmp_path / "raw/a.csv"
    path.parent.mkdir()
    path.write_bytes("text\nred\n".encode("utf-16-le"))
    job = RefreshJob(raw_uri=str(tmp_path / "raw"), table_uri=str(tmp_path / "table"), model=model)
    with pytest.raises(IncompleteError, match=r"1 of 1 objects could not be read.* nothing was published: .*a\.csv"):
        refresh(job)
    assert not (tmp_path / "table/_delta_log").exists()
    write(tmp_path / "raw/b.jsonl", rows(0, 2))
    with pytest.raises(IncompleteError, match="everything else is in version 0"):
        refresh(job)


def test_a_dry_run_names_the_objects_that_planning_shows_to_be_unreadable(tmp_path: Path, model: str) -> None:
    raw = tmp_path / "raw"
    write(raw / "a.jsonl", rows(0, 2))
    (raw / "no_mark.csv").write_bytes("text\nred\n".encode("utf-16-le"))
    (raw / "mixed.csv").write_bytes("text\né\n".encode() * 9 + "text\né\n".encode("cp1252") * 9)
    (raw / "bars.csv").write_text("a;b,c;d\n" + "1;2,3;4\n" * 5)
    with zipfile.ZipFile(raw / "b.zip", "w") as archive:
        archive.writestr("../out.csv", "text\nred\n")
    (raw / "gone.jsonl").symlink_to(raw / "nothing")
    pl.DataFrame({"text": ["red"], "n": pl.Series([2**100], dtype=pl.Int128)}).write_parquet(raw / "wide.parquet")
    job = RefreshJob(raw_uri=str(raw), table_uri=str(tmp_path / "table"), model=model)
    with pytest.raises(IncompleteError, match=r"^6 of 7 objects cannot be read, as planning shows") as caught:
        refresh(job, dry_run=True)
    report = caught.value.report
    assert isinstance(report, RefreshReport)
    reasons = {uri.removeprefix(f"{raw}/"): why for uri, why in report.broken_objects.items()}
    assert reasons.keys() == {"no_mark.csv", "mixed.csv", "bars.csv", "b.zip/../out.csv", "gone.jsonl", "wide.parquet"}
    assert "set source.encoding to utf-16-le" in reasons["no_mark.csv"]
    assert "both utf-8 and windows-1252 fit: set source.encoding" in reasons["mixed.csv"]
    assert "',' and ';', both fit: set source.csv.delimiter" in reasons["bars.csv"]
    assert "integers of 128 bits in 'n', which Arrow cannot read" in reasons["wide.parquet"]
    assert "write the column as text" in reasons["wide.parquet"]
    assert not (tmp_path / "table").exists()


def test_a_large_object_with_integers_of_128_bits_costs_no_row_of_the_others(tmp_path: Path, model: str) -> None:
    raw = tmp_path / "raw"
    write(raw / "a.jsonl", rows(0, 2))
    wide = pl.DataFrame({"text": ["red"], "n": pl.Series([2**100], dtype=pl.Int128)})
    wide.write_parquet(raw / "wide.parquet")
    report = refreshed(raw, tmp_path / "table", model, {"splits": {"split_bytes": 1}}).report
    assert report.num_rows == 2
    assert list(report.broken_objects) == [str(raw / "wide.parquet")]
    assert "integers of 128 bits in 'n'" in report.broken_objects[str(raw / "wide.parquet")]


def _broken_parquet(raw: Path) -> None:
    (raw / "bad.parquet").write_bytes(b"PAR1nonsense")


def _rows_beside_broken_parquet(raw: Path) -> None:
    _broken_parquet(raw)
    write(raw / "b.jsonl", rows(2, 2))


def _rows_that_become_broken(raw: Path) -> None:
    pl.DataFrame({"id": ["9"], "text": ["blue"]}).write_parquet(raw / "bad.parquet")


def _changed_beside_broken_parquet(raw: Path) -> None:
    _broken_parquet(raw)
    write(raw / "a.jsonl", rows(0, 3))


def _link_to_a_folder(raw: Path) -> None:
    write(raw.parent / "elsewhere/c.jsonl", rows(4, 2))
    (raw / "link").symlink_to(raw.parent / "elsewhere")


def _folder_is_gone(raw: Path) -> None:
    (raw.parent / "elsewhere").rename(raw.parent / "moved")


def _folder_is_gone_and_a_neighbour_changes(raw: Path) -> None:
    _folder_is_gone(raw)
    write(raw / "a.jsonl", rows(0, 3))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_broken_parquet, None),
        (_broken_parquet, _rows_beside_broken_parquet),
        (_rows_that_become_broken, _broken_parquet),
        (_rows_that_become_broken, _rows_beside_broken_parquet),
        (_rows_that_become_broken, _changed_beside_broken_parquet),
        (_link_to_a_folder, _folder_is_gone),
        (_link_to_a_folder, _folder_is_gone_and_a_neighbour_changes),
    ],
)
def test_a_dry_run_foresees_the_splits_of_a_run_with_unreadable_objects(
    tmp_path: Path,
    model: str,
    before: Callable[[Path], None],
    after: Callable[[Path], None] | None,
    apart: bool,
) -> None:
    raw = tmp_path / "raw"
    write(raw / "a.jsonl", rows(0, 2))
    before(raw)
    everything = {"deletion_limit": {"max_drop_share": 1.0}}
    settings = objects_apart(**everything) if apart else RefreshSettings.model_validate(everything)
    job = RefreshJob(raw_uri=str(raw), table_uri=str(tmp_path / "table"), model=model, settings=settings)
    with suppress(IncompleteError):
        refresh(job)
    if after is not None:
        after(raw)
    reports = []
    for dry_run in (True, False):
        with pytest.raises(IncompleteError) as caught:
            refresh(job, dry_run=dry_run)
        assert isinstance(caught.value.report, RefreshReport)
        reports.append(caught.value.report.model_dump(include=SPLIT_COUNTS))
    assert reports[0] == reports[1]


def test_a_dry_run_of_a_backfill_foresees_the_rows_that_are_copied(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    write(raw / "a.jsonl", rows(0, 2))
    write(raw / "b.jsonl", rows(2, 2))
    refresh(RefreshJob(raw_uri=str(raw), table_uri=table, model=model))
    write(raw / "a.jsonl", rows(0, 3))
    job = RefreshJob(raw_uri=str(raw), table_uri=table, selection=Selection(include=("a.jsonl",)))
    planned, done = (refresh(job, dry_run=dry_run).model_dump(include=SPLIT_COUNTS) for dry_run in (True, False))
    assert planned == done
    assert done["num_splits_copied"] == 1


def test_an_object_without_the_column_is_named_once(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 2))
    (tmp_path / "raw/b.csv").write_text("question\nred\n")
    broken = refreshed(tmp_path / "raw", tmp_path / "table", model).report.broken_objects
    assert broken[f"{tmp_path}/raw/b.csv"].startswith("no column 'text', the columns are: 'question': name the column")


@pytest.mark.parametrize(("named", "num_rows"), [(None, 2), ("documents", 3), ("nothing", 3)])
def test_documents_among_rows_are_read_when_passages_are_named(
    tmp_path: Path, model: str, named: str | None, num_rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 2))
    (tmp_path / "raw/b.md").write_text("# Title\n\nred green\n")
    settings = {} if named is None else {"source": {"passages": {"of": named}}}
    with caplog.at_level(logging.WARNING, "sbert"):
        assert refreshed(tmp_path / "raw", tmp_path / "table", model, settings).report.num_rows == num_rows
    assert ("--passages documents (setting source.passages.of) reads them too" in caplog.text) == (named is None)
