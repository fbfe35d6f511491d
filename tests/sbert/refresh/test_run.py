"""The pipeline as one call of the library: what it reports, how it survives other runs, faults and kills."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sbert.errors import CommitConflictError, IncompleteError, MassDeletionError, StorageError
from sbert.refresh.backfill_selection import Selection
from sbert.refresh.build import SplitBuilder
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.refresh.plan import Plan
from sbert.refresh.progress import Progress
from sbert.refresh.refresh_report import RefreshReport
from sbert.refresh.run import MAX_ATTEMPTS, refresh
from sbert.refresh.run_metrics import read_runs
from sbert.refresh.stages import Stage
from sbert.refresh.steps import RefreshSteps
from sbert.table.lease import active_leases
from sbert.table.verify import verify_table
from tests.support.refreshing import RememberingSteps, refreshed
from tests.support.tables import objects_apart, read, rows, write, write_objects
from tests.support.tiny_models import save_tiny

SLICED = RefreshSettings.model_validate({"splits": {"pack_below_bytes": 0, "split_bytes": 1000}})


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_objects(tmp_path / "raw", 3, 10)
    return tmp_path / "raw"


def job(raw: Path, table: Path, model: str | None = None, **fields: Any) -> RefreshJob:
    return RefreshJob(raw_uri=str(raw), table_uri=str(table), model=model, **fields)


@pytest.mark.parametrize("first_import", ["sbert", "sbert.refresh", "sbert.refresh.run", "sbert.refresh.job"])
def test_the_function_is_exported_whatever_is_imported_first(first_import: str) -> None:
    script = (
        f"import {first_import}, types\n"
        "from sbert import RefreshJob, refresh_table\n"
        "import sbert, sbert.refresh\n"
        "assert isinstance(sbert.refresh, types.ModuleType)\n"
        "assert sbert.refresh_table is refresh_table is sbert.refresh.run.refresh\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_refresh_needs_a_job_and_nothing_else(tmp_path: Path, raw: Path, model: str) -> None:
    report = refresh(job(raw, tmp_path / "table", model))
    assert report.operation == "refresh"
    assert report.version == 0
    assert report.num_rows == report.num_rows_encoded == report.num_texts_encoded == 30
    assert min(report.stage_seconds.model_dump().values()) > 0
    assert report.complete
    assert active_leases(str(tmp_path / "table")) == []
    (run,) = read_runs(str(tmp_path / "table")).to_dicts()
    assert run["engine"] == "local"
    assert run["num_rows"] == 30
    again = refresh(job(raw, tmp_path / "table"))
    assert again.version == 0
    assert again.num_splits_built == again.num_texts_encoded == 0


def test_a_dry_run_writes_nothing(tmp_path: Path, raw: Path, model: str) -> None:
    report = refresh(job(raw, tmp_path / "table", model), dry_run=True)
    assert report.dry_run
    assert report.num_splits_built == 1
    assert not (tmp_path / "table").exists()


def test_unreadable_objects_raise_after_the_rest_was_published(tmp_path: Path, raw: Path, model: str) -> None:
    (raw / "broken.jsonl.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(IncompleteError, match=r"1 of 4 objects could not be read.*broken\.jsonl\.gz") as caught:
        refresh(job(raw, tmp_path / "table", model))
    assert isinstance(caught.value.report, RefreshReport)
    assert caught.value.report.num_rows == 30
    assert len(read(tmp_path / "table")) == 30


def test_a_loss_raises_with_the_report_of_the_plan(tmp_path: Path, raw: Path, model: str) -> None:
    refresh(job(raw, tmp_path / "table", model, settings=objects_apart()))
    (raw / "0.jsonl").unlink()
    with pytest.raises(MassDeletionError) as caught:
        refresh(job(raw, tmp_path / "table", settings=objects_apart()))
    assert isinstance(caught.value.report, RefreshReport)
    assert caught.value.report.num_rows_lost == 10


class OvertakenSteps(RememberingSteps):
    """Steps of a run that others overtake: before each of the first commits another run refreshes the table."""

    def __init__(self, other: RefreshJob, times: int = 1) -> None:
        super().__init__(1)
        self.other = other
        self.times = times
        self.plans: list[Plan] = []

    def announce(self, plan: Plan, estimate: Any) -> None:
        super().announce(plan, estimate)
        self.plans.append(plan)

    def publish(self, *args: Any) -> int:
        if self.times:
            self.times -= 1
            refresh(self.other)
        return super().publish(*args)


def test_a_run_that_loses_the_commit_plans_again_and_takes_up_what_it_built(
    tmp_path: Path, raw: Path, model: str
) -> None:
    table, apart = tmp_path / "table", objects_apart()
    refresh(job(raw, table, model, settings=apart))
    write(raw / "3.jsonl", rows(30, 5))
    other_raw = tmp_path / "other"
    for path in (*raw.iterdir(), write(tmp_path / "9.jsonl", rows(90, 5))):
        write(other_raw / path.name, [json.loads(line) for line in path.read_text().splitlines()])
    steps = OvertakenSteps(job(other_raw, table, settings=apart, selection=Selection(include=("9.jsonl",))))
    report = refresh(job(raw, table, settings=apart.allowing_drops(True)), steps=steps)
    assert len(steps.plans) == 2
    assert [result.planned.split.name for result in steps.plans[1].resume] == ["3.jsonl"]
    assert report.version == 2
    assert report.num_splits_built == 1
    assert report.num_splits_resumed == 0
    assert report.num_rows_encoded == report.num_texts_encoded == 5
    assert set(read(table)["id"]) == {str(number) for number in range(35)}


def test_a_run_overtaken_by_an_encoder_switch_builds_with_the_new_encoder(
    tmp_path: Path, raw: Path, model: str
) -> None:
    table, other = tmp_path / "table", save_tiny(tmp_path / "other", seed=1)
    refresh(job(raw, table, model))
    write(raw / "0.jsonl", rows(50, 10))
    steps = OvertakenSteps(job(raw, table, other))
    steps.times = 0
    publish = steps.publish

    def switched_meanwhile(*args: Any) -> int:
        steps.publish = publish  # type: ignore[method-assign]
        refresh(job(raw, table, other))
        write(raw / "1.jsonl", rows(70, 10))
        return publish(*args)

    steps.publish = switched_meanwhile  # type: ignore[method-assign]
    report = refresh(job(raw, table), steps=steps)
    assert report.encoder == other
    assert verify_table(str(table)).findings == []
    fresh = refreshed(raw, tmp_path / "fresh", other)
    assert fresh.report.num_rows == 30
    expected = {row["id"]: row["embedding"] for row in read(tmp_path / "fresh").to_dicts()}
    for row in read(table).to_dicts():
        assert row["embedding"] == pytest.approx(expected[row["id"]], abs=1e-5), row["id"]


def test_a_run_that_is_always_overtaken_gives_up(tmp_path: Path, raw: Path, model: str) -> None:
    class AlwaysOvertaken(RefreshSteps):
        num_plans = 0

        def announce(self, plan: Plan, estimate: Any) -> None:
            self.num_plans += 1

        def publish(self, *_: Any) -> int:
            raise CommitConflictError("another run was first")

    steps = AlwaysOvertaken()
    with pytest.raises(CommitConflictError):
        refresh(job(raw, tmp_path / "table", model), steps=steps)
    assert steps.num_plans == MAX_ATTEMPTS


def shared_id(raw: Path) -> Path:
    """Write one large object of several slices, the first and the last of which have a row with the same id."""
    lines = rows(0, 60)
    lines[1]["id"] = lines[50]["id"] = "same"
    return write(raw / "a.jsonl", lines)


def test_splits_built_twice_for_a_shared_id_count_once(tmp_path: Path, model: str) -> None:
    shared_id(tmp_path / "raw")
    planned = refresh(job(tmp_path / "raw", tmp_path / "table", model, settings=SLICED), dry_run=True)
    shown: list[Progress] = []
    report = refresh(job(tmp_path / "raw", tmp_path / "table", model, settings=SLICED), on_progress=shown.append)
    assert report.num_splits_built == planned.num_splits_built > 3
    assert sum(report.splits_by_reason.values()) == report.num_splits_built
    assert report.num_rows_read == 60
    assert report.num_texts_encoded == 60  # those that the encoder computed in the first pass
    assert report.rejects_by_reason == {"duplicate_id": 1}
    encoding = [progress for progress in shown if progress.stage is Stage.ENCODING]
    assert encoding[-1].num_splits == encoding[-1].num_splits_done == report.num_splits_built
    assert [progress.num_splits for progress in shown if progress.stage is Stage.REBUILDING][-1:] == [1]


def test_a_run_killed_between_the_two_passes_over_a_shared_id_still_rejects_the_earlier_row(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_id(tmp_path / "raw")
    asked = job(tmp_path / "raw", tmp_path / "table", model, settings=SLICED)
    with monkeypatch.context() as patch:
        patch.setattr("sbert.refresh.run.duplicate_ids_across_splits", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            refresh(asked)
    report = refresh(asked)
    assert report.num_rows == 59
    assert report.num_splits_built == 1
    assert report.num_splits_resumed > 2
    assert read(tmp_path / "table")["id"].n_unique() == 59


def test_a_backfill_reports_what_was_chosen_and_the_copied_rest_of_a_pack_is_not_built(
    tmp_path: Path, raw: Path, model: str
) -> None:
    refresh(job(raw, tmp_path / "table", model))  # one pack
    selection = Selection(include=("1.jsonl",))
    asked = job(raw, tmp_path / "table", selection=selection, force=True)
    planned = refresh(asked, dry_run=True)
    report = refresh(asked)
    for shown in (planned, report):
        assert shown.operation == "backfill"
        assert shown.selection == selection
        assert shown.force
        assert shown.num_objects == 3
        assert shown.num_objects_chosen == 1
        assert shown.num_splits_built == 1
        assert shown.splits_by_reason == {"forced": 1}
    assert report.num_splits_copied == 1
    assert RefreshReport.model_validate_json(report.model_dump_json()) == report


def test_rates_are_of_encoded_texts_only(tmp_path: Path, raw: Path, model: str) -> None:
    first = refresh(job(raw, tmp_path / "table", model))
    assert first.texts_per_second == pytest.approx(30 / first.stage_seconds.build)
    (raw / "0.jsonl").rename(raw / "renamed.jsonl")
    carried = refresh(job(raw, tmp_path / "table"))
    assert carried.num_rows_carried == 30
    assert carried.texts_per_second is None
    assert carried.tokens_per_second is None


def test_stages_and_rows_are_shown_while_one_large_split_is_built(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/large.jsonl", rows(0, 400))
    shown: list[Progress] = []
    settings = RefreshSettings.model_validate({"reading": {"block_rows": 10}})

    class Watching(RememberingSteps):
        def build(self, splits: Any, context: Any, excluded_ids: Any, meter: Any) -> Any:
            real = SplitBuilder.build

            def shown_in_between(builder: SplitBuilder, *args: Any) -> Any:
                state = builder.state
                add = state.work.add

                def counted(*arguments: Any, **numbers: int) -> None:
                    add(*arguments, **numbers)
                    meter.show(state.work.done())

                state.work.add = counted  # type: ignore[method-assign]
                return real(builder, *args)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(SplitBuilder, "build", shown_in_between)
                return super().build(splits, context, excluded_ids, meter)

    refresh(
        job(tmp_path / "raw", tmp_path / "table", model, settings=settings), steps=Watching(1), on_progress=shown.append
    )
    stages = list(dict.fromkeys(progress.stage for progress in shown))
    assert stages == [
        Stage.LISTING,
        Stage.CHECKING_ENCODER,
        Stage.COMPARING,
        Stage.LOADING_ENCODER,
        Stage.ENCODING,
        Stage.COMMITTING,
    ]
    assert next(progress for progress in shown if progress.stage is Stage.ENCODING).num_rows_expected == 400
    inside = [progress for progress in shown if progress.stage is Stage.ENCODING and not progress.num_splits_done]
    assert len({progress.num_rows_done for progress in inside}) > 20
    assert max(progress.num_tokens_done for progress in inside) > 400
    last = [progress for progress in shown if progress.stage is Stage.ENCODING][-1]
    assert last.num_rows_done == 400
    assert last.share == 1


def test_storage_that_fails_for_the_moment_is_retried(
    tmp_path: Path, raw: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = SplitBuilder.build, []

    def fails_twice(self: SplitBuilder, planned: Any, *args: Any) -> Any:
        if len(failures) < 2:
            failures.append(planned)
            raise StorageError("503", uri=planned.split.spans[0].object.uri, transient=True)
        return real(self, planned, *args)

    monkeypatch.setattr(SplitBuilder, "build", fails_twice)
    outcome = refreshed(raw, tmp_path / "table", model)
    assert outcome.report.num_rows == 30
    assert len(failures) == 2


def test_an_object_that_storage_refuses_for_good_counts_as_unreadable(
    tmp_path: Path, raw: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SplitBuilder.build

    def refused(self: SplitBuilder, planned: Any, *args: Any) -> Any:
        if planned.split.name == "1.jsonl":
            raise StorageError("access denied", uri=planned.split.spans[0].object.uri)
        return real(self, planned, *args)

    monkeypatch.setattr(SplitBuilder, "build", refused)
    outcome = refreshed(raw, tmp_path / "table", model, objects_apart())
    assert list(outcome.report.broken_objects) == [str(raw / "1.jsonl")]
    assert outcome.report.num_rows == 20


def test_locations_are_spelled_in_one_way_when_the_job_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = RefreshJob(raw_uri="raw/", table_uri=f"file://{tmp_path}/table/")
    assert made.raw_uri == f"{tmp_path}/raw"
    assert made.table_uri == f"{tmp_path}/table"


def test_a_location_with_credentials_is_refused_without_repeating_them() -> None:
    with pytest.raises(ValueError, match="credentials do not belong in a location") as caught:
        RefreshJob(raw_uri="s3://key:secret@bucket/raw", table_uri="table")
    assert "secret" not in str(caught.value)


def test_an_object_compressed_and_broken_is_read_again_without_it(tmp_path: Path, model: str) -> None:
    for number in range(2):
        path = tmp_path / f"raw/{number}.jsonl.gz"
        path.parent.mkdir(exist_ok=True)
        content = "".join(json.dumps(row) + "\n" for row in rows(number * 10, 10)).encode()
        path.write_bytes(gzip.compress(content) if number else gzip.compress(content)[:60])
    outcome = refreshed(tmp_path / "raw", tmp_path / "table", model)
    assert list(outcome.report.broken_objects) == [str(tmp_path / "raw/0.jsonl.gz")]
    assert outcome.report.num_splits_built == 1
    assert outcome.report.num_rows == outcome.report.num_rows_read == 10
