"""Fingerprints: tables made by earlier releases keep theirs."""

import pytest

from sbert.refresh.fingerprints import rows_fingerprint
from sbert.refresh.job import RefreshSettings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "460d3fe7f4715a0de4e792df0eb9c58d4c22acbe721bc630dbdcc54240184675"),
        (
            {"source": {"text_column": "body", "id_column": "key", "keep_columns": ["lang"]}},
            "af148345fcf9e2ce2fdebe5987c3fc6f2775a8ab4a3c82621477b1e767425487",
        ),
        (
            {"source": {"text_documents": "file"}, "cleaning": {"mask_urls": True}},
            "6dee14bf7f788a6112b55e787e3609da1fd0e1e7e31fa893af8fd92938ea4803",
        ),
    ],
)
def test_settings_of_earlier_releases_give_the_fingerprints_of_earlier_releases(
    settings: dict[str, object], expected: str
) -> None:
    assert rows_fingerprint("encoder", RefreshSettings.model_validate(settings)) == expected
