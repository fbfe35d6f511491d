"""The settings of a job: what is named stays distinguishable, old names work, a flag changes only what it names."""

import logging
from typing import Any

import pytest
from pydantic import ValidationError

from sbert.errors import SettingsError
from sbert.refresh.job import RefreshJob, RefreshSettings


def test_allowing_drops_changes_the_deletion_limit_and_nothing_else() -> None:
    settings = RefreshSettings.model_validate(
        {"deletion_limit": {"max_drop_share": 0.5}, "quality": {"max_mean_cosine": 0.7}, "cleaning": {"min_chars": 3}}
    )
    allowed = settings.allowing_drops(True)
    assert allowed.deletion_limit.max_drop_share == 1
    assert allowed.quality.max_mean_cosine == 0.7
    assert allowed.cleaning.min_chars == 3
    assert settings.allowing_drops(False) is settings


def test_the_old_name_of_the_deletion_limit_is_read_with_a_logged_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sbert"):
        settings = RefreshSettings.model_validate({"guard": {"max_drop_share": 0.4, "max_mean_cosine": 0.6}})
    assert settings.deletion_limit.max_drop_share == 0.4
    assert settings.quality.max_mean_cosine == 0.6
    assert "the setting guard is now called deletion_limit" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "text_column",
            r"text_column: no such field of RefreshJob.*RefreshSettings\(source=SourceSettings\(text_column=",
        ),
        ("cleaning", r"cleaning: .*settings=RefreshSettings\(cleaning=\.\.\.\)"),
        ("colour", "colour: no such field of RefreshJob; the fields are raw_uri, table_uri"),
    ],
)
def test_a_job_with_an_unknown_field_says_where_it_belongs(name: str, message: str) -> None:
    fields: dict[str, Any] = {"raw_uri": "raw", "table_uri": "table", name: "x"}
    with pytest.raises(SettingsError, match=message) as caught:
        RefreshJob(**fields)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"guard": {}, "deletion_limit": {}}, "both given: remove guard"),
        ({"guard": 3}, "write deletion_limit"),
        ({"guard": {"max_drop": 1}}, "deletion_limit.max_drop"),
        ({"keep_no_columns": True, "source": {"keep_columns": ["a"]}}, "keep_no_columns is on: leave one out"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RefreshSettings.model_validate(wrong)


def test_naming_a_column_leaves_other_settings_unnamed() -> None:
    settings = RefreshSettings.model_validate({"cleaning": {"min_chars": 2}}).with_source(text_column="body")
    assert settings.model_dump(exclude_unset=True) == {
        "cleaning": {"min_chars": 2},
        "source": {"text_column": "body"},
    }
    assert settings.with_source(text_column=None, keep_columns=None) is settings
