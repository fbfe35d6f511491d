"""The Prefect server that a command needs: the configured one answers, or one line says that it does not."""

import gc
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from flows.cli import prefect_server
from flows.cli.commands import app
from flows.cli.prefect_server import check_server, loading_flow
from sbert.errors import ServerError

ROOT = Path(__file__).parents[3]
NOBODY = "http://127.0.0.1:9/api"
"""An address where nothing answers."""


@pytest.fixture
def web_server() -> Iterator[str]:
    """Something that answers, but is no Prefect server."""

    class Silent(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://no-such-host.invalid/api", "nonsense"])
def test_an_address_where_nothing_answers_is_named(url: str) -> None:
    with pytest.raises(ServerError, match=rf"PREFECT_API_URL is {url}, but no Prefect server answers there"):
        check_server(url)


def test_an_address_of_something_else_is_named(web_server: str) -> None:
    with pytest.raises(ServerError, match=r"status 404; the address of a server ends in /api"):
        check_server(web_server)


def run_python(arguments: list[str], home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the project's code, with no variables of Prefect but the given ones."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        env={**environment, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(home / "prefect"), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


AWAY = "error: PREFECT_API_URL is http://127.0.0.1:9/api, but no Prefect server answers there ("


def test_a_server_that_is_away_is_one_line_and_nothing_before_it(tmp_path: Path) -> None:
    done = run_python(["-m", "flows.cli", "refresh", "raw", "table"], tmp_path, PREFECT_API_URL=NOBODY)
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(AWAY)


@pytest.mark.parametrize("command", [("backfill", "raw", "table"), ("retrain", "l", "m")])
def test_other_commands_say_the_same_of_a_server_that_is_away(command: tuple[str, ...]) -> None:
    with temporary_settings({PREFECT_API_URL: NOBODY}):
        done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(AWAY)
    assert gc.isenabled()


def test_python_searches_for_no_cycles_until_the_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def begin() -> Callable[[], None]:
        seen.append(gc.isenabled())
        return lambda: seen.append(gc.isenabled())

    monkeypatch.setattr(prefect_server, "_begin_server", begin)
    with loading_flow():
        seen.append(gc.isenabled())
    assert seen == [False, False, False]
    assert gc.isenabled()


@pytest.mark.parametrize("failing", ["begin", "load", "wait"])
def test_python_searches_for_cycles_again_after_a_failed_start(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def do(part: str) -> None:
        if part == failing:
            raise ServerError(part)

    def begin() -> Callable[[], None]:
        do("begin")
        return lambda: do("wait")

    monkeypatch.setattr(prefect_server, "_begin_server", begin)
    with pytest.raises(ServerError, match=failing), loading_flow():
        do("load")
    assert gc.isenabled()


@pytest.fixture
def _terminal() -> Iterator[None]:
    """Let commands hear the end of the terminal, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_terminal")
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 130), (signal.SIGINT, 130)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_command_that_is_stopped_before_its_flow_leaves_no_server(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    """The server has a process group of its own, so that it lives to record how a run ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    home = str(tmp_path / "prefect")
    options: dict[str, Any] = {
        "cwd": tmp_path,
        "env": {**environment, "PYTHONPATH": str(ROOT), "PREFECT_HOME": home},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    with subprocess.Popen([sys.executable, "-m", "flows.cli", "refresh", "raw", "table"], **options) as command:
        process = psutil.Process(command.pid)
        deadline = time.monotonic() + 120
        while not process.children():  # the server was started, and does not answer yet
            assert command.poll() is None, command.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        command.send_signal(number)
        _, said = command.communicate(timeout=120)
    assert command.returncode == status, said
    assert said.splitlines()[-1].endswith("finished work is kept, run again to go on")
    assert not [other.pid for other in psutil.process_iter() if home_of(other) == home]


def test_an_interrupt_inside_code_made_of_text_gives_the_same_status(tmp_path: Path) -> None:
    """Python marks it as unhandled, and would end the process by SIGINT (-2) although the command handled it."""
    script = (
        "import flows.cli.commands as commands\n"
        "from flows.cli import main\n"
        "from flows.cli.output import answering\n"
        "def app():\n"
        "    try:\n"
        "        with answering(as_json=False):\n"
        "            exec('raise KeyboardInterrupt')\n"
        "    except Exception as error:\n"
        "        raise SystemExit(error.exit_code)\n"
        "commands.app = app\n"
        "main()\n"
    )
    (tmp_path / "interrupted.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr.strip() == "error: stopped on request; finished work is kept, run again to go on"
    assert done.returncode == 130


def home_of(process: psutil.Process) -> str:
    """Return the folder of Prefect's data that a process was told, empty where it may not be looked at."""
    try:
        return process.environ().get("PREFECT_HOME", "")
    except psutil.Error:
        return ""


def test_a_script_that_calls_a_flow_waits_longer_for_the_temporary_server(tmp_path: Path) -> None:
    """Prefect's own 20 seconds are too short on a busy machine; the script has Prefect loaded before our flow."""
    script = (
        "from prefect import flow\n"
        "from flows.refresh import refresh_embeddings\n"
        "from prefect.settings import get_current_settings\n"
        "print(get_current_settings().server.ephemeral.startup_timeout_seconds)\n"
    )
    for given, expected in ({}, "90"), ({"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "33"}, "33"):
        done = run_python(["-c", script], tmp_path, **given)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == expected


def test_a_line_of_the_library_before_a_run_brings_no_warning_of_prefect(tmp_path: Path) -> None:
    script = (
        "import logging\n"
        "import flows.cli.commands\n"
        "from flows.refresh import refresh_embeddings\n"
        "logging.getLogger('sbert.refresh.job').warning('the setting has another name now')\n"
    )
    done = run_python(["-c", script], tmp_path, PREFECT_API_URL=NOBODY)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
