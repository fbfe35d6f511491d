"""Of any number of writers of one name exactly one succeeds, on disk and on S3."""

import threading
from pathlib import Path

import pytest

from sbert.storage.conditional_put import create_bytes
from sbert.storage.files import read_bytes


def race(uri: str, num_writers: int = 8) -> list[bytes]:
    """Let writers put one name at once; return the contents of the writers that succeeded."""
    winners: list[bytes] = []
    barrier = threading.Barrier(num_writers)

    def write(number: int) -> None:
        content = f"writer {number}".encode()
        barrier.wait()
        if create_bytes(uri, content):
            winners.append(content)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(num_writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return winners


def test_one_of_many_writers_wins_on_disk(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "pointer.json")
    assert race(uri) == [read_bytes(uri)]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pointer.json"]  # no temporary files stay
    assert not create_bytes(uri, b"later")


@pytest.mark.s3
def test_one_of_many_writers_wins_on_s3(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/new/pointer.json"
    assert race(uri) == [read_bytes(uri)]
    assert not create_bytes(uri, b"later")


@pytest.mark.s3
def test_a_put_whose_answer_was_lost_is_recognised(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/pointer.json"
    assert create_bytes(uri, b"mine")
    assert create_bytes(uri, b"mine")  # what the client's own retry sees: the name is taken, by this writer
