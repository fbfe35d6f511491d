"""SIGKILL at any moment of an erasure: readers see the version before or after, and running again ends it."""

import random
from pathlib import Path

import pytest

from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.run import derive
from sbert.erase.receipt import Receipt
from sbert.storage.files import filesystem, strip_protocol
from sbert.table.delta import Table
from sbert.table.followers import forget_follower
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


def prepare(folder: str) -> None:
    """Make a table of two versions, and a derived table that names the rows in the lists of others."""
    state: State = {f"s3://raw/{name}.jsonl": {f"{name}-{at}": at for at in range(12)} for name in "abc"}
    make_version(f"{folder}/table", state)
    state["s3://raw/a.jsonl"]["a-0"] = 77
    make_version(f"{folder}/table", state)
    derive(NeighboursJob(k=5), f"{folder}/table", f"{folder}/neighbours")
    forget_follower(Table.open(f"{folder}/table"), f"{folder}/neighbours")  # copies of the table have theirs elsewhere


def rows_of_receipts(table: str) -> set[int]:
    """Return the rows that each receipt says were erased: a kill after the last write leaves a whole receipt."""
    fs = filesystem(table)
    return {
        Receipt.model_validate_json(fs.cat_file(path)).num_rows_erased
        for path in fs.find(f"{strip_protocol(table)}/_erased/receipts")
        if path.endswith(".json")
    }


def one_kill(base: str, folder: str, forks: Forks, points: list[str], chance: random.Random) -> bool:
    """Kill an erasure at a write of a random kind, then end it; return whether the kill struck before the end."""
    for name in ("table", "neighbours"):
        copy_folder(f"{base}/{name}", f"{folder}/{name}")
    table, derived = f"{folder}/table", [f"{folder}/neighbours"]
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
    assert files_that_hold(folder, *NEEDLES) == [], where
    return was_killed


def kill_rounds(base: str, forks: Forks, num_kills: int) -> None:
    """Kill erasures of copies of a table, and end each; at least half of the kills strike before the end."""
    prepare(f"{base}/base")
    for name in ("table", "neighbours"):
        copy_folder(f"{base}/base/{name}", f"{base}/whole/{name}")
    whole = forks.start_erase(table=f"{base}/whole/table", ids=IDS, derived=[f"{base}/whole/neighbours"])
    assert whole.receipt().num_rows_erased == 2
    points = whole.points()
    chance = random.Random(num_kills)
    num_struck = 0
    for number in range(num_kills):
        folder = f"{base}/round-{number}"
        num_struck += one_kill(f"{base}/base", folder, forks, points, chance)
        filesystem(folder).rm(strip_protocol(folder), recursive=True)
    assert num_struck >= num_kills // 2


ROUNDS = [SAMPLE_KILLS, pytest.param(FULL_KILLS, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]


@pytest.mark.parametrize("num_kills", ROUNDS)
def test_an_erasure_that_is_killed_is_ended_by_running_again(tmp_path: Path, forks: Forks, num_kills: int) -> None:
    kill_rounds(str(tmp_path), forks, num_kills)


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_erasure_on_s3_that_is_killed_is_ended_by_running_again(s3_bucket: str, tmp_path: Path) -> None:
    with Forks(tmp_path) as forks:  # started with the keys of the S3 server
        kill_rounds(s3_bucket, forks, FULL_KILLS)
