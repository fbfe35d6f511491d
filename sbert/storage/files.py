"""Files behind URIs: local folders and object storage through one interface.

A location is a string (``/data/raw``, ``file:///data/raw``, ``s3://bucket/prefix``) and every module reaches it through
fsspec. pyarrow gets the fsspec filesystem too, because its own S3 client ignores ``AWS_ENDPOINT_URL``. Credentials and
endpoint come from the standard AWS environment variables, never from arguments. Errors of every client leave this
module as `StorageError`, which says whether a retry can help.
"""

import contextlib
import functools
import io
import os
import posixpath
from collections.abc import Iterable
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from sbert.errors import MissingError, SettingsError, StorageError
from sbert.storage.errors import s3_endpoint, translate_errors
from sbert.storage.local_write import LocalWrite
from sbert.storage.redaction import redact
from sbert.storage.retry import storage_seconds, try_again

__all__ = [
    "InputFile",
    "OutputFile",
    "base_name",
    "check_no_credentials",
    "delete",
    "delta_retry_options",
    "delta_storage_options",
    "filesystem",
    "join",
    "list_names",
    "normalize_uri",
    "open_input",
    "open_output",
    "read_bytes",
    "strip_protocol",
    "write_bytes",
]

S3_CONNECT_TIMEOUT_SECONDS = 10
S3_PART_BYTES = 16 * 2**20
"""Size of the parts in which large files are written, and read ahead."""


def normalize_uri(uri: str | os.PathLike[str]) -> str:
    """Return the canonical spelling of a location: an absolute local path or a URI, without a trailing slash.

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
            f"{redact(uri)}: credentials do not belong in a location, because it is shown and stored: put them into the "
            "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …)"
        )


def strip_protocol(uri: str) -> str:
    """Return the path that the filesystem of `uri` uses: ``s3://bucket/key`` becomes ``bucket/key``."""
    return uri.split("://", 1)[1] if "://" in uri else uri


def join(uri: str, *parts: str) -> str:
    """Append path parts to a location."""
    return posixpath.join(uri, *parts)


def base_name(uri: str) -> str:
    """Return the last path part of a location."""
    return posixpath.basename(uri.rstrip("/"))


