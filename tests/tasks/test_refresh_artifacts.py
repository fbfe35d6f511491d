"""Artifacts of a run in the Prefect UI: progress while it goes, tables when it is done."""

import json
from pathlib import Path

import pytest

from flows.refresh import refresh_embeddings
from sbert.encoder import process_cache
from sbert.errors import IncompleteError
from sbert.refresh.refresh_report import RefreshReport
from tests.support.flow_runs import newest_run
from tests.support.tiny_models import save_tiny

pytestmark = pytest.mark.usefixtures("prefect_server")


def write(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "".join(json.dumps({"id": f"{path.stem}-{n}", "text": text}) + "\n" for n, text in enumerate(texts))
    )


def test_a_run_loads_the_encoder_once_and_reports_progress_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_tiny(tmp_path / "model")
    write(tmp_path / "raw/a|b.jsonl", ["red", "cat", "oven", ""])
    write(tmp_path / "raw/c.jsonl", ["green", "train"])
    write(tmp_path / "raw/d.jsonl", ["blue", "light"])
    (tmp_path / "raw/e|<b>.jsonl.gz").write_bytes(b"\x1f\x8b\x08broken")
    process_cache._loaded.clear()
    load, loads = process_cache.load_for_encoding, []
    monkeypatch.setattr(process_cache, "load_for_encoding", lambda spec: loads.append(spec) or load(spec))
    with pytest.raises(IncompleteError) as caught:
        refresh_embeddings(
            str(tmp_path / "raw"),
            str(tmp_path / "table"),
            model=model,
            concurrency=3,
            settings={"splits": {"pack_below_bytes": 0}},  # type: ignore[arg-type]
        )
    assert len(loads) == 1
    assert isinstance(caught.value.report, RefreshReport)
    _, artifacts = newest_run()
    assert artifacts["progress"]["data"] == 100.0
    assert "4 of 4 splits" in artifacts["progress"]["description"]
    markdown = artifacts["refresh-report"]["data"]
    for line in (
        "| read | 8 |",
        "| encoded | 7 (7 distinct texts) |",
        "| rejected | 1 |",
        "| built | 3 |",
        "| empty_text | 1 |",
        "| encoded per second of building |",
    ):
        assert line in markdown
    assert "e&#124;&lt;b&gt;.jsonl.gz" in markdown  # names from the source cannot break the table or be HTML
