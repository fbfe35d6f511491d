"""Files behind URIs: local folders and object storage through one interface.

The one idea: a location is a string (``/data/raw``, ``file:///data/raw``, ``s3://bucket/prefix``) and every module
reaches it through fsspec; pyarrow gets the fsspec filesystem too, because its own S3 client ignores
``AWS_ENDPOINT_URL``. Credentials and endpoint come from the standard AWS environment variables, never from arguments.
Errors of every client leave this module as `StorageError`, which says whether trying again can help.
"""

import asyncio
import contextlib
import errno
import io
import os
import posixpath
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from sbert.errors import MissingError, SbertError, SettingsError, StorageError
from sbert.secrets import redact

__all__ = [
    "InputFile",
    "OutputFile",
    "base_name",
    "check_no_credentials",
    "delete",
    "delta_storage_options",
    "filesystem",
    "is_transient",
    "join",
    "list_names",
    "normalize_uri",
    "open_input",
    "open_output",
    "read_bytes",
    "strip_protocol",
    "translate_errors",
    "write_bytes",
]

S3_CONNECT_TIMEOUT_SECONDS = 10
S3_READ_TIMEOUT_SECONDS = 60
S3_CLIENT_ATTEMPTS = 3
"""Attempts of botocore itself; s3fs's own loop around it is set to one (the two would multiply)."""

TRANSIENT_ERRNOS = frozenset(
    {errno.EIO, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE}
)
TRANSIENT_WORDS = re.compile(
    r"slow ?down|service ?unavailable|internal ?error|request ?timeout|timed? ?out|connection (reset|refused|closed|error)"
    r"|broken pipe|could not connect|temporarily|error sending request|\b50[0234]\b|\b429\b|too many requests"
    r"|incomplete ?read|payload is not completed|server disconnected",
    re.IGNORECASE,
)
DENIED_WORDS = re.compile(
    r"access ?denied|forbidden|\b403\b|invalid ?access ?key|signature ?does ?not ?match|unable to locate credentials"
    r"|no ?credentials|invalid ?token|expired ?token|\b401\b|unauthorized",
    re.IGNORECASE,
)
MISSING_WORDS = re.compile(r"no ?such ?bucket|no ?such ?key|does not exist|not ?found|\b404\b", re.IGNORECASE)
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def normalize_uri(uri: str | os.PathLike[str]) -> str:
    """Give the one spelling of a location: an absolute local path or a URI, without a trailing slash.

    ``data/raw/``, ``file:///here/data/raw`` and ``/here/data/raw`` are one location and get one spelling, so that
    fingerprints and the ``source`` column do not depend on how a command was typed.

    Raises:
        SettingsError: when the URI holds credentials.
    """
    text = os.fspath(uri)
    check_no_credentials(text)
    if "://" in text and not text.startswith(("file://", "local://")):
        protocol, rest = text.split("://", 1)
        return f"{protocol}://{rest.rstrip('/')}"
    local = text.split("://", 1)[1] if "://" in text else text
    absolute = os.path.abspath(os.path.expanduser(local))  # noqa: PTH100, PTH111  (keeps symbolic links and globs)
    return absolute.replace(os.sep, "/")


def check_no_credentials(uri: str) -> None:
    """Refuse ``s3://key:secret@bucket``: a location is written to tables, logs and records.

    Raises:
        SettingsError: without repeating what it found.
    """
    if "@" in uri.partition("://")[2].split("/", 1)[0]:
        raise SettingsError(
            f"{redact(uri)}: credentials do not belong in a location, it is shown and stored: put them into the "
            "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …)"
        )


def strip_protocol(uri: str) -> str:
    """Give the path that the filesystem of `uri` uses: ``s3://bucket/key`` becomes ``bucket/key``."""
    return uri.split("://", 1)[1] if "://" in uri else uri


def join(uri: str, *parts: str) -> str:
    """Append path parts to a location."""
    return posixpath.join(uri, *parts)


def base_name(uri: str) -> str:
    """Give the last path part of a location."""
    return posixpath.basename(uri.rstrip("/"))


