"""Object storage with faults: with faults in 5 % of the requests the table is the same, in 100 % a clear error comes in time."""

import time
from pathlib import Path

import fsspec
import pytest

from sbert.errors import StorageError
from sbert.source.listing import list_objects
from sbert.storage import files as storage
from sbert.storage.files import filesystem, open_input, open_output, read_bytes, strip_protocol, write_bytes
from sbert.table.delta import Table
from tests.crash import corpora
from tests.crash.corpora import SETTINGS, assert_same, contents
from tests.support.fault_proxy import FAULTS, fault_proxy
from tests.support.refreshing import refreshed
from tests.support.services import S3Server
from tests.support.tiny_models import save_tiny

pytestmark = pytest.mark.s3


def use(server: S3Server, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("SBERT_STORAGE_SECONDS", str(seconds))
    fsspec.filesystem("s3").clear_instance_cache()


def test_a_run_among_faults_makes_the_same_table(
    tmp_path: Path, s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_tiny(tmp_path / "model")
    raw, calm, stormy = (f"{s3_bucket}/{name}" for name in ("raw", "calm", "stormy"))
    with fault_proxy(s3, 0.05) as proxy:
        for state in (corpora.first_state(), corpora.second_state()):
            use(s3, monkeypatch, 60)
            corpora.write_objects(raw, state)
            expected = refreshed(raw, calm, model, SETTINGS, concurrency=2).report
            use(proxy.address, monkeypatch, 8)
            report = refreshed(raw, stormy, model, SETTINGS, concurrency=2).report
            assert report.version == expected.version
            assert report.num_texts_encoded == expected.num_texts_encoded
        again = refreshed(raw, stormy, model, SETTINGS, concurrency=2).report
        assert again.num_splits_built == 0
        assert again.version == 1
    use(s3, monkeypatch, 60)
    assert_same(contents(stormy), contents(calm))
    assert proxy.num_requests > 100
    assert proxy.faults.total() > 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_of_fault_is_survived(
    s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Write, read and list large and small objects with a fault in every third request.

    A request without an answer costs a quarter of an operation's time, so that four in a row end the operation. With every
    third that would happen in one of five runs of this test; every seventh has no answer.
    """
    monkeypatch.setattr(storage, "S3_PART_BYTES", 5 * 2**20)
    content = bytes(range(256)) * (11 * 2**20 // 256) + b"the end"
    with fault_proxy(s3, 0.33 if kind != "no answer" else 0.14, (kind,)) as proxy:
        use(proxy.address, monkeypatch, 20 if kind != "no answer" else 8)
        with open_output(f"{s3_bucket}/f/large.parquet") as output:
            for first in range(0, len(content), 2**20):
                output.write(content[first : first + 2**20])
        write_bytes(f"{s3_bucket}/f/small.jsonl", b"{}\n")
        assert read_bytes(f"{s3_bucket}/f/small.jsonl") == b"{}\n"
        for in_order in (True, False):
            with open_input(f"{s3_bucket}/f/large.parquet", in_order=in_order) as file:
                assert file.read(5) + file.read(2**20) == content[: 5 + 2**20]
                file.seek(-7, 2)
                assert file.read() == b"the end"
        assert [item.num_bytes for item in list_objects(f"{s3_bucket}/f")] == [len(content), 3]
    assert proxy.faults[kind] > 0
    use(s3, monkeypatch, 60)
    uri = f"{s3_bucket}/f/large.parquet"
    assert filesystem(uri).cat_file(strip_protocol(uri)) == content


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind != "slow down" else []) for kind in FAULTS]
)
def test_with_faults_in_all_requests_an_error_names_the_endpoint_in_time(
    tmp_path: Path, s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    model = save_tiny(tmp_path / "model")
    corpora.write_objects(f"{s3_bucket}/raw", {"a.jsonl": corpora.rows(0, 3)})
    refreshed(f"{s3_bucket}/raw", f"{s3_bucket}/table", model)
    with fault_proxy(s3, 1.0, (kind,)) as proxy:
        use(proxy.address, monkeypatch, 1.0)
        for attempt in (
            lambda: list_objects(f"{s3_bucket}/raw"),
            lambda: read_bytes(f"{s3_bucket}/raw/a.jsonl"),
            lambda: write_bytes(f"{s3_bucket}/raw/b.jsonl", b"{}"),
            lambda: Table.open(f"{s3_bucket}/table"),
        ):
            began = time.monotonic()
            with pytest.raises(StorageError, match=proxy.address.endpoint) as caught:
                attempt()
            assert caught.value.transient
            # A request that begins within the time may end after it, and a busy machine is slow. Without the setting
            # retries go on for a minute.
            assert time.monotonic() - began < 30
