"""Start everything that `make serve` starts, in its own folder and on its own port, with a client for its API."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

REPOSITORY = Path(__file__).parents[2]
READY_SECONDS = 400
CALL_ATTEMPTS = 10
POLL_SECONDS = 0.5

T = TypeVar("T")


@dataclass
class Stack:
    """A running server with worker and deployments."""

    process: subprocess.Popen[str]
    folder: Path
    api: str
    lines: list[str] = field(default_factory=list)
    """Lines that it has printed."""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API; retry while the server is busy, as Prefect's client does."""
        for attempt in range(1, CALL_ATTEMPTS + 1):
            try:
                answer = httpx.request(method, f"{self.api}{path}", json=body, timeout=60)
                answer.raise_for_status()
            except (httpx.HTTPStatusError, httpx.TransportError) as error:
                busy = not isinstance(error, httpx.HTTPStatusError) or error.response.status_code == 503
                if not busy or attempt == CALL_ATTEMPTS:
                    raise
                time.sleep(2)
                continue
            return answer.json() if answer.content else None
        raise AssertionError

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {item["name"]: item for item in self.call("POST", "/deployments/filter", {})}

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run as the form does and return its id."""
        identity = self.deployments()[deployment]["id"]
        run = self.call("POST", f"/deployments/{identity}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/flow_runs/{run_id}"))

    def runs(self, **conditions: Any) -> list[dict[str, Any]]:
        return list(self.call("POST", "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 200, **conditions}))

    def wait_for(self, run_id: str, *states: str, seconds: float = 300) -> dict[str, Any]:
        """Wait until a run has one of the states and return the run."""

        def arrived() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["state_name"] in states else None

        try:
            return until(arrived, seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{self.run(run_id)['state']}\n{self.logs(run_id)[-20:]}") from error

    def artifacts(self, run_id: str) -> dict[str, str]:
        """Return the Markdown of a run's artifacts by key."""
        artifacts = self.call("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
        return {item["key"] or item["type"]: str(item["data"]) for item in artifacts}

    def logs(self, run_id: str) -> list[dict[str, Any]]:
        return list(self.call("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}}))

    def events(self, name: str) -> list[dict[str, Any]]:
        return list(self.call("POST", "/events/filter", {"filter": {"event": {"name": [name]}}})["events"])

    def process_of(self, run_id: str) -> psutil.Process:
        """Return the process of a running flow."""

        def process_of_run() -> psutil.Process | None:
            for process in psutil.process_iter(["cmdline", "environ"]):
                environment = process.info["environ"] or {}
                if environment.get("PREFECT__FLOW_RUN_ID", "").replace("-", "") == run_id.replace("-", ""):
                    return process
            return None

        return until(process_of_run, 60)


def until(look: Callable[[], T | None], seconds: float) -> T:
    """Call `look` until it returns something other than None, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = look()
        if value is not None:
            return value
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"not within {seconds} s")


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def stack(folder: Path, **environment: str) -> Iterator[Stack]:
    """Start everything in `folder`, and stop it as Ctrl-C does."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "deployments/serve.py")],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT")},
            "PYTHONPATH": str(REPOSITORY),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(port),
            **{f"SBERT_{name.upper()}_URI": str(folder / name) for name in ("raw", "table", "labels", "models")},
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    running = Stack(process, folder, f"http://127.0.0.1:{port}/api")
    printed: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process, running.lines, printed), daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not any(line.startswith("ready after") for line in running.lines):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("did not start:\n" + "".join(running.lines))
            with contextlib.suppress(queue.Empty):
                printed.get(timeout=1)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
        reader.join(10)


def _read(process: subprocess.Popen[str], lines: list[str], printed: "queue.SimpleQueue[str]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            printed.put(line)
