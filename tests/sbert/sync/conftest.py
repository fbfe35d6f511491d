"""A fresh destination in every store."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import do_not_wait_in_milvus, end_milvus_lite

STORES = ("postgresql", "lancedb", "qdrant", "milvus")


@pytest.fixture
def milvus_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file for Milvus Lite, whose server ends with the test."""
    do_not_wait_in_milvus(monkeypatch)
    yield tmp_path / "milvus.db"
    end_milvus_lite()


@pytest.fixture(params=STORES)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
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
            return f"milvus:{request.getfixturevalue('milvus_file')}#{name}"
