"""Everything on one machine: a Prefect server, a work pool with a worker, all deployments.

    python deployments/serve.py          # what `make serve` runs

The program prints the UI's address when it can be used, and stops everything on Ctrl-C. The server listens on 127.0.0.1
only. PREFECT_SERVER_API_PORT chooses the port (4200). SBERT_TABLES names another file than tables.yaml. For the table of
the file here, SBERT_RAW_URI, SBERT_TABLE_URI, SBERT_LABELS_URI and SBERT_MODELS_URI say where everything is (by default in
data/).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import yaml

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "data"
POOL = "sbert"
START_SECONDS = 300
STOP_SECONDS = 30
CALL_ATTEMPTS = 20
BUSY = 503
NOT_FOUND = 404
FLOW_RUN_ENDED = "sbert.flow-run.ended"
"""Event by which flows say that they have ended (flows/hooks.py)."""


def main() -> int:
    """Start everything, wait for Ctrl-C or for a part to fail, stop everything."""
    # Children of a shell's background job inherit an ignored Ctrl-C, and a worker that ignores it never stops.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    environment = _environment()
    api = environment["PREFECT_API_URL"]
    running: list[tuple[str, subprocess.Popen[bytes]]] = []
    began = time.monotonic()
    try:
        _refuse_taken_port(environment)
        running.append(("server", _start(["server", "start", "--host", "127.0.0.1"], environment, quiet=True)))
        _wait_for(running, f"{api}/health")
        ended = _end_orphans(api)  # before the worker starts: a run that waits for a dead one may begin at once
        # `prefect deploy` makes the triggers of deployments anew. An event in between would start nothing, so no run may
        # send one: the worker starts last. It makes the pool, which there is not at the first start, when nothing runs yet.
        is_first = not _is_there(f"{api}/work_pools/{POOL}")
        worker = ["worker", "start", "--pool", POOL, "--type", "process", "--name", "serve"]
        if is_first:
            running.append(("worker", _start(worker, environment)))
        _install_automations(api)
        _tell_ended(api, ended)
        _wait_for(running, f"{api}/work_pools/{POOL}")
        _deploy(environment)
        if not is_first:
            running.append(("worker", _start(worker, environment)))
        print(
            f"ready after {time.monotonic() - began:.0f} s: {api.removesuffix('/api')}  (Ctrl-C stops everything)",
            flush=True,
        )
        while True:
            for name, process in running:
                if process.poll() is not None:
                    print(
                        f"the {name} ended with status {process.returncode}: its output above says why",
                        file=sys.stderr,
                    )
                    return 1
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("stopping", flush=True)
        return 0
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        for name, process in reversed(running):
            _end(name, process)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _environment() -> dict[str, str]:
    port = os.environ.get("PREFECT_SERVER_API_PORT", "4200")
    where = {name: str(DATA / name) for name in ("raw", "table", "labels", "models")}
    return {
        **{f"SBERT_{name.upper()}_URI": uri for name, uri in where.items()},
        # SQLite has one writer at a time: on a busy machine wait for it rather than fail.
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        **os.environ,
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_COLORS": "false",
    }


def _refuse_taken_port(environment: dict[str, str]) -> None:
    port = int(environment["PREFECT_SERVER_API_PORT"])
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise RuntimeError(
                f"port {port} is taken: stop the program that uses it, or choose a port with PREFECT_SERVER_API_PORT"
            )


def _prefect(arguments: list[str]) -> list[str]:
    program = [str(HERE / "prefect_server.py")] if arguments[0] == "server" else ["-m", "prefect"]
    return [sys.executable, *program, *arguments]


def _start(arguments: list[str], environment: dict[str, str], *, quiet: bool = False) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C in the terminal reaches this program alone, which stops the parts in order.
    out = subprocess.DEVNULL if quiet else None
    return subprocess.Popen(
        _prefect(arguments), cwd=HERE, env=environment, stdin=subprocess.DEVNULL, stdout=out, start_new_session=True
    )


def _run(arguments: list[str], environment: dict[str, str], *, prefect: bool = True) -> None:
    done = subprocess.run(
        _prefect(arguments) if prefect else [sys.executable, *arguments],
        cwd=HERE,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}")


def _deploy(environment: dict[str, str]) -> None:
    """Make Prefect's file from the tables, and deploy its deployments."""
    tables = Path(os.environ.get("SBERT_TABLES", HERE / "tables.yaml")).resolve()
    with tempfile.TemporaryDirectory(prefix="sbert-deploy-") as folder:
        file = Path(folder) / "prefect.yaml"
        _run(
            [str(HERE / "table_deployments.py"), "--tables", str(tables), "--output", str(file)],
            environment,
            prefect=False,
        )
        _run(["--no-prompt", "deploy", "--all", "--prefect-file", str(file)], environment)