def filesystem(uri: str) -> AbstractFileSystem:
    """Open the filesystem that holds `uri`, without listing caches: what it says is true now.

    Raises:
        StorageError: when the protocol is unknown or its package is not installed.
    """
    protocol = uri.split("://", 1)[0] if "://" in uri else "file"
    options: dict[str, Any] = {}
    if protocol in {"s3", "s3a"}:
        options = {
            "use_listings_cache": False,
            "config_kwargs": {
                "connect_timeout": S3_CONNECT_TIMEOUT_SECONDS,
                "read_timeout": S3_READ_TIMEOUT_SECONDS,
                "retries": {"mode": "standard", "max_attempts": S3_CLIENT_ATTEMPTS},
            },
        }
    elif protocol == "file":
        options = {"auto_mkdir": True}
    try:
        opened = fsspec.filesystem(protocol, **options)
    except (ImportError, ValueError) as error:
        raise StorageError(f"{uri}: no storage client for '{protocol}://': {error}", uri=uri) from error
    if protocol in {"s3", "s3a"}:
        opened.retries = 1
    return opened


class InputFile(io.RawIOBase):
    """A seekable file being read; what storage raises becomes `StorageError`, also inside pyarrow's readers."""

    def __init__(self, uri: str) -> None:
        """Open for reading."""
        super().__init__()
        self._uri = uri
        with translate_errors(uri):
            self._file = filesystem(uri).open(strip_protocol(uri), "rb")

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes, all that are left by default."""
        with translate_errors(self._uri):
            return bytes(self._file.read(-1 if size is None else size))

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place."""
        with translate_errors(self._uri):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Give the place."""
        return int(self._file.tell())

    def close(self) -> None:
        """Close."""
        if not self.closed:
            super().close()
            self._file.close()


def open_input(uri: str) -> InputFile:
    """Open a location for reading bytes, seekable, reading ahead in blocks.

    Raises:
        MissingError, StorageError: here, and from every read.
    """
    return InputFile(uri)


def read_bytes(uri: str) -> bytes:
    """Read a small file whole."""
    with translate_errors(uri):
        return filesystem(uri).cat_file(strip_protocol(uri))  # type: ignore[no-any-return]


def write_bytes(uri: str, content: bytes) -> None:
    """Write a small file so that a reader sees all of it or nothing, also after a kill at any moment."""
    fs = filesystem(uri)
    path = strip_protocol(uri)
    with translate_errors(uri):
        if "://" in uri:
            fs.pipe_file(path, content)  # an object store shows an object only once it is whole
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


class OutputFile(io.RawIOBase):
    """A file being written that appears under its name only when it is closed without an error.

    Local files are written under a temporary name beside the target and renamed; object stores show an object only
    once its upload is complete.
    """

    def __init__(self, uri: str) -> None:
        """Open for writing."""
        super().__init__()
        self._uri = uri
        self._path = strip_protocol(uri)
        self._fs = filesystem(uri)
        self._is_local = "://" not in uri
        target = f"{self._path}.{uuid.uuid4().hex}.tmp" if self._is_local else self._path
        self._temporary = posixpath.join(posixpath.dirname(target), "." + posixpath.basename(target))
        with translate_errors(uri):
            self._file = self._fs.open(self._temporary if self._is_local else self._path, "wb")

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes."""
        with translate_errors(self._uri):
            return int(self._file.write(data))

    def tell(self) -> int:
        """Give the number of bytes written."""
        return int(self._file.tell())

    def flush(self) -> None:
        """Do nothing: bytes reach storage in parts of the client's own size."""

    def close(self) -> None:
        """Make the file visible."""
        if self.closed:
            return
        super().close()
        with translate_errors(self._uri):
            if self._is_local:
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()
            if self._is_local:
                os.replace(self._temporary, self._path)  # noqa: PTH105

    def discard(self) -> None:
        """Leave nothing behind."""
        if self.closed:
            delete([self._uri])
            return
        super().close()
        with contextlib.suppress(Exception):
            if self._is_local:
                self._file.close()
                os.unlink(self._temporary)  # noqa: PTH108
            else:
                self._file.discard()  # aborts the multipart upload
                self._file.closed = True


def open_output(uri: str) -> OutputFile:
    """Open a location for writing; the file appears when it is closed, or never after `discard`."""
    return OutputFile(uri)


