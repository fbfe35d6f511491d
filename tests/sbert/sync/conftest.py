"""A fresh destination in every store."""

import uuid
from pathlib import Path

import pytest

from tests.support.stores import do_not_wait_in_milvus

STORES = ("postgresql", "lancedb", "qdrant", "milvus")


@pytest.fixture(params=STORES)
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A destination that nothing was synced to yet."""
    name = f"docs_{uuid.uuid4().hex[:8]}"
    match request.param:
        case "postgresql":
            return f"{request.getfixturevalue('postgres').location}#public.{name}"
        case "lancedb":
            return f"lancedb:{tmp_path / 'lance'}#{name}"
        case "qdrant":
            return f"qdrant:{tmp_path / 'qdrant'}#{name}"
        case _:
            do_not_wait_in_milvus(monkeypatch)
            return f"milvus:{tmp_path / 'milvus.db'}#{name}"
