"""Measure the cost of keeping a derived table: a full run, a run without change, and one percent of the rows in new objects.

    python -m tests.benchmarks.derived --rows 1000000

The table is that of `tests.benchmarks.sync`: random unit vectors of 384 values in objects of 10,000 rows. The job reads keys
and vectors of every row and does nothing with them, so the figures are the cost of the frame around a job.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from sbert.derived.job import RowFunction, RowJob
from sbert.derived.run import DerivedReport, derive
from sbert.table.commit import commit
from sbert.table.delta import Table
from tests.benchmarks.harness import print_table
from tests.benchmarks.sync import KEPT, ROWS_PER_OBJECT, make_table, write_object


class NothingJob(RowJob):
    """Reads the vectors and says one number of each row."""

    name: ClassVar[str] = "nothing"

    def columns(self, table: Table) -> pa.Schema:
        """Return one column."""
        return pa.schema([pa.field("number", pa.int32())])

    def function(self, table: Table) -> RowFunction:
        """Return a function that says 0."""
        return lambda rows: pa.table({"number": np.zeros(len(rows), np.int32)})


def add_objects(folder: str, num_objects: int, first: int) -> None:
    """Commit a version with new objects."""
    table = Table.open(folder)
    new = [write_object(folder, first + number, 10 * first + number) for number in range(num_objects)]
    commit(folder, table, add=new, drop=[], encoder=table.encoder, kept_schema=KEPT, metadata={})


def timed(step: Callable[[], DerivedReport]) -> tuple[float, DerivedReport]:
    """Return the seconds of a run, and its report."""
    began = time.perf_counter()
    report = step()
    return time.perf_counter() - began, report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table, in objects of 10,000")
    num_objects = max(1, parser.parse_args().rows // ROWS_PER_OBJECT)
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
        folder, out = str(Path(name) / "table"), str(Path(name) / "out")
        make_table(folder, num_objects)
        full, report = timed(lambda: derive(NothingJob(), folder, out))
        assert report.num_rows_built == report.num_rows == num_objects * ROWS_PER_OBJECT
        unchanged = min(timed(lambda: derive(NothingJob(), folder, out))[0] for _ in range(3))
        add_objects(folder, max(1, num_objects // 100), num_objects)
        new, report = timed(lambda: derive(NothingJob(), folder, out))
        assert report.num_rows_built == max(1, num_objects // 100) * ROWS_PER_OBJECT
        print_table(
            f"a job that does nothing, {num_objects * ROWS_PER_OBJECT:,} rows",
            ("run", "seconds", "of the full run"),
            [
                ("full", f"{full:.2f}", "1"),
                ("nothing changed", f"{unchanged:.3f}", f"{unchanged / full:.2%}"),
                ("1 % of the rows in new objects", f"{new:.3f}", f"{new / full:.2%}"),
            ],
        )


if __name__ == "__main__":
    main()
