"""A month of nights as deployed: what the table is stays what it was on the first day.

The sample calls the flows with the parameters of the deployments. The whole month (`make test-slow`) runs on a real server
with a worker, and everything is stopped and started again in the middle.
"""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from deployments.table_deployments import prefect_file
from deployments.tables_file import TablesFile
from sbert.refresh.run_metrics import read_runs
from sbert.table.delta import Table
from tests.support.prefect_stack import Stack, stack
from tests.support.tables import read, rows, write
from tests.support.tiny_models import save_tiny

NIGHTS = 30
SAMPLE_NIGHTS = 3
OBJECTS = 6
ROWS = 30
KEPT = ["kind", "text"]
SETTINGS = {
    "cleaning": {"mask_emails": True},
    "encoding": {"prompt": "passage: ", "truncation": "window", "windows": {"stride": 4}},
    "splits": {"pack_below_bytes": 0},
}

Start = Callable[..., None]
"""Start a deployment with parameters from its form, and wait until it is done."""


class Month:
    """A raw folder that changes, and its table."""

    def __init__(self, folder: Path, start: Start, model: str, switched: str) -> None:
        self.raw, self.table = folder / "raw", str(folder / "table")
        self.start, self.model, self.switched = start, model, switched
        for number in range(OBJECTS):
            write(self.raw / f"{number}.jsonl", rows(number * ROWS, ROWS))

    def first_day(self) -> None:
        """Make the table, and remember its state."""
        self.start("nightly-refresh", model=self.model)
        self.columns = read(self.table).columns
        self.settings = Table.open(self.table).recorded_settings
        assert set(KEPT) <= set(self.columns)

    def edit(self, night: int) -> None:
        """Change one row of the first object, and add an object now and then."""
        lines = rows(0, ROWS)
        lines[night % ROWS] = {**lines[night % ROWS], "text": f"edited in night {night}"}
        write(self.raw / "0.jsonl", lines)
        if night % 5 == 0:
            write(self.raw / f"new-{night}.jsonl", rows(1_000 + night * ROWS, ROWS))

    def untouched(self) -> pl.DataFrame:
        """Return the rows of objects that nobody edits."""
        names = [str(self.raw / f"{number}.jsonl") for number in range(1, OBJECTS)]
        return read(self.table).filter(pl.col("source").is_in(names))

    def night(self, night: int) -> None:
        """Edit, refresh as deployed, and check the state of the table."""
        self.edit(night)
        self.start("nightly-refresh")
        self.check(night)

    def check(self, night: int) -> None:
        table = Table.open(self.table)
        assert read(self.table).columns == self.columns, f"night {night}"
        assert table.recorded_settings == self.settings, f"night {night}"
        assert table.num_rows == len({row["source"] + row["id"] for row in read(self.table).to_dicts()})

    def play(self, nights: range, *, switch_at: int, backfill_at: int, upkeep_at: int) -> None:
        """Play nights; untouched vectors change with the model only, and then no more."""
        before = self.untouched()
        for night in nights:
            if night == switch_at:
                self.start("reembed-on-promotion", model=self.switched)
                assert Table.open(self.table).encoder.model == self.switched
                before = self.untouched()
            if night == backfill_at:  # as the form sends it, with empty fields
                self.start("backfill", include=["2.jsonl", "3.jsonl"], force=True, since=None, limit=None, exclude=[])
            if night == upkeep_at:
                self.start("upkeep", retention_hours=0.0, shard_rows=1_000)
            self.night(night)
        after = self.untouched()
        assert after["id"].to_list() == before["id"].to_list()
        moved = np.abs(np.array(after["embedding"].to_list()) - np.array(before["embedding"].to_list()))
        assert moved.max() <= 1e-6
        assert after.drop("embedding").equals(before.drop("embedding"))


def tables_file(folder: Path) -> TablesFile:
    places = {name: str(folder / name) for name in ("raw", "table", "labels", "models")}
    return TablesFile.model_validate({"tables": {"default": {**places, "keep_columns": KEPT, "settings": SETTINGS}}})


@pytest.mark.usefixtures("prefect_server")
def test_some_nights_leave_the_table_what_it_was(tmp_path: Path, model: str) -> None:
    deployments = {item["name"]: item for item in prefect_file(tables_file(tmp_path))["deployments"]}

    def start(name: str, **form: Any) -> None:
        module, flow = deployments[name]["entrypoint"].rsplit(".", 1)
        getattr(import_module(module), flow)(**{**deployments[name]["parameters"], **form})

    month = Month(tmp_path, start, model, save_tiny(tmp_path / "switched", seed=4))
    month.first_day()
    month.play(range(1, SAMPLE_NIGHTS + 1), switch_at=1, backfill_at=2, upkeep_at=3)


def drift(table_uri: str, first: int, last: int) -> float:
    """Return how far the mean vector moves between two runs of the same encoder."""
    means = [np.array(vector) for vector in read_runs(table_uri)["mean_vector"].to_list() if vector is not None]
    return float(np.abs(means[last] - means[first]).max())


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_month_of_nights_with_a_restart_leaves_the_table_what_it_was(tmp_path: Path) -> None:
    model, switched = save_tiny(tmp_path / "model"), save_tiny(tmp_path / "switched", seed=4)
    tables = tables_file(tmp_path)
    (tmp_path / "tables.yaml").write_text(json.dumps(tables.model_dump(exclude_unset=True)))

    def starter(served: Stack) -> Start:
        def start(name: str, **form: Any) -> None:
            served.wait_for(served.start(name, **form), "Completed")

        return start

    with stack(tmp_path, SBERT_TABLES=str(tmp_path / "tables.yaml")) as served:
        month = Month(tmp_path, starter(served), model, switched)
        month.first_day()
        month.play(range(1, NIGHTS // 2), switch_at=8, backfill_at=5, upkeep_at=10)
    with stack(tmp_path, SBERT_TABLES=str(tmp_path / "tables.yaml")) as served:
        month.start = starter(served)
        month.play(range(NIGHTS // 2, NIGHTS + 1), switch_at=0, backfill_at=20, upkeep_at=25)
    assert drift(month.table, -10, -1) < 0.05
