"""Look into the vector stores that tests fill."""

import time
from types import SimpleNamespace

import pytest

from sbert.sync.destinations.locate import open_destination

__all__ = ["do_not_wait_in_milvus", "end_milvus_lite", "visible_collection"]


def do_not_wait_in_milvus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Milvus's client ask at once whether an index is ready: it sleeps half a second before it asks for the first time."""
    from pymilvus.client import grpc_handler

    clock = SimpleNamespace(**vars(time) | {"sleep": lambda seconds: time.sleep(min(seconds, 0.01))})
    monkeypatch.setattr(grpc_handler, "time", clock)


def end_milvus_lite() -> None:
    """End the servers that Milvus Lite runs in this process: each keeps five threads and a port until the process ends."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_all()


def visible_collection(location: str) -> str:
    """Return the name of the collection that readers of a destination see."""
    with open_destination(location) as destination:
        name = destination.visible()
    assert name is not None
    return name
