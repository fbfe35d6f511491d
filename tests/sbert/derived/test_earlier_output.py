"""The output of the night before is used only if the same code made it."""

from pathlib import Path

import pytest

from sbert.apply.neighbours.job import NeighboursJob
from sbert.derived.derived_table import DerivedTable
from sbert.derived.earlier_output import output_before
from sbert.derived.run import derive
from tests.support.made_tables import make_version


def test_lists_of_an_earlier_version_of_the_code_are_not_built_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, out = str(tmp_path / "table"), str(tmp_path / "out")
    table = make_version(uri, {"a": {str(row): row for row in range(5)}})
    job = NeighboursJob(k=2)
    derive(job, uri, out)
    before = output_before(job, table, out)
    assert before is not None
    assert before.info.code_version == 1
    monkeypatch.setattr(NeighboursJob, "code_version", 2)
    assert output_before(job, table, out) is None
    assert derive(job, uri, out).num_rows_built == 5
    assert DerivedTable.open(out).info.code_version == 2
