"""SIGKILL at any moment: the table is the one before or the one after, and the next run finishes the work.

Real processes are killed, at moments uniform over the run time and at every kind of write to storage.
"""

import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sbert.errors import NotATableError
from sbert.table import Table
from tests.crash import corpora
from tests.crash.corpora import SETTINGS, assert_same, contents, copy_folder, is_same
from tests.crash.forks import Forks, Run
from tests.crash.points import Strike
from tests.services import S3Server
from tests.tiny_models import save_tiny

SCENARIOS = ("full", "incremental", "switch")
SAMPLE_KILLS = 3
KILLS = {"full": 34, "incremental": 33, "switch": 33}
MAX_KILLS_IN_A_ROW = 3


@dataclass(frozen=True)
class Scenario:
    """A refresh to be killed, what there was before, and what an undisturbed run makes of it."""

    folder: str
    base: str | None
    refresh: dict[str, Any]
    expected: pl.DataFrame
    wanted: dict[str, set[bytes]]
    """Hashes of the texts of each split that the table shows in the end."""
    known: set[bytes]
    """Hashes of the texts whose vectors the table had before."""
    version: int
    points: list[str]
    seconds: float


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return save_tiny(folder / "one"), save_tiny(folder / "two", seed=1)


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as started:
        yield started


def prepare(name: str, folder: str, models: tuple[str, str], forks: Forks) -> Scenario:
    raw, base, undisturbed = (f"{folder}/{part}" for part in ("raw", "base", "undisturbed"))
    refresh: dict[str, Any] = {"raw": raw, "model": models[0], "settings": SETTINGS}
    known: set[bytes] = set()
    corpora.write_objects(raw, corpora.first_state())
    if name != "full":
        forks.run(table=base, **refresh)
        copy_folder(base, undisturbed)
    if name == "incremental":
        known = corpora.union(corpora.texts_of_splits(base).values())
        corpora.write_objects(raw, corpora.second_state())
    if name == "switch":
        refresh["model"] = models[1]
    run = forks.start(table=undisturbed, **refresh)
    wanted = corpora.texts_of_splits(undisturbed) if not run.wait() else {}
    assert run.outcome().num_texts_encoded == len(corpora.union(wanted.values()) - known)
    return Scenario(
        folder=folder,
        base=base if name != "full" else None,
        refresh=refresh,
        expected=contents(undisturbed),
        wanted=wanted,
        known=known,
        version=run.outcome().version,
        points=run.points(),
        seconds=run.seconds(),
    )


def killed(scenario: Scenario, table: str, forks: Forks, chance: random.Random) -> str:
    """Run until a kill hits; say where it did."""
    for _ in range(20):
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
        if run.wait():
            return where
        if is_done(scenario, table):
            return f"too late ({where})"
    raise AssertionError("no kill hit in 20 attempts")


def random_strike(points: list[str], chance: random.Random) -> Strike:
    """Choose a point, each kind of write being as likely, however often it occurs."""
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
        found = contents(table)
    except NotATableError:
        assert scenario.base is None
        return
    if scenario.base is not None and Table.open(table).version == Table.open(scenario.base).version:
        assert_same(found, contents(scenario.base), tolerance=0)
    else:
        assert_same(found, scenario.expected)


def check_finishes(scenario: Scenario, table: str, run: Run, records: set[str], *, done: bool) -> None:
    """Check the run after the kill: same table, and nothing encoded that a finished split had."""
    outcome = run.outcome()
    assert_same(contents(table), scenario.expected)
    assert outcome.version == scenario.version
    finished = corpora.union(texts for name, texts in scenario.wanted.items() if name in records)
    left = corpora.union(texts for name, texts in scenario.wanted.items() if name not in records)
    expected = 0 if done else len(left - finished - scenario.known)
    assert outcome.num_texts_encoded == expected


def one_kill(scenario: Scenario, table: str, forks: Forks, chance: random.Random) -> str:
    if scenario.base is not None:
        copy_folder(scenario.base, table)
    places = []
    for _ in range(chance.choice((1, 1, 1, MAX_KILLS_IN_A_ROW))):
        places.append(killed(scenario, table, forks, chance))
        check_before_or_after(scenario, table)
    records, done = corpora.records(table), is_done(scenario, table)
    run = forks.start(table=table, **scenario.refresh)
    try:
        check_finishes(scenario, table, run, records, done=done)
    except AssertionError as error:
        raise AssertionError(f"killed at {' then '.join(places)}") from error
    return f"{'after' if done else 'before'}, {len(records)} of {len(scenario.wanted)} splits finished: {places}"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_few_kills(tmp_path: Path, models: tuple[str, str], forks: Forks, name: str) -> None:
    scenario = prepare(name, str(tmp_path), models, forks)
    assert is_same(scenario.expected, scenario.expected)
    chance = random.Random(name)
    for number in range(SAMPLE_KILLS):
        one_kill(scenario, f"{tmp_path}/table-{number}", forks, chance)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_hundred_kills(tmp_path: Path, models: tuple[str, str], forks: Forks, name: str) -> None:
    scenario = prepare(name, str(tmp_path), models, forks)
    chance = random.Random(f"{name} on disk")
    for number in range(KILLS[name]):
        table = tmp_path / "table"
        print(number, one_kill(scenario, str(table), forks, chance))
        shutil.rmtree(table)


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_hundred_kills_on_s3(
    tmp_path: Path, models: tuple[str, str], s3: S3Server, s3_bucket: str, name: str
) -> None:
    chance = random.Random(f"{name} on S3")
    with Forks(tmp_path) as forks:  # started with this bucket's environment
        scenario = prepare(name, s3_bucket, models, forks)
        for number in range(KILLS[name]):
            print(number, one_kill(scenario, f"{s3_bucket}/table-{number}", forks, chance))
