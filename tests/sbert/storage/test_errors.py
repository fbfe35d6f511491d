"""What a storage client says decides the error; the names that a user chose decide nothing."""

import errno
from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError

from sbert.errors import MissingError, StorageError
from sbert.storage.errors import is_transient, translate_errors
from sbert.storage.files import list_names, write_bytes
from sbert.table.delta import find_table

NAMES = ["run-401", "403", "data-404", "batch 503 of 504", "not-found timed out", "forbidden", "access denied"]
"""Names of folders that hold words and figures by which clients tell of refusals."""


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_a_table_holds_none_whatever_its_path_is(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "table"
    assert find_table(str(folder)) is None
    folder.mkdir(parents=True)
    assert find_table(str(folder)) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_named_as_such_whatever_the_path_is(tmp_path: Path, name: str) -> None:
    uri = str(tmp_path / name / "part.parquet")
    with pytest.raises(StorageError, match="the disk is full") as caught, translate_errors(uri):
        raise OSError(errno.ENOSPC, "No space left on device", uri)
    assert not caught.value.transient


def test_a_file_in_the_place_of_a_folder_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("hello")
    with pytest.raises(StorageError, match=r"out/_splits: a file stands where a folder is needed \(.*\); name another"):
        list_names(str(tmp_path / "out/_splits"))
    with pytest.raises(StorageError, match=r"part: a file stands where a folder is needed \(.*\); name another"):
        write_bytes(str(tmp_path / "out/part"), b"")


@pytest.mark.parametrize("name", NAMES)
def test_an_error_about_the_table_stays_what_it_is(name: str) -> None:
    uri = f"s3://bucket/{name}/table"
    with pytest.raises(DeltaError, match="invalid checkpoint"), translate_errors(uri):
        raise DeltaError(f"invalid checkpoint in {uri}/_delta_log")


@pytest.mark.parametrize(
    ("said", "denied", "missing", "transient"),
    [
        ("Generic S3 error: Client error with status 403 Forbidden: at s3://b/404/x", True, False, False),
        ("server answered 401", True, False, False),
        ("An error occurred (404) when calling the HeadObject operation", False, True, False),
        ("An error occurred (503) when calling the PutObject operation: Please reduce", False, False, True),
        ("error sending request for url (http://host:9000/b/403)", False, False, True),
        ("status: 429.", False, False, True),
        ("refused for b/429/404/403", False, False, False),
    ],
)
def test_the_status_that_a_client_reports_decides(said: str, denied: bool, missing: bool, transient: bool) -> None:
    with pytest.raises(StorageError) as caught, translate_errors("s3://b/x"):
        raise OSError(said)
    assert ("access denied" in str(caught.value)) is denied
    assert isinstance(caught.value, MissingError) is missing
    assert caught.value.transient is transient
    assert is_transient(OSError(said)) is transient
