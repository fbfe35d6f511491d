"""Large objects go to S3 in parts, and are there whole or not at all."""

import hashlib

import pytest

from sbert.storage.files import open_input, open_output
from tests.support.services import S3Server

PART = bytes(range(256)) * 4096 * 20  # 20 MiB


@pytest.mark.s3
def test_a_large_upload_is_made_in_parts_and_visible_only_when_whole(s3: S3Server, s3_bucket: str) -> None:
    uri, client = f"{s3_bucket}/table/large", s3.filesystem()
    output = open_output(uri)
    for _ in range(4):
        output.write(PART)
    assert not client.exists(uri)  # parts are not an object yet
    output.close()
    info = client.info(uri)
    assert info["size"] == 4 * len(PART)
    assert "-" in info["ETag"], "the upload was not made in parts"
    digest = hashlib.sha256()
    with open_input(uri) as file:
        while data := file.read(8 << 20):
            digest.update(data)
    assert digest.digest() == hashlib.sha256(PART * 4).digest()


@pytest.mark.s3
def test_an_upload_given_up_leaves_nothing(s3: S3Server, s3_bucket: str) -> None:
    uri, client = f"{s3_bucket}/table/large", s3.filesystem()
    output = open_output(uri)
    for _ in range(4):
        output.write(PART)
    output.discard()
    assert not client.exists(uri)
    bucket = s3_bucket.removeprefix("s3://")
    assert not client.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads")
