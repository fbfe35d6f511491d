"""SIGKILL at any moment of a job on a table: readers see the output before or after, and running again ends it."""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sbert.table.verify import verify_table
from tests.crash import corpora
from tests.crash.corpora import SETTINGS
from tests.crash.forks import Forks
from tests.crash.jobs import JOBS
from tests.crash.test_kills import random_strike

KEEPING = {**SETTINGS, "source": {"keep_columns": ["kind", "text", "day"]}}
SAMPLE = ("index", "monitor")
SAMPLE_KILLS = 2
FULL_KILLS = 30
FULL = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROUNDS = [
    *(pytest.param(job, SAMPLE_KILLS, id=f"{job}, sample") for job in SAMPLE),
    *(pytest.param(job, FULL_KILLS, id=job, marks=FULL) for job in JOBS),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def dated(objects: corpora.Objects) -> corpora.Objects:
    """Return the objects with a day in each row, on which jobs over time are tested."""
    return {
        name: [{**row, "day": f"2026-10-{1 + len(str(row['text'])) % 28:02}"} for row in lines]
        for name, lines in objects.items()
    }


@dataclass
class Prepared:
    """A folder with a table that has changed since the job ran last, and the output before and after."""

    folder: Path
    snapshot: Path
    before: Any
    after: Any
    points: list[str]

    def restore(self) -> None:
        """Put the folder back as it was; tables and outputs name each other by their location, so it stays the same."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.snapshot, self.folder)


def prepare(job: str, tmp_path: Path, model: str, forks: Forks, *, has_run: bool) -> Prepared:
    """Make the table; the job runs on a first version of it if `has_run`, and is then undisturbed on the second."""
    folder, raw = tmp_path / "work", str(tmp_path / "raw")
    folder.mkdir()
    labels = [{"text": row["text"], "label": row["kind"]} for row in corpora.rows(0, 100)]
    (folder / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
    refresh = {"raw": raw, "table": str(folder / "table"), "model": model, "settings": KEEPING}
    corpora.write_objects(raw, dated(corpora.first_state()))
    forks.run(**refresh)
    if has_run:
        forks.start_job(job, folder=str(folder)).wait()
    corpora.write_objects(raw, dated(corpora.second_state()))
    forks.run(**refresh)
    shutil.copytree(folder, tmp_path / "snapshot")
    before = JOBS[job].look(str(folder))
    run = forks.start_job(job, folder=str(folder))
    assert not run.wait()
    return Prepared(folder, tmp_path / "snapshot", before, JOBS[job].look(str(folder)), run.points())


def is_same(output: Any, expected: Any) -> bool:
    """Return whether two looks at an output saw the same."""
    if not isinstance(output, pl.DataFrame) or not isinstance(expected, pl.DataFrame):
        return bool(type(output) is type(expected) and output == expected)
    try:
        assert_frame_equal(output, expected, abs_tol=1e-5)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(("job", "num_kills"), ROUNDS)
def test_a_job_that_is_killed_in_its_night_is_ended_by_running_again(
    job: str, num_kills: int, tmp_path: Path, model: str, forks: Forks
) -> None:
    kill_rounds(job, num_kills, prepare(job, tmp_path, model, forks, has_run=True), forks)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_is_killed_in_its_first_run_is_ended_by_running_again(
    job: str, tmp_path: Path, model: str, forks: Forks
) -> None:
    kill_rounds(job, FULL_KILLS, prepare(job, tmp_path, model, forks, has_run=False), forks)


def kill_rounds(job: str, num_kills: int, prepared: Prepared, forks: Forks) -> None:
    """Kill the job at writes of random kinds, and run it to its end after each kill."""
    folder = str(prepared.folder)
    chance = random.Random(f"{job} {num_kills}")
    num_struck = 0
    for _ in range(num_kills):
        prepared.restore()
        strike = random_strike(prepared.points, chance)
        num_struck += forks.start_job(job, folder=folder, strike=strike).wait()
        where = f"{strike.when} {prepared.points[strike.number]} (point {strike.number})"
        seen = JOBS[job].look(folder)
        assert is_same(seen, prepared.before) or is_same(seen, prepared.after), where
        assert not forks.start_job(job, folder=folder).wait(), where
        assert is_same(JOBS[job].look(folder), prepared.after), where
        assert verify_table(f"{folder}/table").findings == [], where
    assert num_struck >= num_kills // 2
