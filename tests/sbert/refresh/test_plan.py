"""Planning: mistakes are found before the encoder is loaded; what interrupted runs finished is resumed."""

from pathlib import Path

import pytest

from sbert.errors import ColumnError, EmptySourceError, MissingError, SbertError, SettingsError
from sbert.refresh.job import RefreshJob
from sbert.refresh.plan import make_plan
from tests.support.refreshing import refreshed
from tests.support.tables import killed_after, objects_apart, read, texts, write


def test_a_finished_split_of_a_first_run_follows_the_types_of_the_next(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, table = tmp_path / "raw", str(tmp_path / "table")
    kept = objects_apart(source={"keep_columns": ["size"]})
    write(raw / "1.jsonl", [{"id": "1", "text": texts(1, 1)[0], "size": 1}])
    write(raw / "2.jsonl", [{"id": "2", "text": texts(2, 1)[0], "size": 2}])
    with killed_after(monkeypatch, 1), pytest.raises(KeyboardInterrupt):
        refreshed(raw, table, model=model, settings=kept)
    job = RefreshJob(raw_uri=str(raw), table_uri=table, model=model, settings=kept)
    plan = make_plan(job)
    assert len(plan.resume) == 1
    assert len(plan.retype) == 0
    assert len(plan.build) == 1
    write(raw / "0.jsonl", [{"id": "0", "text": texts(0, 1)[0], "size": 0.5}])
    plan = make_plan(job)
    assert len(plan.resume) == 0
    assert len(plan.retype) == 1
    assert len(plan.build) == 3
    report = refreshed(raw, table, model=model, settings=kept).report
    assert report.num_texts_encoded == 2  # the finished split's vector is known
    assert read(table).select("id", "size").rows() == [("0", 0.5), ("1", 1.0), ("2", 2.0)]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"settings": {"source": {"text_column": "body"}}},
            ColumnError,
            "no column 'body', the columns are: 'id', 'text'",
        ),
        ({"settings": {"source": {"id_column": "key"}}}, ColumnError, "no column 'key'"),
        ({"settings": {"source": {"keep_columns": ["size"]}}}, ColumnError, "no column 'size'"),
        ({"selection": {"include": ["none"]}}, EmptySourceError, "chooses none of 1 object;"),
        ({"table_uri": "raw/table"}, SettingsError, "within the raw text"),
        ({"raw_uri": "nowhere"}, MissingError, "nowhere"),
    ],
)
def test_a_mistake_that_is_cheap_to_find_is_found_before_the_encoder_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, object],
    error: type[SbertError],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sbert.refresh.plan.describe_model", lambda _: pytest.fail("the encoder was loaded"))
    write(tmp_path / "raw/a.jsonl", [{"id": "1", "text": "red"}])
    job = RefreshJob.model_validate({"raw_uri": "raw", "table_uri": "table", **fields})
    with pytest.raises(error, match=message):
        make_plan(job)


def test_a_wrong_column_of_an_existing_table_is_found_before_the_encoder_is_loaded(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "raw/a.jsonl", [{"id": "1", "text": "red"}])
    refreshed(tmp_path / "raw", tmp_path / "table", model)
    monkeypatch.setattr("sbert.refresh.plan.describe_model", lambda _: pytest.fail("the encoder was loaded"))
    with pytest.raises(ColumnError, match="no column 'body'"):
        refreshed(tmp_path / "raw", tmp_path / "table", settings={"source": {"text_column": "body"}})


def test_locations_that_lie_within_each_other_are_refused(tmp_path: Path) -> None:
    for raw, table in (("raw", "raw/table"), ("table/raw", "table"), ("*.parquet", ".")):
        with pytest.raises(SettingsError, match="within"):
            make_plan(RefreshJob(raw_uri=f"{tmp_path}/{raw}", table_uri=f"{tmp_path}/{table}"))