def delete(uris: Iterable[str]) -> None:
    """Remove files; those that are not there are passed over."""
    for uri in uris:
        with contextlib.suppress(MissingError), translate_errors(uri):
            filesystem(uri).rm_file(strip_protocol(uri))


def list_names(uri: str) -> dict[str, int]:
    """Give the names directly under a folder and their sizes in bytes (0 for folders); empty when there is none.

    Raises:
        MissingError: no such bucket.
        StorageError: storage refused.
    """
    path = strip_protocol(uri)
    with translate_errors(uri):
        try:
            entries = filesystem(uri).ls(path, detail=True)
        except FileNotFoundError:
            if "://" in uri:
                filesystem(uri).ls(path.split("/", 1)[0], detail=False)  # a missing bucket is an error
            return {}
    return {
        posixpath.basename(entry["name"].rstrip("/")): entry["size"] or 0
        for entry in entries
        if entry["name"].rstrip("/") != path.rstrip("/")
    }


def delta_storage_options(uri: str) -> dict[str, str]:
    """Give delta-rs what it needs beyond the AWS environment variables: plain http if asked for, and a region."""
    if not uri.startswith(("s3://", "s3a://")):
        return {}
    options: dict[str, str] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
        if endpoint.startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
    if not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        options["AWS_REGION"] = "us-east-1"
    return options


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed when made again: time-outs, resets, throttling, server faults."""
    if isinstance(error, StorageError):
        return error.transient
    if isinstance(error, SbertError | FileNotFoundError | PermissionError | FileExistsError | IsADirectoryError):
        return False
    if isinstance(error, ConnectionError | TimeoutError | asyncio.TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno is not None and error.errno not in TRANSIENT_ERRNOS:
        return False
    module = type(error).__module__.split(".")[0]
    if isinstance(error, OSError) or module in {"aiohttp", "botocore", "aiobotocore", "deltalake"}:
        text = f"{type(error).__name__} {error}"
        return not DENIED_WORDS.search(text) and bool(TRANSIENT_WORDS.search(text))
    return False


@contextlib.contextmanager
def translate_errors(uri: str) -> Iterator[None]:
    """Turn what storage clients raise inside the block into `StorageError` naming `uri`, cause and remedy.

    Raises:
        MissingError: no such file, bucket or prefix.
        StorageError: any other refusal; `transient` says whether trying again can help.
    """
    try:
        yield
    except SbertError:
        raise
    except Exception as error:
        translated = _translate(uri, error)
        if translated is None:
            raise
        raise translated from error


def _translate(uri: str, error: Exception) -> StorageError | None:
    module = type(error).__module__.split(".")[0]
    if not isinstance(error, OSError | TimeoutError) and module not in {
        "aiohttp",
        "botocore",
        "aiobotocore",
        "deltalake",
        "_internal",
    }:
        return None
    detail = redact(ANSI_COLOUR.sub("", " ".join(str(error).split()))) or type(error).__name__
    if module in {"deltalake", "_internal"} and not (TRANSIENT_WORDS.search(detail) or DENIED_WORDS.search(detail)):
        return None  # about the table, not about storage
    endpoint = os.environ.get("AWS_ENDPOINT_URL") if uri.startswith("s3") else None
    where = f"{uri} (endpoint {endpoint})" if endpoint else uri
    if isinstance(error, FileNotFoundError) or (
        not isinstance(error, PermissionError) and MISSING_WORDS.search(detail)
    ):
        return MissingError(f"{where}: no such file, bucket or prefix ({detail})", uri=uri)
    if isinstance(error, PermissionError) or DENIED_WORDS.search(detail) or "Credentials" in type(error).__name__:
        remedy = (
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
            if uri.startswith("s3")
            else "check the owner and mode of the folder"
        )
        return StorageError(f"{where}: access denied ({detail}); {remedy}", uri=uri)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(f"{where}: the disk is full ({detail}); free space and run again", uri=uri)
    transient = is_transient(error)
    advice = "storage did not answer as it should; the run can be repeated" if transient else "storage refused"
    return StorageError(f"{where}: {advice} ({detail})", uri=uri, transient=transient)
