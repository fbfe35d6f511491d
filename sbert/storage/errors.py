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
TRANSIENT_WORDS = re.compile(
    r"slow ?down|service ?unavailable|internal ?error|request ?timeout|timed? ?out|connection (reset|refused|closed|error)"
    r"|broken pipe|could not connect|temporarily|error sending request|\b50[0234]\b|\b429\b|too many requests"
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
    r"access ?denied|forbidden|\b403\b|invalid ?access ?key|signature ?does ?not ?match|unable to locate credentials"
    r"|no ?credentials|invalid ?token|expired ?token|\b401\b|unauthorized",
    re.IGNORECASE,
)
MISSING_WORDS = re.compile(r"no ?such ?bucket|no ?such ?key|does not exist|not ?found|\b404\b", re.IGNORECASE)
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
        text = f"{type(error).__name__} {error}"
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
    if module in {"deltalake", "_internal"} and not (TRANSIENT_WORDS.search(detail) or DENIED_WORDS.search(detail)):
        return None  # about the table, not about storage
    endpoint = s3_endpoint() if uri.startswith("s3") else None
    where = redact(f"{uri} (endpoint {endpoint})" if endpoint else uri)
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
    advice = "storage failed temporarily; run again" if transient else "storage refused"
    return StorageError(f"{where}: {advice} ({detail})", uri=uri, transient=transient)
