"""Engines: groups of splits, Ray and Dask clusters on this machine, and what cannot be had."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from flows.engines import EngineSettings, _check_ray_nodes
from flows.refresh import refresh_embeddings
from sbert.errors import SettingsError
from sbert.refresh.job import RefreshSettings
from sbert.refresh.refresh_report import RefreshReport
from sbert.table.delta import Table
from tasks.progress import ProgressArtifact
from tests.support.cluster_workers import a_busy_worker_dies
from tests.support.tables import read, rows, write

NUM_OBJECTS, ROWS_PER_OBJECT = 12, 10
EVERY_OBJECT = RefreshSettings.model_validate({"splits": {"pack_below_bytes": 0}})


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve objects; the last repeats the first's texts."""
    folder = tmp_path_factory.mktemp("raw")
    for number in range(NUM_OBJECTS):
        first = number * ROWS_PER_OBJECT if number < NUM_OBJECTS - 1 else 0
        write(folder / f"part-{number:02}.jsonl", rows(first, ROWS_PER_OBJECT))
    return folder


def refresh(raw: Path, table: Path, model: str, engine: object, concurrency: int = 2) -> RefreshReport:
    return refresh_embeddings(
        raw_uri=str(raw), table_uri=str(table), model=model, engine=engine, concurrency=concurrency,  # type: ignore[arg-type]
        settings=EVERY_OBJECT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(raw: Path, model: str, tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> pl.DataFrame:
    """The table that threads make."""
    table = tmp_path_factory.mktemp("threads") / "table"
    report = refresh(raw, table, model, "local")
    assert report.num_rows == 120
    assert report.num_texts_encoded == 110
    return read(table)


def assert_same(table: Path, expected: pl.DataFrame) -> None:
    built = read(table)
    assert built.drop("embedding").equals(expected.drop("embedding"))
    difference = (built["embedding"].explode() - expected["embedding"].explode()).abs().max()
    assert difference < 1e-5  # type: ignore[operator]


def test_settings_that_cannot_work_are_refused_at_once() -> None:
    with pytest.raises(
        ValidationError, match="gpus_per_worker is 1, but engine dask does not assign GPUs: choose engine ray"
    ):
        EngineSettings(kind="dask", gpus_per_worker=1)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="address is ray://head:10001, but the engine is local"):
        EngineSettings(address="ray://head:10001")
    with pytest.raises(ValidationError, match="'local', 'ray' or 'dask'"):
        EngineSettings.model_validate("spark")
    assert EngineSettings.model_validate("ray") == EngineSettings.model_validate({"kind": "ray"})


def test_a_gpu_that_no_machine_of_the_cluster_has_is_an_error() -> None:
    wants = EngineSettings.model_validate({"kind": "ray", "gpus_per_worker": 1, "cpus_per_worker": 4})
    apart = [{"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0}]
    with pytest.raises(SettingsError, match=r"4 CPUs and 1 GPUs, but the machines .* at most 8 CPUs and 1 GPUs"):
        _check_ray_nodes(wants, apart)
    _check_ray_nodes(wants, [*apart, {"CPU": 4.0, "GPU": 1.0}])


def test_splits_travel_in_groups_and_progress_counts_splits(
    raw: Path, model: str, expected: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sbert.refresh.build import SplitBuilder

    real, sizes = SplitBuilder.build_group, []

    def build_group(self: SplitBuilder, group: object, **options: object) -> object:
        sizes.append(len(group.splits))  # type: ignore[attr-defined]
        return real(self, group, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(SplitBuilder, "build_group", build_group)
    shown: list[str] = []
    monkeypatch.setattr(ProgressArtifact, "show", lambda _, share, text, **options: shown.append(text))
    refresh(raw, tmp_path / "table", model, "local", concurrency=1)
    assert sum(sizes) == NUM_OBJECTS
    assert len(sizes) == 4
    assert "120 rows, 12 of 12 splits" in shown[-1]
    assert_same(tmp_path / "table", expected)


def test_progress_that_cannot_be_shown_stops_nothing(
    raw: Path,
    model: str,
    expected: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def create_progress_artifact(**_: object) -> None:
        raise ConnectionError("the server is away")

    monkeypatch.setattr("tasks.progress.create_progress_artifact", create_progress_artifact)
    refresh(raw, tmp_path / "table", model, "local", concurrency=1)
    assert_same(tmp_path / "table", expected)
    assert "progress cannot be shown in the UI: the server is away" in caplog.text


def test_splits_that_an_earlier_attempt_finished_are_not_built_again(
    raw: Path, model: str, expected: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group whose third split hits a storage fault is tried again; the other splits are built once."""
    from sbert.errors import StorageError
    from sbert.refresh import build
    from tasks import embed

    real, built = build.SplitBuilder.build, []

    def flaky(self: build.SplitBuilder, planned: object, excluded: frozenset[str] = frozenset()) -> object:
        name = planned.split.name  # type: ignore[attr-defined]
        built.append(name)
        if name == "part-02.jsonl" and built.count(name) == 1:
            raise StorageError("slow down", uri=planned.split.spans[0].object.uri, transient=True)  # type: ignore[attr-defined]
        return real(self, planned, excluded)  # type: ignore[arg-type]

    monkeypatch.setattr(build.SplitBuilder, "build", flaky)
    monkeypatch.setattr(embed.embed_splits, "retry_delay_seconds", [0.0] * 4)
    settings = EngineSettings(group_splits=12)
    monkeypatch.setattr("sbert.refresh.scheduling.SHARES", 1)
    report = refresh(raw, tmp_path / "table", model, settings, concurrency=1)
    assert report.num_splits_built == 12
    assert report.num_texts_encoded == 110
    assert sorted(built) == sorted([*(f"part-{n:02}.jsonl" for n in range(12)), "part-02.jsonl"])
    assert_same(tmp_path / "table", expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ray", "dask"])
def test_a_cluster_makes_the_same_table_as_threads(
    kind: str, raw: Path, model: str, expected: pl.DataFrame, tmp_path: Path
) -> None:
    pytest.importorskip(f"prefect_{kind}", reason=f"pip install 'sbert-prefect[{kind}]'")
    report = refresh(raw, tmp_path / "table", model, kind)
    assert report.num_rows == 120
    assert report.num_rows_read == 120
    assert report.num_splits_built == 12
    assert 110 <= report.num_texts_encoded <= 120  # a text that two workers meet is encoded by both
    assert_same(tmp_path / "table", expected)


@pytest.fixture
def one_worker_dies(tmp_path: Path) -> Iterator[list[str]]:
    """Kill a worker process once some splits are finished; gives the records that were there before."""
    finished: list[str] = []

    def is_time() -> bool:
        finished[:] = sorted(path.name for path in (tmp_path / "table/_splits").glob("*.json"))
        return len(finished) >= 2

    with a_busy_worker_dies(is_time) as killed:
        yield finished
        assert killed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ray", "dask"])
def test_a_killed_worker_costs_its_unfinished_splits(
    kind: str, model: str, tmp_path: Path, one_worker_dies: list[str], prefect_server: None
) -> None:
    pytest.importorskip(f"prefect_{kind}", reason=f"pip install 'sbert-prefect[{kind}]'")
    raw = tmp_path / "raw"
    for number in range(40):
        write(raw / f"part-{number:02}.jsonl", rows(number * 200, 200))
    report = refresh(raw, tmp_path / "table", model, kind)
    assert len(one_worker_dies) >= 2
    assert report.num_rows == 8_000
    assert report.num_splits_built == 40
    records = {path.name: json.loads(path.read_text()) for path in (tmp_path / "table/_splits").glob("*.json")}
    for name in one_worker_dies:  # what was finished then was not built again: no second set of shards
        fingerprint = name.removesuffix(".json")
        assert len(list((tmp_path / "table").glob(f"*{fingerprint}*.parquet"))) == len(records[name]["shards"])
    assert read(tmp_path / "table")["id"].n_unique() == 8_000
    assert Table.open(str(tmp_path / "table")).version == 0


@pytest.mark.slow
def test_a_gpu_asked_of_a_cluster_without_one_fails_before_any_work(
    raw: Path, model: str, tmp_path: Path, prefect_server: None
) -> None:
    pytest.importorskip("prefect_ray", reason="pip install 'sbert-prefect[ray]'")
    settings = EngineSettings.model_validate({"kind": "ray", "gpus_per_worker": 1})
    with pytest.raises(SettingsError, match=r"1 GPUs.* at most 1 CPUs and 0 GPUs: lower"):
        refresh(raw, tmp_path / "table", model, settings, concurrency=1)
    assert not list(tmp_path.glob("table/part-*"))


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_named(raw: Path, model: str, tmp_path: Path, prefect_server: None) -> None:
    pytest.importorskip("prefect_dask", reason="pip install 'sbert-prefect[dask]'")
    import dask

    settings = EngineSettings.model_validate({"kind": "dask", "address": "tcp://127.0.0.1:9"})
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        pytest.raises(SettingsError, match=r"cluster at tcp://127.0.0.1:9 does not answer"),
    ):
        refresh(raw, tmp_path / "table", model, settings)
