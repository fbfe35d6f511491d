"""Translate the exceptions of storage clients to `StorageError`: location, cause, and whether a retry can help.

The clients (fsspec, botocore, aiohttp, delta-rs) each raise exceptions of their own for the same refusal.
"""

import asyncio
import contextlib
import errno
import os
import re
from collections.abc import Iterator

from sbert.errors import MissingError, SbertError, StorageError
from sbert.storage.redaction import redact

__all__ = ["is_transient", "s3_endpoint", "translate_errors"]

TRANSIENT_ERRNOS = frozenset(
    {errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE}
)
DISK_FULL = ("the disk is full", "free space and run again")
FILE_FOR_FOLDER = ("a file stands where a folder is needed", "name another folder")
PLAIN_ERRNOS = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.ENOTDIR: FILE_FOR_FOLDER,
    errno.EEXIST: FILE_FOR_FOLDER,
}
"""Problem and remedy, in words, of errors of a local disk that say exactly what is wrong."""
STATUS = r"(?<![\w./:-])(?:%s)(?!\w|[/:-]|\.\w)"
"""An HTTP status that stands alone. As a part of a name, as in ``bucket-404``, the same figures mean nothing."""
TRANSIENT_WORDS = re.compile(
    rf"{STATUS % '50[0234]|429'}|slow ?down|service ?unavailable|internal ?error|request ?timeout|timed? ?out"
    r"|connection (reset|refused|closed|error)"
    r"|broken pipe|could not connect|temporarily|error sending request|too many requests"
    r"|incomplete ?read|payload is not completed|server disconnected|error reading a body|end of file before",
    re.IGNORECASE,
)
TRANSIENT_CLASSES = frozenset(
    {
        "ClientPayloadError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "EndpointConnectionError",
        "IncompleteReadError",
        "ReadTimeoutError",
        "ResponseParserError",
        "ResponseStreamingError",
        "ServerDisconnectedError",
    }
)
"""Names of errors of botocore and aiohttp: the connection broke, or the answer was cut off."""
DENIED_WORDS = re.compile(
    rf"{STATUS % '401|403'}"
    r"|access ?denied|forbidden|invalid ?access ?key|signature ?does ?not ?match|unable to locate credentials"
    r"|no ?credentials|invalid ?token|expired ?token|unauthorized",
    re.IGNORECASE,
)
MISSING_WORDS = re.compile(rf"{STATUS % '404'}|no ?such ?bucket|no ?such ?key|does not exist|not ?found", re.IGNORECASE)
PATH = re.compile(r"\S*/\S*")
"""A word with a slash names a file, a folder or an address: its letters and figures say nothing about what happened."""
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def is_transient(error: BaseException) -> bool:
    """Return whether a retry of the same call may succeed: after timeouts, resets, throttling and server faults."""
    if isinstance(error, StorageError):
        return error.transient
    if isinstance(error, SbertError | FileNotFoundError | PermissionError | FileExistsError | IsADirectoryError):
        return False
    is_broken_off = isinstance(error, ConnectionError | TimeoutError | asyncio.TimeoutError)
    if is_broken_off or type(error).__name__ in TRANSIENT_CLASSES:
        return True
    if isinstance(error, OSError) and error.errno not in {
        None,
        errno.EIO,
    }:  # s3fs gives EIO to all that it does not know
        return error.errno in TRANSIENT_ERRNOS
    module = type(error).__module__.split(".")[0]
    if isinstance(error, OSError) or module in {"aiohttp", "botocore", "aiobotocore", "deltalake"}:
        text = f"{type(error).__name__} {_without_paths(str(error))}"
        return not DENIED_WORDS.search(text) and bool(TRANSIENT_WORDS.search(text))
    return False


@contextlib.contextmanager
def translate_errors(uri: str) -> Iterator[None]:
    """Turn exceptions of storage clients inside the block into `StorageError` with location, cause and remedy.

    Raises:
        MissingError: no such file, bucket or prefix.
        StorageError: any other refusal; `transient` says whether a retry can help.
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


def s3_endpoint() -> str | None:
    """Return the S3 endpoint that the environment names; None for AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


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
    words = _without_paths(detail, uri)
    if module in {"deltalake", "_internal"} and not (TRANSIENT_WORDS.search(words) or DENIED_WORDS.search(words)):
        return None  # about the table, not about storage
    endpoint = s3_endpoint() if uri.startswith("s3") else None
    where = redact(f"{uri} (endpoint {endpoint})" if endpoint else uri)
    if isinstance(error, FileNotFoundError) or (not isinstance(error, PermissionError) and MISSING_WORDS.search(words)):
        return MissingError(f"{where}: no such file, bucket or prefix ({detail})", uri=uri)
    if isinstance(error, PermissionError) or DENIED_WORDS.search(words) or "Credentials" in type(error).__name__:
        remedy = (
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
            if uri.startswith("s3")
            else "check the owner and mode of the folder"
        )
        return StorageError(f"{where}: access denied ({detail}); {remedy}", uri=uri)
    if isinstance(error, OSError) and error.errno in PLAIN_ERRNOS:
        problem, remedy = PLAIN_ERRNOS[error.errno]
        return StorageError(f"{where}: {problem} ({detail}); {remedy}", uri=uri)
    transient = is_transient(error)
    advice = "storage failed temporarily; run again" if transient else "storage refused"
    return StorageError(f"{where}: {advice} ({detail})", uri=uri, transient=transient)


def _without_paths(text: str, uri: str = "") -> str:
    """Return a client's message without names that a user chose: the location, and other words with a slash."""
    for name in {uri, uri.partition("://")[2]} - {""}:
        text = text.replace(name, " ")
    return PATH.sub(" ", text)
