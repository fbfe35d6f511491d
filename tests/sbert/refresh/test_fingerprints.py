"""Fingerprints: tables made by earlier releases keep theirs."""

import pytest

from sbert.refresh.fingerprints import rows_fingerprint
from sbert.refresh.job import RefreshSettings
from sbert.rows.cleaning import CleaningSettings


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
        (
            {
                "cleaning": {
                    "unicode_form": None,
                    "strip_control_characters": False,
                    "strip_html": False,
                    "collapse_whitespace": False,
                    "mask_urls": True,
                    "mask_emails": True,
                    "min_chars": 3,
                    "max_chars": 500,
                    "drop_duplicate_texts": True,
                }
            },
            "a05d3fc20fa0daffea79b6ac2070b88268bb97e091df70382c33b18a01d1cfeb",
        ),
    ],
)
def test_settings_of_earlier_releases_give_the_fingerprints_of_earlier_releases(
    settings: dict[str, object], expected: str
) -> None:
    assert rows_fingerprint("encoder", RefreshSettings.model_validate(settings)) == expected


class LaterCleaningSettings(CleaningSettings):
    """Cleaning settings with a rule of a later release."""

    mask_names: bool = False


def test_a_cleaning_rule_that_is_added_later_changes_a_fingerprint_only_where_it_is_on() -> None:
    cleaning = {"mask_urls": True}
    before = RefreshSettings.model_validate({"cleaning": cleaning})
    later = before.model_copy(update={"cleaning": LaterCleaningSettings.model_validate(cleaning)})
    masking = before.model_copy(
        update={"cleaning": LaterCleaningSettings.model_validate({**cleaning, "mask_names": True})}
    )
    assert rows_fingerprint("encoder", later) == rows_fingerprint("encoder", before)
    assert rows_fingerprint("encoder", masking) != rows_fingerprint("encoder", before)
