"""SIGKILL at any moment of an erasure: readers see the version before or after, and running again ends it."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.run import derive
from sbert.erase.receipt import Receipt
from sbert.table.delta import Table
from tests.crash.corpora import copy_folder
from tests.crash.forks import Forks
from tests.crash.points import Strike
from tests.support.file_search import files_that_hold
from tests.support.made_tables import State, make_version

IDS = ["a-3", "b-1"]
NEEDLES = tuple(f"{quote}{name}{quote}".encode() for name in IDS for quote in "'\"")
NUM_ROWS = 3 * 12
SAMPLE_KILLS = 2
FULL_KILLS = 100


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as started:
        yield started


def prepare(folder: Path) -> None:
    """Make a table of two versions, and a derived table that names the rows in the lists of others."""
    state: State = {f"s3://raw/{name}.jsonl": {f"{name}-{at}": at for at in range(12)} for name in "abc"}
    make_version(str(folder / "table"), state)
    state["s3://raw/a.jsonl"]["a-0"] = 77
    make_version(str(folder / "table"), state)
    derive(NeighboursJob(k=5), str(folder / "table"), str(folder / "neighbours"))


def rows_of_receipts(table: str) -> set[int]:
    """Return the rows that each receipt says were erased: a kill after the last write leaves a whole receipt."""
    return {
        Receipt.model_validate_json(path.read_bytes()).num_rows_erased
        for path in Path(table, "_erased/receipts").glob("*.json")
    }


def one_kill(base: Path, folder: Path, forks: Forks, points: list[str], chance: random.Random) -> bool:
    """Kill an erasure at a write of a random kind, then end it; return whether the kill struck before the end."""
    for name in ("table", "neighbours"):
        copy_folder(str(base / name), str(folder / name))
    table, derived = str(folder / "table"), [str(folder / "neighbours")]
    kind = chance.choice(sorted(set(points)))
    number = chance.choice([number for number, name in enumerate(points) if name == kind])
    strike = Strike(number, chance.choice(("before", "during", "after")), delay=chance.uniform(0, 0.01))  # type: ignore[arg-type]
    was_killed = forks.start_erase(table=table, ids=IDS, derived=derived, strike=strike).wait()
    where = f"{strike.when} {kind} (point {number})"
    num_rows = Table.open(table).scan().collect().height
    assert num_rows in {NUM_ROWS, NUM_ROWS - 2}, where
    receipt = forks.start_erase(table=table, ids=IDS, derived=derived).receipt()
    assert receipt.left == [], where
    assert 2 in rows_of_receipts(table), where  # a run that goes on counts the rows of the killed one
    assert Table.open(table).scan().collect().height == NUM_ROWS - 2, where
    assert files_that_hold(str(folder), *NEEDLES) == [], where
    return was_killed


@pytest.mark.parametrize(
    "num_kills", [SAMPLE_KILLS, pytest.param(FULL_KILLS, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_an_erasure_that_is_killed_is_ended_by_running_again(tmp_path: Path, forks: Forks, num_kills: int) -> None:
    base = tmp_path / "base"
    prepare(base)
    for name in ("table", "neighbours"):
        copy_folder(str(base / name), str(tmp_path / "whole" / name))
    whole = forks.start_erase(
        table=str(tmp_path / "whole/table"), ids=IDS, derived=[str(tmp_path / "whole/neighbours")]
    )
    assert whole.receipt().num_rows_erased == 2
    chance = random.Random(num_kills)
    num_struck = 0
    for number in range(num_kills):
        folder = tmp_path / f"round-{number}"
        num_struck += one_kill(base, folder, forks, whole.points(), chance)
        shutil.rmtree(folder)
    assert num_struck >= num_kills // 2
