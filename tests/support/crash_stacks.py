"""Find where a test process crashed, on a segmentation fault for example.

The end of a parallel run shows the stacks. Python often crashes only when it searches for reference cycles, in whatever test
runs then. So each test file ends with such a search: a crash among its own objects, or a file left open, is seen there.
"""

import faulthandler
import gc
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
FILE = pytest.StashKey[Any]()
FRAME_OF_PYTEST = re.compile(r"/(_pytest|pluggy|xdist|execnet)/")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Name the file to which a test process writes its stacks if it crashes."""
    stash = node.config.stash
    if FOLDER not in stash:
        stash[FOLDER] = tempfile.TemporaryDirectory(prefix="sbert-crashes-")
    node.workerinput["crash_file"] = str(Path(stash[FOLDER].name) / node.gateway.id)


@pytest.hookimpl(trylast=True)  # after pytest's own plugin, whose stacks are lost among the output of both processes
def pytest_configure(config: pytest.Config) -> None:
    """Let a crash write the stacks of all threads to the file of this test process."""
    name = getattr(config, "workerinput", {}).get("crash_file")
    if name is not None:
        config.stash[FILE] = Path(name).open("w")  # noqa: SIM115  (open as long as the process lives)
        faulthandler.enable(config.stash[FILE])


@pytest.fixture(scope="module", autouse=True)
def freed_cycles() -> Iterator[None]:
    """Free the reference cycles of a test file at its end."""
    yield
    gc.collect()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the stacks of test processes that crashed, without the frames of pytest."""
    if FOLDER not in config.stash:
        return
    for file in sorted(Path(config.stash[FOLDER].name).iterdir()):
        stacks = file.read_text().partition("Extension modules:")[0]
        if stacks:
            terminalreporter.section(f"crash of {file.name}")
            shown = [line for line in stacks.splitlines() if not FRAME_OF_PYTEST.search(line)]
            terminalreporter.write_line("\n".join(shown))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the file of this test process, or remove the folder of all."""
    if FILE in config.stash:
        faulthandler.disable()
        config.stash[FILE].close()
    if FOLDER in config.stash:
        config.stash[FOLDER].cleanup()