def filesystem(uri: str) -> AbstractFileSystem:
    """Open the filesystem that holds `uri`, without listing caches, so that listings are current.

    Raises:
        StorageError: when the protocol is unknown or its package is not installed.
    """
    protocol = uri.split("://", 1)[0] if "://" in uri else "file"
    options: dict[str, Any] = {}
    if protocol in {"s3", "s3a"}:
        options = {
            "use_listings_cache": False,
            "default_block_size": S3_PART_BYTES,
            # One attempt for botocore, one for s3fs: their retries multiply, and neither retries a body that was cut off.
            "config_kwargs": {
                "connect_timeout": min(S3_CONNECT_TIMEOUT_SECONDS, _request_seconds()),
                "read_timeout": _request_seconds(),
                "retries": {"mode": "standard", "total_max_attempts": 1},
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


def _request_seconds() -> float:
    """Return the timeout of one request: a quarter of the time of an operation, so that there is time for retries."""
    return storage_seconds() / 4


class InputFile(io.RawIOBase):
    """A seekable file being read; errors of storage become `StorageError`, also inside pyarrow's readers."""

    def __init__(self, uri: str, *, in_order: bool) -> None:
        """Open for reading."""
        super().__init__()
        self._uri = uri
        options = {} if in_order or "://" not in uri else {"cache_type": "none"}
        self._file = try_again(uri, lambda: filesystem(uri).open(strip_protocol(uri), "rb", **options))

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes, all that are left by default."""
        wanted = -1 if size is None else size
        return bytes(try_again(self._uri, lambda: self._file.read(wanted)))  # a read that fails does not move on

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position in the file."""
        with translate_errors(self._uri):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the position in the file."""
        return int(self._file.tell())

    def close(self) -> None:
        """Close."""
        if not self.closed:
            super().close()
            self._file.close()


def open_input(uri: str, *, in_order: bool = True) -> InputFile:
    """Open a location for reading bytes, seekable. With `in_order` it reads ahead, else it fetches requested ranges only.

    Raises:
        MissingError, StorageError: here, and from every read.
    """
    return InputFile(uri, in_order=in_order)


def read_bytes(uri: str) -> bytes:
    """Read a small file whole."""
    return bytes(try_again(uri, lambda: filesystem(uri).cat_file(strip_protocol(uri))))


def write_bytes(uri: str, content: bytes) -> None:
    """Write a small file so that a reader sees all of it or nothing, also after a kill at any moment."""
    fs = filesystem(uri)
    path = strip_protocol(uri)
    if "://" in uri:
        try_again(uri, lambda: fs.pipe_file(path, content))  # an object store shows an object only once it is whole
        return
    with translate_errors(uri):
        local = LocalWrite(path)
        try:
            local.file.write(content)
            local.replace()
        finally:
            local.discard()


class OutputFile(io.RawIOBase):
    """A file being written that appears under its name only when it is closed without an error.

    Local files are written under a temporary name beside the target and renamed. Object stores show an object only
    when its upload is complete.
    """

    def __init__(self, uri: str) -> None:
        """Open for writing."""
        super().__init__()
        self._uri = uri
        self._path = strip_protocol(uri)
        self._fs = filesystem(uri)
        self._local = try_again(uri, lambda: LocalWrite(self._path)) if "://" not in uri else None
        self._file: Any = (
            self._local.file if self._local is not None else try_again(uri, lambda: self._fs.open(self._path, "wb"))
        )
        if hasattr(self._file, "_call_s3"):
            request = self._file._call_s3  # each part of an upload is tried again by itself
            self._file._call_s3 = lambda *args, **kwargs: try_again(uri, lambda: request(*args, **kwargs))

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes."""
        with translate_errors(self._uri):
            return int(self._file.write(data))

    def tell(self) -> int:
        """Return the number of bytes written."""
        return int(self._file.tell())

    def flush(self) -> None:
        """Do nothing: bytes reach storage in parts of the client's own size."""

    def close(self) -> None:
        """Make the file visible."""
        if self.closed:
            return
        super().close()
        if self._local is None:
            self._finish_upload()
            return
        with translate_errors(self._uri):
            self._local.replace()

    def _finish_upload(self) -> None:
        num_bytes = self._file.tell()
        try:
            with translate_errors(self._uri):
                self._file.close()
        except StorageError:
            # The answer to a finished upload may be lost. Then the upload is unknown to the server, but the object is there.
            with contextlib.suppress(Exception):
                self._file.closed = True
            stored = try_again(self._uri, lambda: self._fs.info(self._path) if self._fs.exists(self._path) else {})
            if stored.get("size") != num_bytes:
                raise

    def discard(self) -> None:
        """Leave nothing behind."""
        if self.closed:
            delete([self._uri])
            return
        super().close()
        with contextlib.suppress(Exception):
            if self._local is not None:
                self._local.discard()
            else:
                self._file.discard()  # aborts the multipart upload
                self._file.closed = True


def open_output(uri: str) -> OutputFile:
    """Open a location for writing; the file appears when it is closed, or never after `discard`."""
    return OutputFile(uri)


def delete(uris: Iterable[str]) -> None:
    """Remove files; a missing file is not an error."""
    for uri in uris:
        with contextlib.suppress(MissingError):
            try_again(uri, functools.partial(filesystem(uri).rm_file, strip_protocol(uri)))


def list_names(uri: str) -> dict[str, int]:
    """Return the names directly under a folder and their sizes in bytes (0 for folders); empty for a missing folder.

    Raises:
        MissingError: no such bucket.
        StorageError: storage refused.
    """
    path = strip_protocol(uri)
    entries = try_again(uri, lambda: _entries(uri, path))
    return {
        posixpath.basename(entry["name"].rstrip("/")): 0 if entry["type"] == "directory" else entry["size"] or 0
        for entry in entries
        if entry["name"].rstrip("/") != path.rstrip("/")
    }


def _entries(uri: str, path: str) -> list[dict[str, Any]]:
    try:
        return list(filesystem(uri).ls(path, detail=True))
    except FileNotFoundError:
        if "://" in uri:
            filesystem(uri).ls(path.split("/", 1)[0], detail=False)  # a missing bucket is an error
        return []


def delta_storage_options(uri: str) -> dict[str, str]:
    """Return the options that delta-rs needs beyond the AWS environment variables: a region, and plain http if used."""
    if not uri.startswith(("s3://", "s3a://")):
        return {}
    options: dict[str, str] = {}
    endpoint = s3_endpoint()
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
        if endpoint.startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
    if not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        options["AWS_REGION"] = "us-east-1"
    return options


def delta_retry_options(uri: str) -> dict[str, str]:
    """Return the timeouts of delta-rs, for one request and for one operation with its retries."""
    if not uri.startswith(("s3://", "s3a://")):
        return {}
    return {
        "timeout": f"{_request_seconds():.3f}s",
        "connect_timeout": f"{min(S3_CONNECT_TIMEOUT_SECONDS, _request_seconds()):.3f}s",
        "retry_timeout": f"{storage_seconds():.3f}s",
        "backoff_config.max_backoff": "5s",
    }
