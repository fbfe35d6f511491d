"""SIGKILL at any moment: the table is the version before or the version after, and the next run finishes the work.

Real processes are killed, at random moments of the run and at every kind of write to storage.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sbert.errors import NotATableError
from sbert.table.delta import Table
from tests.crash import corpora
from tests.crash.corpora import SETTINGS, assert_same, contents, copy_folder
from tests.crash.forks import Forks, Run
from tests.crash.points import Strike
from tests.support.services import S3Server
from tests.support.tiny_models import save_tiny

SCENARIOS = ("full", "incremental", "switch")
SAMPLE_KILLS = 2
KILLS = {"full": 34, "incremental": 33, "switch": 33}
MAX_KILLS_IN_A_ROW = 3
FLOW_KILLS = 3


@dataclass(frozen=True)
class Scenario:
    """A refresh to be killed, the table before it, and the result of an undisturbed run."""

    folder: str
    base: str | None
    refresh: dict[str, Any]
    expected: pl.DataFrame
    wanted: dict[str, set[bytes]]
    """Hashes of the texts of each split of the final table."""
    embedded_before: set[bytes]
    """Hashes of the texts whose vectors the table had before the refresh."""
    version: int
    points: list[str]
    seconds: float


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return save_tiny(folder / "one"), save_tiny(folder / "two", seed=1)


def prepare(name: str, folder: str, models: tuple[str, str], forks: Forks) -> Scenario:
    raw, base, undisturbed = (f"{folder}/{part}" for part in ("raw", "base", "undisturbed"))
    refresh: dict[str, Any] = {"raw": raw, "model": models[0], "settings": SETTINGS}
    embedded_before: set[bytes] = set()
    corpora.write_objects(raw, corpora.first_state())
    if name != "full":
        forks.run(table=base, **refresh)
        copy_folder(base, undisturbed)
    if name == "incremental":
        embedded_before = corpora.union(corpora.texts_of_splits(base).values())
        corpora.write_objects(raw, corpora.second_state())
    if name == "switch":
        refresh["model"] = models[1]
    run = forks.start(table=undisturbed, **refresh)
    wanted = corpora.texts_of_splits(undisturbed) if not run.wait() else {}
    assert run.report().num_texts_encoded == len(corpora.union(wanted.values()) - embedded_before)
    return Scenario(
        folder=folder,
        base=base if name != "full" else None,
        refresh=refresh,
        expected=contents(undisturbed),
        wanted=wanted,
        embedded_before=embedded_before,
        version=run.report().version,
        points=run.points(),
        seconds=run.seconds(),
    )


def killed(scenario: Scenario, table: str, forks: Forks, chance: random.Random) -> str | None:
    """Start a run and kill it; return where the kill struck, or None when the run ended first."""
    if chance.random() < 0.5:
        delay = chance.uniform(0, scenario.seconds)
        run = forks.start(table=table, **scenario.refresh)
        time.sleep(delay)
        run.kill()
        where = f"{delay:.3f} of {scenario.seconds:.3f} s"
    else:
        strike = random_strike(scenario.points, chance)
        run = forks.start(table=table, strike=strike, **scenario.refresh)
        where = f"{strike.when} {scenario.points[strike.number]} (point {strike.number})"
    return where if run.wait() else None


def random_strike(points: list[str], chance: random.Random) -> Strike:
    """Choose a point; every kind of write is equally likely, however often it occurs."""
    kind = chance.choice(sorted(set(points)))
    number = chance.choice([number for number, name in enumerate(points) if name == kind])
    when = chance.choice(("before", "during", "after"))
    return Strike(number, when, delay=chance.uniform(0, 0.01))  # type: ignore[arg-type]


def is_done(scenario: Scenario, table: str) -> bool:
    try:
        return Table.open(table).version == scenario.version
    except NotATableError:
        return False


def check_before_or_after(scenario: Scenario, table: str) -> None:
    try:
        rows = contents(table)
    except NotATableError:
        assert scenario.base is None
        return
    if scenario.base is not None and Table.open(table).version == Table.open(scenario.base).version:
        assert_same(rows, contents(scenario.base), tolerance=0)
    else:
        assert_same(rows, scenario.expected)


def check_finishes(scenario: Scenario, table: str, run: Run, records: set[str], *, done: bool) -> None:
    """Check the run after the kill: it makes the same table and encodes no text of a finished split."""
    report = run.report()
    assert_same(contents(table), scenario.expected)
    assert report.version == scenario.version
    assert report.num_texts_encoded == num_left(scenario, records, done=done)


def num_left(scenario: Scenario, records: set[str], *, done: bool) -> int:
    """Return how many texts are left to encode when the splits of `records` are finished."""
    finished = corpora.union(texts for name, texts in scenario.wanted.items() if name in records)
    left = corpora.union(texts for name, texts in scenario.wanted.items() if name not in records)
    return 0 if done else len(left - finished - scenario.embedded_before)


def one_kill(scenario: Scenario, table: str, forks: Forks, chance: random.Random) -> str:
    """Kill a run once, sometimes the next two as well, then let a run finish; return where the kills struck."""
    first, attempt = None, 0
    while first is None:
        table_now = f"{table}-{attempt}"
        if scenario.base is not None:
            copy_folder(scenario.base, table_now)
        first, attempt = killed(scenario, table_now, forks, chance), attempt + 1
    table, places = table_now, [first]
    check_before_or_after(scenario, table)
    for _ in range(chance.choice((0, 0, 0, MAX_KILLS_IN_A_ROW - 1))):
        places.append(killed(scenario, table, forks, chance) or "(too late)")
        check_before_or_after(scenario, table)
    records, done = corpora.records(table), is_done(scenario, table)
    run = forks.start(table=table, **scenario.refresh)
    try:
        check_finishes(scenario, table, run, records, done=done)
    except AssertionError as error:
        raise AssertionError(f"killed at {' then '.join(places)}") from error
    return f"{'after' if done else 'before'}, {len(records)} of {len(scenario.wanted)} splits finished: {places}"


@pytest.mark.parametrize("name", SCENARIOS)
def test_after_a_kill_the_table_is_the_version_before_or_after_and_the_next_run_finishes(
    tmp_path: Path, models: tuple[str, str], forks: Forks, name: str
) -> None:
    scenario = prepare(name, str(tmp_path), models, forks)
    chance = random.Random(name)
    for number in range(SAMPLE_KILLS):
        one_kill(scenario, f"{tmp_path}/table-{number}", forks, chance)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_hundred_kills_on_local_files_never_damage_the_table(
    tmp_path: Path, models: tuple[str, str], forks: Forks, name: str
) -> None:
    scenario = prepare(name, str(tmp_path), models, forks)
    chance = random.Random(f"{name} on disk")
    for number in range(KILLS[name]):
        print(number, one_kill(scenario, str(tmp_path / "tables/table"), forks, chance))
        shutil.rmtree(tmp_path / "tables")


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_hundred_kills_on_s3_never_damage_the_table(
    tmp_path: Path, models: tuple[str, str], s3: S3Server, s3_bucket: str, name: str
) -> None:
    chance = random.Random(f"{name} on S3")
    with Forks(tmp_path) as forks:  # started with this bucket's environment
        scenario = prepare(name, s3_bucket, models, forks)
        for number in range(KILLS[name]):
            print(number, one_kill(scenario, f"{s3_bucket}/table-{number}", forks, chance))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_sbert_command_keeps_the_same_promises_when_killed(
    tmp_path: Path, models: tuple[str, str], forks: Forks, name: str
) -> None:
    scenario = prepare(name, str(tmp_path), models, forks)
    chance = random.Random(f"{name} with Prefect")
    warm_up = time.monotonic()
    flow_outcome(start_flow(scenario, str(tmp_path / "warm-up")))
    seconds = time.monotonic() - warm_up
    for number in range(FLOW_KILLS):
        table = str(tmp_path / f"table-{number}")
        if scenario.base is not None:
            copy_folder(scenario.base, table)
        process = start_flow(scenario, table)
        time.sleep(chance.uniform(0.3, 1.0) * seconds)  # the first third is spent on imports
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        check_before_or_after(scenario, table)
        records, done = corpora.records(table), is_done(scenario, table)
        outcome = flow_outcome(start_flow(scenario, table))
        assert_same(contents(table), scenario.expected)
        assert outcome["version"] == scenario.version
        assert outcome["num_texts_encoded"] == num_left(scenario, records, done=done)


def start_flow(scenario: Scenario, table: str) -> "subprocess.Popen[str]":
    from prefect.settings import PREFECT_API_URL

    job = scenario.refresh
    return subprocess.Popen(
        [
            sys.executable, "-m", "flows.cli", "refresh", job["raw"], table, "--model", job["model"],
            "--settings", json.dumps(job["settings"]), "--json",
        ],
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value() or "", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )  # fmt: skip


def flow_outcome(process: "subprocess.Popen[str]") -> dict[str, Any]:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    outcome: dict[str, Any] = json.loads(output)
    return outcome
