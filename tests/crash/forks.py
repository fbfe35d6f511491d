"""Run refreshes, erasures and jobs in their own processes that start in milliseconds: a parent has imported everything and forks.

``with Forks(folder) as forks: run = forks.start(raw=…, table=…)`` starts a real process that can be killed. `Run.wait` returns how it
ended. The parent computes nothing before it forks, so no thread pool is copied half-way through its work.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from sbert.erase.receipt import Receipt
from sbert.erase.run import erase
from sbert.refresh.refresh_report import RefreshReport
from sbert.table.erased_keys import ErasedKeys
from tests.crash.jobs import JOBS
from tests.crash.points import Strike, watched
from tests.support.refreshing import refreshed


@dataclass
class Run:
    """One run in its process."""

    pid: int
    began: float
    _forks: "Forks"
    _result: Path
    _status: int | None = None

    def kill(self) -> None:
        """Kill the process. Its pid is not reused before `wait`, so this never strikes another process."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> bool:
        """Wait for the end and return whether the process was killed.

        Raises:
            AssertionError: when the run failed by itself; the message is its traceback.
        """
        if self._status is None:
            self._status = int(self._forks.ask({"wait": self.pid})["status"])
        if os.WIFSIGNALED(self._status):
            assert os.WTERMSIG(self._status) == signal.SIGKILL, f"ended by signal {os.WTERMSIG(self._status)}"
            return True
        assert os.WEXITSTATUS(self._status) == 0, self._result.with_suffix(".log").read_text()
        return False

    def report(self) -> RefreshReport:
        """Return the report of a refresh that was not killed."""
        assert not self.wait()
        return RefreshReport.model_validate(self._read()["report"])

    def receipt(self) -> Receipt:
        """Return the receipt of an erasure that was not killed."""
        assert not self.wait()
        return Receipt.model_validate(self._read()["report"])

    def points(self) -> list[str]:
        """Return the names of the points that it passed."""
        return list(self._read()["points"])

    def seconds(self) -> float:
        """Return the seconds that it took."""
        return float(self._read()["seconds"])

    def _read(self) -> dict[str, Any]:
        outcome: dict[str, Any] = json.loads(self._result.read_text())
        return outcome


class Forks:
    """The parent process."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        """Start the parent; results and logs go to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **(environment or {})},
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait(120)

    def start(self, *, strike: Strike | None = None, **refresh: Any) -> Run:
        """Start a refresh (arguments of `tests.support.refreshing.refreshed`)."""
        return self._start("refresh", strike, refresh)

    def start_erase(self, *, strike: Strike | None = None, table: str, ids: list[str], derived: list[str]) -> Run:
        """Start an erasure."""
        return self._start("erase", strike, {"table": table, "ids": ids, "derived": derived})

    def start_job(self, name: str, *, strike: Strike | None = None, folder: str) -> Run:
        """Start one of the jobs of `tests.crash.jobs`."""
        return self._start("job", strike, {"name": name, "folder": folder})

    def _start(self, kind: str, strike: Strike | None, arguments: dict[str, Any]) -> Run:
        result = self._folder / f"{uuid.uuid4().hex}.json"
        request = {
            "kind": kind,
            "arguments": arguments,
            "strike": asdict(strike) if strike else None,
            "result": str(result),
        }
        return Run(int(self.ask(request)["pid"]), time.monotonic(), self, result)

    def run(self, **refresh: Any) -> RefreshReport:
        """Refresh to the end."""
        return self.start(**refresh).report()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request to the parent and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def serve() -> None:
    """Fork a process for each request read from standard input."""
    import s3fs  # noqa: F401
    import sklearn.cluster
    import sklearn.linear_model  # noqa: F401
    import transformers.models.bert.modeling_bert  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"status": os.waitpid(request["wait"], 0)[1]}
        else:
            pid = os.fork()
            if pid == 0:
                _work(request)
            answer = {"pid": pid}
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # the end of an interpreter with these libraries takes long on a busy machine, and proves nothing


def _refresh(**refresh: Any) -> RefreshReport:
    return refreshed(**refresh, concurrency=2).report


def _erase(table: str, ids: list[str], derived: list[str]) -> Receipt:
    return erase(table, ErasedKeys(ids=ids), derived=derived)


def _job(name: str, folder: str) -> BaseModel:
    return JOBS[name].run(folder)


KINDS: dict[str, Callable[..., BaseModel]] = {"refresh": _refresh, "erase": _erase, "job": _job}


def _work(request: dict[str, Any]) -> None:
    result = Path(request["result"])
    log = os.open(result.with_suffix(".log"), os.O_CREAT | os.O_WRONLY, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        began = time.monotonic()
        with watched(Strike(**request["strike"]) if request["strike"] else None) as points:
            report = KINDS[request["kind"]](**request["arguments"])
        outcome = {
            "report": report.model_dump(mode="json"),
            "points": points.names,
            "seconds": time.monotonic() - began,
        }
        result.write_text(json.dumps(outcome))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
