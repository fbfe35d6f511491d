"""Smaller vectors through the flow and the command line: what a person sees of recall, and what DuckDB and Polars read."""

import json
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.support.tables import rows, texts, write
from tests.support.tiny_models import HIDDEN, save_tiny

pytestmark = pytest.mark.usefixtures("prefect_server")


def sbert(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout


def as_json(*arguments: object) -> dict[str, object]:
    status, printed = sbert(*arguments, "--json")
    assert status == 0, printed
    return json.loads(printed)


def test_recall_is_shown_and_kept_and_other_engines_read_the_table(tmp_path: Path) -> None:
    raw, table, model = tmp_path / "raw", tmp_path / "table", save_tiny(tmp_path / "model")
    write(raw / "0.jsonl", rows(0, 60))
    smaller = '{"encoding": {"precision": "int8", "min_recall": 0.9}}'
    report = as_json("refresh", raw, table, "--model", model, "--settings", smaller)
    recall = report["recall_at_10"]
    assert isinstance(recall, float)
    assert 0.9 <= recall <= 1
    assert report["precision"] == "int8"
    assert report["recall_note"] == f"{recall:.4f} among 60 rows (accepted from 0.9)"

    write(raw / "1.jsonl", rows(60, 1))
    status, printed = sbert("refresh", raw, table)
    assert status == 0
    assert "int8" in printed
    assert "not measured: only 1 new text, at least 50 are needed" in printed
    shown = as_json("inspect", table)
    assert isinstance(shown["reduction"], dict)
    assert shown["reduction"]["recall_at_10"] == recall
    assert shown["reduction"]["calibration"]["max_scale"] > 0
    assert shown["columns"]["embedding"].startswith("list<")  # type: ignore[index]
    status, printed = sbert("inspect", table)
    assert f"{recall:.4f} among 60 rows" in printed
    assert "scales" in printed

    vectors = pl.col("embedding").cast(pl.Array(pl.Int8, HIDDEN)).cast(pl.Array(pl.Float32, HIDDEN)) * pl.col("scale")
    frame = pl.scan_delta(str(table)).select(pl.col("id").cast(pl.Int64), vectors.alias("vector")).sort("id").collect()
    exact = SentenceEncoder.from_pretrained(model).encode(texts(0, 61))
    np.testing.assert_allclose(frame["vector"].to_numpy(), exact, atol=0.01)
    dataset = DeltaTable(str(table)).to_pyarrow_dataset()  # noqa: F841  (DuckDB finds it by name)
    norms = duckdb.sql(
        "select sqrt(list_sum(list_transform(embedding, lambda x: (x * scale) ** 2))) from dataset"
    ).fetchall()
    assert len(norms) == 61
    np.testing.assert_allclose(norms, 1, atol=0.02)

    status, printed = sbert("search", table, texts(7, 1)[0], "-k", "2", "--json")
    assert status == 0
    assert json.loads(printed)["results"][0]["id"] == "7"


def test_a_refusal_is_an_error_of_one_line(tmp_path: Path) -> None:
    raw, table, model = tmp_path / "raw", tmp_path / "table", save_tiny(tmp_path / "model")
    write(raw / "0.jsonl", rows(0, 60))
    status, printed = sbert(
        "refresh", raw, table, "--model", model, "--settings", '{"encoding": {"output_dim": 2}}', "--json"
    )
    error = json.loads(printed)["error"]
    assert status == 1
    assert error["kind"] == "QualityError"
    assert "2 of 32 values, measured among" in error["message"]
    assert not (table / "_delta_log").exists()
