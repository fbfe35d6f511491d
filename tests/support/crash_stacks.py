"""Show at the end of a parallel test run where a test process crashed, on a segmentation fault for example."""

import faulthandler
import re
import tempfile
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
