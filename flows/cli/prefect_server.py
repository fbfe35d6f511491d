"""Have a Prefect server ready when a flow begins: check the configured server, or start Prefect's temporary server.

Both happen while the libraries load, because each takes seconds.
"""

import atexit
import functools
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest import mock

from flows.cli.output import is_told_to_stop
from sbert.errors import ServerError
from sbert.runtime.memory import cycle_searches
from tasks.terminal import terminal

__all__ = ["check_server", "loading_flow"]

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
START_ATTEMPTS = 3
CLOUD_HOST = "prefect.cloud"
"""Host of Prefect Cloud, which has no health check at the address of a workspace."""


@contextmanager
def loading_flow() -> Iterator[None]:
    """Reach or start the server while the block imports a flow; the server answers after the block.

    Python searches for no reference cycles meanwhile: it would look at the objects of all modules several times.

    Raises:
        ServerError: PREFECT_API_URL is set, and nothing answers there.
    """
    with cycle_searches.load():
        wait_for_server = _begin_server()
        yield
        wait_for_server()


def _begin_server() -> Callable[[], None]:
    """Begin to reach or start the server, and return the function that waits until it answers."""
    terminal.update(["loading libraries and reaching the Prefect server"])
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    _stop_in_order_on_signals()
    if settings.api.url:
        return _check_in_background(settings.api.url)
    if settings.server.ephemeral.enabled:
        return _start_in_background()
    return lambda: None


def _stop_in_order_on_signals() -> None:
    """Treat a closed terminal like Ctrl-C, and let a termination signal end the command in order, with its server.

    Prefect handles a termination signal only while a flow runs. A process started with nohup keeps ignoring the terminal.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in ((signal.SIGHUP, signal.default_int_handler), (signal.SIGTERM, _terminate)):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, handler)


def _terminate(number: int, _: object) -> NoReturn:
    from prefect.exceptions import TerminationSignal

    is_told_to_stop.set()
    raise TerminationSignal(signal=number)


def _check_in_background(api_url: str) -> Callable[[], None]:
    failures: list[ServerError] = []

    def check() -> None:
        try:
            check_server(api_url)
        except ServerError as error:
            failures.append(error)

    checking = threading.Thread(target=check, name="prefect-server", daemon=True)
    checking.start()

    def wait() -> None:
        checking.join()
        if failures:
            raise failures[0]

    return wait


def check_server(api_url: str) -> None:
    """Check that a Prefect server answers at an address.

    Raises:
        ServerError: nothing answers there, or something else.
    """
    import httpx

    from tasks.certificates import trusted_certificates

    remedy = "Start the server, correct the address, or unset PREFECT_API_URL to run with a temporary server"
    try:
        answer = httpx.get(
            f"{api_url.rstrip('/')}/health",
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            verify=trusted_certificates(),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        detail = str(error) or type(error).__name__
        raise ServerError(
            f"PREFECT_API_URL is {api_url}, but no Prefect server answers there ({detail}). {remedy}"
        ) from error
    if answer.status_code == httpx.codes.NOT_FOUND and CLOUD_HOST not in api_url:
        raise ServerError(
            f"PREFECT_API_URL is {api_url}, but no Prefect server answers there (status {answer.status_code}; the address "
            f"of a server ends in /api). {remedy}"
        )


def _start_in_background() -> Callable[[], None]:
    import httpx
    from prefect.server.api import server as prefect_server

    own_group = SimpleNamespace(Popen=functools.partial(subprocess.Popen, process_group=0))

    class Server(prefect_server.SubprocessASGIServer):
        """A server that a Ctrl-C in the terminal does not reach: it must live to record how the run ended."""

        def _run_uvicorn_command(self) -> "subprocess.Popen[Any]":
            with gate:
                if is_ending.is_set():
                    raise RuntimeError("the command ends, so no server is started")
                with mock.patch.object(prefect_server, "subprocess", own_group):
                    self.server_process = super()._run_uvicorn_command()
                return self.server_process

    gate, is_ending = threading.Lock(), threading.Event()
    server = Server()  # one a process: the flow's client takes this one

    def end() -> None:
        with gate:
            is_ending.set()
        server.stop()

    # Prefect registers the same only after the start of the server, which may happen while this process ends.
    atexit.register(end)

    def start() -> None:
        for _ in range(START_ATTEMPTS):
            try:
                server.start()
            except httpx.TimeoutException:
                server.stop()  # alive, but too busy to answer: a second start would leave this process behind
            else:
                return

    def try_to_start() -> None:
        with suppress(Exception):  # the flow's client starts it again and says what is wrong
            start()

    starting = threading.Thread(target=try_to_start, name="prefect-server", daemon=True)
    starting.start()

    def wait() -> None:
        from sbert.encoder.inference import import_libraries

        import_libraries()
        starting.join()

    return wait
