"""Prefect's own temporary server, started while the libraries load: each takes seconds, and neither needs the other."""

import contextlib
import threading
from collections.abc import Callable

__all__ = ["begin_server"]


def begin_server() -> Callable[[], None]:
    """Begin to start the server that a flow would start, if it would; give what waits until it is there.

    Call it before importing a flow, and what it gives before running one.
    """
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        return lambda: None

    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()  # one a process: the flow's client takes this one

    def start() -> None:
        with contextlib.suppress(Exception):  # the client starts it again and says what is wrong
            server.start()

    starting = threading.Thread(target=start, name="prefect-server", daemon=True)
    starting.start()

    def wait() -> None:
        from sbert.encoder.transformer import import_libraries

        import_libraries()
        starting.join()

    return wait
