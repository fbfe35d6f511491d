"""Texts whose class a classifier is unsure of are suggested first, and predictions of something else are refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import RowFunction, RowJob
from sbert.derived.run import derive
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import ColumnError, SettingsError, TableError
from sbert.suggest import suggest as module
from sbert.suggest.predictions import load_predictions, prediction_columns
from sbert.suggest.settings import SuggestSettings
from sbert.suggest.suggest import suggest
from sbert.suggest.suggestion_kinds import SuggestionKind
from sbert.table.delta import Table
from tests.support.made_tables import DIM, make_version

ONLY = SuggestSettings(density=0, text_column="label_text", shortlist_factor=1)


class Guesses(RowJob):
    """A probability that grows with the id, and abstention below 0.3."""

    name = "classification"
    prefix: str = ""

    def columns(self, table: Table) -> pa.Schema:
        return pa.schema([(f"{self.prefix}probability", pa.float32()), (f"{self.prefix}abstained", pa.bool_())])

    def function(self, table: Table) -> RowFunction:
        def guess(rows: pa.Table) -> pa.Table:
            values = np.array([int(name) / 100 for name in rows["id"].to_pylist()], np.float32)
            columns = {f"{self.prefix}probability": values, f"{self.prefix}abstained": values < 0.3}
            return pa.table({name: pa.array(value) for name, value in columns.items()})

        return guess


class OtherJob(Guesses):
    """The same under another name."""

    name = "topics"


def state(count: int, step: int = 1) -> dict[str, dict[str, int]]:
    return {"a": {str(number): number * step for number in range(1, count + 1)}}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return make_version(str(tmp_path / "table"), state(90))


@pytest.fixture
def guesses(table: Table, tmp_path: Path) -> DerivedTable:
    return DerivedTable.open(derive(Guesses(), table.uri, str(tmp_path / "out")).out_uri)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every row of a made table a text of its own, its id."""
    read = module._pool

    def pool(table: Table, labelled: list[pl.DataFrame], settings: SuggestSettings) -> pl.DataFrame:
        raw = settings.model_copy(update={"text_column": "count"})
        return read(table, labelled, raw)

    monkeypatch.setattr(module, "_pool", pool)


class Tiny:
    """Stands for an encoder; nothing is encoded."""

    dim = DIM


def suggested(table: Table, num: int, guesses: DerivedTable, settings: SuggestSettings = ONLY) -> pl.DataFrame:
    encoder: SentenceEncoder = Tiny()  # type: ignore[assignment]
    return suggest(table, num, encoder=encoder, predictions=guesses, settings=settings).rows


def test_texts_on_which_the_head_abstains_come_first_then_the_least_sure(
    table: Table, guesses: DerivedTable, texts: None
) -> None:
    few = suggested(table, 5, guesses)
    assert sorted(few["id"], key=int) == ["1", "2", "3", "5", "6"]  # 4 keeps no text
    assert few["prediction"].to_list() == [pytest.approx(1 - int(name) / 100) for name in few["id"]]
    ids = [int(name) for name in suggested(table, 40, guesses, ONLY.model_copy(update={"density": 5.0}))["id"]]
    abstained = [number for number in range(1, 30) if number % 5 != 4]
    assert sorted(ids[: len(abstained)]) == abstained
    assert min(ids[len(abstained) :]) >= 30


def test_without_weight_predictions_change_nothing(table: Table, guesses: DerivedTable, texts: None) -> None:
    settings = ONLY.model_copy(update={"prediction": 0.0, "density": 1.0})
    encoder: SentenceEncoder = Tiny()  # type: ignore[assignment]
    plain = suggest(table, 10, encoder=encoder, settings=settings).rows
    assert suggested(table, 10, guesses, settings)["id"].to_list() == plain["id"].to_list()


def test_a_text_that_changed_has_no_prediction_and_counts_as_average(table: Table, guesses: DerivedTable) -> None:
    pool = table.scan().select("source", "id", "text_hash").collect().sort(pl.col("id").cast(pl.Int64))
    changed = pool.with_columns(
        text_hash=pl.when(pl.col("id") == "1").then(pl.lit(b"x" * 16)).otherwise(pl.col("text_hash"))
    )
    predictions = load_predictions(guesses, table, changed)
    assert predictions.doubt_N[0] == pytest.approx(np.median(1 - np.arange(2, 91) / 100))
    assert not predictions.abstained_N[0]
    assert predictions.abstained_N[1:29].all()
    with pytest.raises(SettingsError, match="none of 90 texts to choose from has a prediction"):
        load_predictions(guesses, table, pool.with_columns(text_hash=pl.lit(b"x" * 16)))


def test_predictions_of_something_else_are_refused_by_name(table: Table, guesses: DerivedTable, tmp_path: Path) -> None:
    other = make_version(str(tmp_path / "other"), state(20))
    with pytest.raises(TableError, match=r"its rows are those of .*, but .* has id .*for this table"):
        suggested(other, 5, guesses)
    topics = DerivedTable.open(derive(OtherJob(), table.uri, str(tmp_path / "topics")).out_uri)
    with pytest.raises(TableError, match=r"the output of the job topics, .* name the output of `sbert classify`"):
        suggested(table, 5, topics)
    with pytest.raises(ColumnError, match=r"no column mood_probability, mood_abstained .*leave prediction_task empty"):
        suggested(table, 5, guesses, ONLY.model_copy(update={"prediction_task": "mood"}))
    tasks = DerivedTable.open(derive(Guesses(prefix="mood_"), table.uri, str(tmp_path / "tasks")).out_uri)
    with pytest.raises(ColumnError, match="set prediction_task to one of mood"):
        suggested(table, 5, tasks)
    assert prediction_columns(tasks, table, "mood") == ("mood_probability", "mood_abstained")
    with pytest.raises(SettingsError, match="predictions are classes of texts, but kind is scored_pairs"):
        suggested(table, 5, guesses, SuggestSettings(kind=SuggestionKind.SCORED_PAIRS))
    again = make_version(table.uri, state(90), encoder_number=1)
    with pytest.raises(TableError, match=r"of vectors of the encoder 0{12}, .*: run `sbert classify` again"):
        suggested(again, 5, guesses)


def test_the_command_line_refuses_an_output_that_is_not_there(table: Table, tmp_path: Path) -> None:
    arguments = ["suggest", table.uri, str(tmp_path / "todo.csv"), "--predictions", str(tmp_path / "none")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert not (tmp_path / "todo.csv").exists()
