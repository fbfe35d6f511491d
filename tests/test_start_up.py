"""Commands and flows start with the modules that they need. Each of the heavy ones takes one to three seconds."""

import os
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
        ("flows.cli.commands", {"sbert.registry.store"}),
        ("sbert.table.delta", {"prefect", "torch", "transformers", "sklearn", "scipy"}),
        ("flows.refresh", {"torch", "transformers", "sklearn", "scipy", "matplotlib"}),
        ("flows.refresh", {"markdown_it", "sbert.retrain.settings"}),
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
    for _ in range(2):  # the second run loads the encoder as the table describes it, and remembers that too
        update(tmp_path / "raw", table, model=model)
    code = f"""
import sys
from tests.support.refreshing import refreshed
report = refreshed({str(tmp_path / "raw")!r}, {str(table)!r}, {model!r}).report
print(report.num_splits_built, *sorted({{"pandas", "torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]


PRINT_SEARCHES = """
import atexit, gc, sys
class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in {modules!r}:
            print(name, gc.isenabled(), file=sys.stderr)
sys.meta_path.insert(0, Watch)
atexit.register(lambda: print("end", gc.isenabled(), gc.get_freeze_count() > 10_000, file=sys.stderr))
sys.argv = ["sbert", *{arguments!r}]
from flows.cli import main
main()
"""
"""Print whether Python searches for cycles when it looks for modules, and whether it does and leaves out many objects later."""


def printed_searches(modules: list[str], *arguments: str) -> list[str]:
    """Run a command, and return what it printed about its searches."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_SEARCHES.format(modules=modules, arguments=arguments)],
        env={**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"},  # nothing answers there
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.split()[:1] and line.split()[0] in {*modules, "end"}]
    return list(dict.fromkeys(lines))


def test_python_searches_for_no_cycles_while_commands_load() -> None:
    assert printed_searches(["flows.cli.refresh"], "--help") == ["flows.cli.refresh False", "end True True"]


def test_python_searches_for_no_cycles_while_a_flow_loads() -> None:
    """The command fails, as no server answers; then Python searches again."""
    loaded = ["prefect", "polars", "flows.refresh"]
    said = printed_searches(loaded, "refresh", "raw", "table")
    assert said == ["prefect False", "flows.refresh False", "polars False", "end True True"]


def test_python_searches_for_no_cycles_while_a_search_loads(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 30))
    table = str(tmp_path / "table")
    update(tmp_path / "raw", table, model=model)
    assert printed_searches(["polars", "sbert.index.top_k"], "search", table, "text") == [
        "polars False",
        "sbert.index.top_k False",
        "end True True",
    ]
