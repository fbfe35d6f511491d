"""One parent of forked processes for all tests of this folder: it imports for seconds before its first fork."""

from collections.abc import Iterator

import pytest

from tests.crash.forks import Forks


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Processes on local files, with a cache of their own."""
    folder = tmp_path_factory.mktemp("forks")
    with Forks(folder, {"XDG_CACHE_HOME": str(folder / "cache")}) as started:
        yield started
