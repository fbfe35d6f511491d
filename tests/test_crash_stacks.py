"""A run of tests names the place of a crash, and the file that left something open."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_pytest(folder: Path, *options: str) -> str:
    """Run the tests of a folder in a process of its own, with the plugin alone; return what it prints."""
    command = [
        sys.executable, "-m", "pytest", "-c", "pytest.ini", "-p", "tests.support.crash_stacks",
        "-p", "no:cacheprovider", "-W", "error", *options,
    ]  # fmt: skip
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return ran.stdout


def test_the_end_of_a_run_shows_the_stacks_of_a_crash_without_the_frames_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_crash.py").write_text("import ctypes\n\n\ndef test_crash():\n    ctypes.string_at(0)\n")
    shown = run_pytest(tmp_path, "-n", "1", "--max-worker-restart=0")
    stacks = shown[shown.index("crash of gw0") : shown.index("short test summary")]
    assert "Fatal Python error: Segmentation fault" in stacks
    assert 'test_crash.py", line 5 in test_crash' in stacks
    assert "execnet" not in stacks
    assert "_pytest" not in stacks


def test_a_run_without_a_crash_shows_no_stacks(tmp_path: Path) -> None:
    (tmp_path / "test_failure.py").write_text("def test_failure():\n    assert False\n")
    shown = run_pytest(tmp_path, "-n", "1")
    assert "1 failed" in shown
    assert "crash of" not in shown


def test_a_cycle_that_holds_an_open_file_is_an_error_of_the_test_file_that_made_it(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "class Cycle:\n    pass\n\n\ndef test_a():\n    cycle = Cycle()\n    cycle.own, cycle.file = cycle, open(__file__)\n"
    )
    (tmp_path / "test_b.py").write_text("def test_b():\n    pass\n")
    shown = run_pytest(tmp_path, "-p", "no:xdist")
    assert "ERROR test_a.py::test_a" in shown
    assert "2 passed, 1 error" in shown
