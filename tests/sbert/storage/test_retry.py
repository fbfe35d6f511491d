"""Storage is asked again while it fails in passing, for as long as was said, and no longer."""

import errno
from pathlib import Path

import pytest

from sbert.errors import MissingError, SettingsError, StorageError
from sbert.storage.errors import is_transient
from sbert.storage.files import InputFile
from sbert.storage.retry import storage_seconds, try_again


class Failing:
    """Fails with the given errors, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.num_calls = 0

    def __call__(self) -> str:
        self.num_calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_transient_error_is_retried() -> None:
    operation = Failing(ConnectionResetError("reset"), OSError(errno.EBUSY, "Please reduce your request rate."))
    assert try_again("s3://bucket/key", operation) == "done"
    assert operation.num_calls == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("no such key"), MissingError),
        (PermissionError("access denied"), StorageError),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (OSError(errno.EIO, "An error occurred (InvalidArgument)"), StorageError),
    ],
)
def test_a_permanent_error_is_not_retried(error: Exception, kind: type[Exception]) -> None:
    operation = Failing(error, error)
    with pytest.raises(kind, match="s3://bucket/key"):
        try_again("s3://bucket/key", operation)
    assert operation.num_calls == 1


def test_the_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBERT_STORAGE_SECONDS", "0.2")
    operation = Failing(*(TimeoutError("timed out") for _ in range(1000)))
    with pytest.raises(StorageError, match="timed out") as caught:
        try_again("s3://bucket/key", operation)
    assert caught.value.transient
    assert 1 < operation.num_calls < 10  # waits double: 0.05, 0.1, 0.2


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
def test_a_retry_time_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SBERT_STORAGE_SECONDS", value)
    with pytest.raises(SettingsError, match="SBERT_STORAGE_SECONDS"):
        storage_seconds()


def test_a_read_that_failed_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123456789")
    with InputFile(str(path), in_order=True) as file:
        assert file.read(4) == b"0123"
        real, errors = file._file.read, [ConnectionResetError("reset"), TimeoutError("late")]

        def failing(size: int) -> bytes:
            if errors:
                raise errors.pop()
            return bytes(real(size))

        file._file.read = failing
        assert file.read(4) == b"4567"
        assert not errors


@pytest.mark.parametrize(
    "text",
    [
        "HTTP error: request or response body error: error reading a body from connection",
        "end of file before message length reached",
        "Connection was closed: connection closed",
    ],
)
def test_answers_that_were_cut_off_can_be_asked_for_again(text: str) -> None:
    assert is_transient(OSError(text))
