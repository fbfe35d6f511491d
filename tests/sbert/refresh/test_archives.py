"""A refresh over zip archives: members are objects, and an archive that cannot be read keeps the rows of its members."""

import json
import zipfile
from pathlib import Path

from tests.support.refreshing import refreshed
from tests.support.tables import read, texts


def test_an_unreadable_archive_keeps_the_rows_of_its_members(tmp_path: Path, model: str) -> None:
    raw, table = tmp_path / "raw", tmp_path / "table"
    raw.mkdir()
    with zipfile.ZipFile(raw / "a.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.jsonl", json.dumps({"id": "1", "text": texts(number, 1)[0]}))
    first = refreshed(raw, str(table), model=model).report
    assert first.num_rows == 3
    assert first.num_objects == 3
    assert refreshed(raw, str(table)).report.num_splits_built == 0
    (raw / "a.zip").write_bytes(b"PK damaged")
    broken = refreshed(raw, str(table)).report
    assert broken.num_rows == 3
    assert list(broken.broken_objects) == [str(raw / "a.zip")]
    assert read(table)["source"].n_unique() == 3
