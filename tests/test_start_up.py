"""Commands and flows start with the modules that they need. Each of the heavy ones takes one to three seconds."""

import subprocess
import sys

import pytest


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
