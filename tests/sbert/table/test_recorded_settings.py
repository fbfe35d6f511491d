"""Settings that a table records, read by a release that does not know them all."""

from pathlib import Path
from typing import Any

import pytest

from sbert.rows.cleaning import CleaningSettings
from sbert.table.delta import Table
from sbert.table.recorded_settings import table_cleaning, table_windows
from tests.support.made_tables import make_version


@pytest.mark.parametrize("recorded", [None, {}, {"cleaning": None}], ids=["nothing", "no cleaning", "null"])
def test_a_table_that_records_no_cleaning_has_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: dict[str, Any] | None
) -> None:
    table = make_version(str(tmp_path / "table"), {"a": {"1": 1}})
    monkeypatch.setattr(Table, "recorded_settings", recorded)
    assert table_cleaning(table) == CleaningSettings()
    assert table_windows(table) is None


def test_a_setting_of_another_release_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_version(str(tmp_path / "table"), {"a": {"1": 1}})
    monkeypatch.setattr(Table, "recorded_settings", {"cleaning": {"mask_emails": True, "of_tomorrow": 1}})
    assert table_cleaning(table) == CleaningSettings(mask_emails=True)