def _install_automations(api: str) -> None:
    """Install the automations of automations.yaml.

    An automation that is there already keeps its id: with it go the heartbeats that it is waiting for, among them those of
    runs that died with the machine.
    """
    for automation in yaml.safe_load((HERE / "automations.yaml").read_text(encoding="utf-8"))["automations"]:
        same_name = {"automations": {"name": {"any_": [automation["name"]]}}}
        there = _call(f"{api}/automations/filter", same_name)
        if not there:
            _call(f"{api}/automations/", automation)
        elif not _agrees(automation, there[0]):
            _call(f"{api}/automations/{there[0]['id']}", automation, method="PUT")
        for copy in there[1:]:
            _call(f"{api}/automations/{copy['id']}", method="DELETE")


def _agrees(wanted: Any, there: Any) -> bool:
    """Return whether the server has the values of a file; the server adds fields, and orders lists of events as it likes."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(_agrees(value, there.get(name)) for name, value in wanted.items())
    if isinstance(wanted, list):
        if all(isinstance(item, str) for item in wanted):
            return sorted(wanted) == sorted(map(str, there or []))
        return len(wanted) == len(there or []) and all(map(_agrees, wanted, there))
    return bool(wanted == there)


def _end_orphans(api: str) -> list[str]:
    """Set runs to Crashed whose processes died with the machine, so that the next run does not wait behind them.

    A process worker notes the process of each run. The server listens on 127.0.0.1 only, so every worker is on this
    machine. A run of a deployment that is pending without a process died before it had one. Return the ids of all.
    """
    ended: list[str] = []
    begun = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}, "limit": 200}
    for run in _call(f"{api}/flow_runs/filter", begun):
        number = run.get("infrastructure_pid") or ""
        if number.isdigit():
            is_orphan = not _runs_flow(int(number), run["id"])
        else:
            is_orphan = run["state_type"] == "PENDING" and run["deployment_id"] is not None
        if not is_orphan:
            continue
        message = "The machine or the worker stopped during the run. The next run continues where this one ended."
        state = {"type": "CRASHED", "name": "Crashed", "message": message}
        _call(f"{api}/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
        print(f"the run {run['name']!r} ended with its machine: Crashed", flush=True)
        ended.append(run["id"])
    return ended


def _tell_ended(api: str, run_ids: list[str]) -> None:
    """Tell the automation that runs have ended, or it marks them as Crashed again when their heartbeats stay away.

    The server may have missed the change of their states itself, since it was just starting.
    """
    now = datetime.now(UTC).isoformat()
    events = [
        {"id": str(uuid4()), "occurred": now, "event": FLOW_RUN_ENDED, "resource": {"prefect.resource.id": resource}}
        for resource in (f"prefect.flow-run.{run_id}" for run_id in run_ids)
    ]
    if events:
        _call(f"{api}/events", events)


def _runs_flow(number: int, run_id: str) -> bool:
    """Return whether a process of this machine runs a flow run; process numbers are used again after a restart."""
    try:
        environment = psutil.Process(number).environ()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return environment.get("PREFECT__FLOW_RUN_ID", "").replace("-", "") == run_id.replace("-", "")


def _call(url: str, body: Any = None, method: str | None = None) -> Any:
    """Call the server; retry while it says that it is busy."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method=method)
    for attempt in range(1, CALL_ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                body_text = answer.read()
                return json.loads(body_text) if body_text else None
        except urllib.error.HTTPError as error:
            if error.code != BUSY or attempt == CALL_ATTEMPTS:
                raise
            time.sleep(2)
    raise AssertionError


def _is_there(url: str) -> bool:
    """Return whether the server has something at `url`."""
    try:
        _call(url)
    except urllib.error.HTTPError as error:
        if error.code != NOT_FOUND:
            raise
        return False
    return True


def _wait_for(running: list[tuple[str, subprocess.Popen[bytes]]], url: str) -> None:
    """Wait until `url` answers; stop when a part ends before that."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for name, process in running:
            if process.poll() is not None:
                raise RuntimeError(f"the {name} ended with status {process.returncode}: its output above says why")
        try:
            _call(url)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"{url} did not answer within {START_SECONDS} s: look at the output above, and start again")


def _end(name: str, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT if name == "worker" else signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"the {name} did not stop within {STOP_SECONDS} s and is killed", file=sys.stderr)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
