"""One PostgreSQL server for the tests of this folder, and a fresh destination in every store."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer, postgres_server, skip_without_build

STORES = ("postgresql", "lancedb", "qdrant", "milvus")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real server."""
    skip_without_build()
    with postgres_server() as server:
        yield server


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
            return f"milvus:{tmp_path / 'milvus.db'}#{name}"
