"""Commands and flows start with the modules that they need. Each of the heavy ones takes one to three seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tables import rows, update, write


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        # Help and wrong usage wait for this alone.
        ("flows.cli.commands", {"prefect", "torch", "transformers", "polars", "sklearn", "pandas"}),
        ("sbert.table.delta", {"prefect", "torch", "transformers", "sklearn", "scipy"}),
        ("flows.refresh", {"torch", "transformers", "sklearn", "scipy", "matplotlib"}),
        ("sbert.index.search", {"prefect", "transformers", "sklearn", "scipy"}),
        ("sbert.encoder.inference", {"prefect", "transformers", "sklearn", "scipy"}),
    ],
)
def test_importing_a_module_does_not_import_what_it_may_never_need(module: str, unneeded: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({unneeded!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_refresh_with_nothing_to_do_imports_neither_torch_nor_pandas(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 30))
    table = tmp_path / "table"
    update(tmp_path / "raw", table, model=model)
    code = f"""
import sys
from tests.support.refreshing import refreshed
report = refreshed({str(tmp_path / "raw")!r}, {str(table)!r}, {model!r}).report
print(report.num_splits_built, *sorted({{"pandas", "torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]
