"""Start a real S3 server on free ports of 127.0.0.1 and stop it again, also after a failure."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import s3fs

START_SECONDS = 30
STOP_SECONDS = 5
NUM_PORTS = 5
GRPC_OFFSET = 10_000
"""SeaweedFS also listens on every port plus this."""


@dataclass(frozen=True)
class S3Server:
    """Address and keys of a test S3 server."""

    endpoint: str
    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """Return the standard AWS variables, the only way in which this project gets an endpoint."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def filesystem(self) -> s3fs.S3FileSystem:
        """Return a client to prepare and check objects, independent of the code under test."""
        return s3fs.S3FileSystem(
            key=self.access_key,
            secret=self.secret_key,
            client_kwargs={"endpoint_url": self.endpoint, "region_name": "us-east-1"},
            use_listings_cache=False,
            skip_instance_cache=True,
        )


def weed_binary() -> str | None:
    """Return the path of SeaweedFS's program, which the dev extra installs beside this Python; None if there is none."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.is_file() else shutil.which("weed")


def _is_free(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _free_base() -> int:
    """Return the first of five neighbouring free ports whose gRPC ports are free too."""
    for _ in range(100):
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            base = int(probe.getsockname()[1]) % 20_000 + 20_000
        ports = range(base, base + NUM_PORTS)
        if all(_is_free(port) and _is_free(port + GRPC_OFFSET) for port in ports):
            return base
    raise RuntimeError("no free ports for the S3 server")


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run a SeaweedFS server with signature checking and data on disk."""
    program = weed_binary()
    assert program is not None
    folder = tempfile.mkdtemp(prefix="sbert-s3-")
    base = _free_base()
    server = S3Server(f"http://127.0.0.1:{base}", "test-access-key", "test-secret-key")
    log = Path(folder, "log").open("wb")  # noqa: SIM115  (closed below)
    process = subprocess.Popen(
        [
            program, "-logtostderr=true", "mini", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-s3.port={base}", f"-master.port={base + 1}", f"-volume.port={base + 2}", f"-filer.port={base + 3}",
            f"-admin.port={base + 4}", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.allowDeleteBucketNotEmpty=false", "-master.telemetry=false",
        ],
        env={
            **os.environ,
            "GOMEMLIMIT": "300MiB",
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        },
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )  # fmt: skip
    try:
        Path(folder, "data").mkdir(exist_ok=True)
        _wait_until_ready(process, server, Path(folder, "log"))
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(Exception):
            client = server.filesystem()
            client.call_s3("create_bucket", Bucket="ready")
            client.pipe_file("ready/probe", b"ready")
            if client.cat_file("ready/probe") == b"ready":
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the S3 server did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)
