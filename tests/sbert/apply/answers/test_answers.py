"""Answers: exact, the same whether computed at once or night by night, and silent where they should be."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sbert.apply.answers import job as library
from sbert.apply.answers import run as run_module
from sbert.apply.answers.answer_pool import AnswerTables, TableSplits
from sbert.apply.answers.model import FittedModel
from sbert.apply.answers.run import answer_questions
from sbert.apply.answers.settings import AnswerSettings, FusionWeights
from sbert.derived.derived_table import DerivedTable
from sbert.errors import EncoderMismatchError, SettingsError
from sbert.table import unit_vectors
from sbert.table.delta import Table
from tests.support.made_tables import State, make_version

SETTINGS = AnswerSettings(k=3, question_column="kind", answer_columns=("kind",))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep vectors of small tables too, in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(unit_vectors, "LEAST_BYTES", 0)


def vectors_of(table: str) -> dict[tuple[str, str], Any]:
    frame = Table.open(table).scan().collect()
    keys = zip(frame["source"].to_list(), frame["id"].to_list(), strict=True)
    return dict(zip(keys, np.array(frame["embedding"].to_list()), strict=True))


def output(out: str) -> pl.DataFrame:
    return DerivedTable.open(out).scan().collect().sort("source", "id")


def assert_exact(questions: str, answers: str, second: str | None, out: str) -> None:
    """Compare with a plain product: every named answer has its score, and no other answer has a higher one."""
    ours, theirs = vectors_of(questions), vectors_of(answers)
    others = {} if second is None else vectors_of(second)
    weights = FusionWeights()
    rows = output(out).to_dicts()
    assert {(row["source"], row["id"]) for row in rows} == ours.keys()
    for row in rows:
        vector = ours[row["source"], row["id"]]
        scores = {
            key: weights.cosine * float(vector @ own)
            + (weights.answer_cosine * float(vector @ others[key]) if key in others else 0.0)
            for key, own in theirs.items()
        }
        scores_given = {(each["source"], each["id"]): each["score"] for each in row["answers"]}
        assert [each["rank"] for each in row["answers"]] == list(range(1, len(scores_given) + 1))
        np.testing.assert_allclose(list(scores_given.values()), [scores[key] for key in scores_given], atol=1e-5)
        best = sorted(scores.values(), reverse=True)[:3]
        np.testing.assert_allclose(list(scores_given.values()), best, atol=1e-5)


def plain(out: str) -> list[tuple[Any, ...]]:
    """Return the decision and answers of each question, without the names of equal answers."""
    return [
        (row["source"], row["id"], [each["score"] for each in row["answers"]], row["decision"], row["probability"])
        for row in output(out).to_dicts()
    ]


OBJECTS = st.dictionaries(
    st.sampled_from("abc"), st.dictionaries(st.sampled_from("12345"), st.integers(0, 40), min_size=1), min_size=1
)


@pytest.mark.parametrize("is_double", [False, True], ids=["one table", "two tables"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_night_by_night_gives_what_a_full_run_gives(
    is_double: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("night")
    questions, answers, out = (str(folder / name) for name in ("questions", "answers", "out"))
    second = str(folder / "second") if is_double else None
    asked = AnswerSettings(k=3)
    for night in range(3):
        make_version(questions, data.draw(OBJECTS))
        make_version(answers, data.draw(OBJECTS))
        if second is not None:
            make_version(second, data.draw(OBJECTS))
        answer_questions(questions, answers, out, asked, second_uri=second)
        assert_exact(questions, answers, second, out)
        whole = str(folder / f"whole {night}")
        answer_questions(questions, answers, whole, asked, second_uri=second)
        assert plain(out) == plain(whole)


def test_words_change_the_order_and_are_the_same_night_by_night(tmp_path: Path) -> None:
    questions, answers, out, whole = (str(tmp_path / name) for name in ("questions", "answers", "out", "whole"))
    make_version(questions, {"q": {str(row): row for row in range(12)}})
    state: State = {"a": {str(row): row + 50 for row in range(12)}}
    make_version(answers, state)
    answer_questions(questions, answers, out, SETTINGS)
    words = [each["words"] for row in output(out).to_dicts() for each in row["answers"]]
    assert max(words) > 0.3
    state["b"] = {"new": 4}
    make_version(answers, state)
    report = answer_questions(questions, answers, out, SETTINGS)
    assert report.output.num_rows_built == 12
    model = DerivedTable.open(out).info.settings["model_uri"]
    assert model == DerivedTable.open(out, 0).info.settings["model_uri"]
    (Path(whole) / "_model").mkdir(parents=True)
    job = library.AnswersJob.model_validate(DerivedTable.open(out).info.settings)
    library.load_model(model)
    from sbert.derived.run import derive

    derive(job, questions, whole)
    assert plain(out) == plain(whole)


def test_an_old_question_meets_new_answers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions, answers, out = (str(tmp_path / name) for name in ("questions", "answers", "out"))
    asked: State = {"q": {str(row): row for row in range(30)}}
    state: State = {name: {str(row): ord(name) * 100 + row for row in range(20)} for name in "ab"}
    make_version(questions, asked)
    make_version(answers, state)
    answer_questions(questions, answers, out, SETTINGS)
    state["c"] = {"new": 7}
    asked["r"] = {"1": 77}
    make_version(questions, asked)
    make_version(answers, state)
    pairs: list[int] = []
    real = library.best_answers

    def counted(questions: Any, pool: Any, *others: Any) -> Any:
        pairs.append(len(questions) * len(pool))
        return real(questions, pool, *others)

    monkeypatch.setattr(library, "best_answers", counted)
    answer_questions(questions, answers, out, SETTINGS)
    assert sum(pairs) == 30 * 1 + 1 * 41


def with_labels(model: FittedModel) -> FittedModel:
    """Return a model as if labels had fitted it, so that it can be told from any other."""
    return model.model_copy(
        update={"record": model.record.model_copy(update={"origin": "labels", "mean_length": 77.0})}
    )


def test_a_model_is_made_again_for_other_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    questions, answers, others, out = (str(tmp_path / name) for name in ("questions", "answers", "others", "out"))
    for table in (questions, answers, others):
        make_version(table, {"a": {"1": 1, "2": 2}})
    with monkeypatch.context() as patch:
        real = run_module.save_model
        patch.setattr(run_module, "save_model", lambda out_uri, model: real(out_uri, with_labels(model)))
        answer_questions(questions, answers, out, AnswerSettings(k=3))
    make_version(answers, {"a": {"1": 1, "2": 3}})
    assert answer_questions(questions, answers, out, AnswerSettings(k=3)).model.mean_length == 77
    assert answer_questions(questions, others, out, AnswerSettings(k=3)).model.mean_length != 77
    assert "because these changed: answers_id. Name the labels to fit it again" in caplog.text


@pytest.mark.parametrize("change", ["second table", "columns"])
def test_a_model_is_made_again_for_a_second_table_and_for_other_texts(tmp_path: Path, change: str) -> None:
    questions, answers, second, out = (str(tmp_path / name) for name in ("questions", "answers", "second", "out"))
    for table in (questions, answers, second):
        make_version(table, {"a": {"1": 1, "2": 2}})
    answer_questions(questions, answers, out, AnswerSettings(k=3))
    info = DerivedTable.open(out).info
    tables = AnswerTables(TableSplits(Table.open(answers)), None, ())
    known_model = partial(run_module._known_model, out, AnswerSettings(k=3), Table.open(questions), labels=None)
    assert known_model(tables) == info.settings["model_uri"]
    changed = {"second table": {"second": TableSplits(Table.open(second))}, "columns": {"text_columns": ("kind",)}}
    assert known_model(replace(tables, **changed[change])) is None


def test_the_shown_unused_answers_do_not_depend_on_files(tmp_path: Path) -> None:
    questions, answers, out = (str(tmp_path / name) for name in ("questions", "answers", "out"))
    make_version(questions, {"q": {"1": 1}})
    make_version(answers, {"b": {str(row): row for row in range(40, 0, -1)}, "a": {"9": 50, "8": 51}})
    report = answer_questions(questions, answers, out, SETTINGS)
    shown = [(each.source, each.id) for each in report.unused]
    assert len(shown) == 30
    assert shown == sorted(shown)
    assert shown[:2] == [("a", "8"), ("a", "9")]


def test_nothing_is_computed_when_nothing_changed(tmp_path: Path) -> None:
    questions, answers, out = (str(tmp_path / name) for name in ("questions", "answers", "out"))
    make_version(questions, {"q": {"1": 1}})
    make_version(answers, {"a": {"1": 1, "2": 2}})
    assert answer_questions(questions, answers, out, SETTINGS).output.num_rows_built == 1
    assert answer_questions(questions, answers, out, SETTINGS).output.num_rows_built == 0


@pytest.mark.parametrize(
    ("state", "num_answers", "decision", "reason"),
    [
        ({"a": {}}, 0, "abstain", "no answers"),
        ({"a": {"1": 1}}, 1, None, None),
        ({"a": {"1": 1, "2": 1}}, 2, None, None),
    ],
    ids=["no answers", "one answer", "equal answers"],
)
def test_few_answers_decide_only_as_far_as_they_go(
    tmp_path: Path, state: State, num_answers: int, decision: str | None, reason: str | None
) -> None:
    questions, answers, out = (str(tmp_path / name) for name in ("questions", "answers", "out"))
    make_version(questions, {"q": {"1": 1}})
    make_version(answers, {"a": {"1": 1}})
    make_version(answers, state)
    answer_questions(questions, answers, out, SETTINGS)
    row = output(out).row(0, named=True)
    assert len(row["answers"]) == num_answers
    if decision is None:
        assert row["decision"] != "clarify"
        assert row["probability"] > 0
    else:
        assert row["decision"] == decision
        assert row["reason"] == reason
        assert row["probability"] == 0.0


def test_tables_of_other_encoders_are_refused_with_both_fingerprints(tmp_path: Path) -> None:
    questions, answers, out = (str(tmp_path / name) for name in ("questions", "answers", "out"))
    make_version(questions, {"q": {"1": 1}})
    make_version(answers, {"a": {"1": 1}}, encoder_number=3)
    with pytest.raises(EncoderMismatchError, match=f"{0:012d}") as error:
        answer_questions(questions, answers, out)
    assert Table.open(answers).encoder.fingerprint[:12] in str(error.value)


def test_context_needs_a_column_of_conversations(tmp_path: Path) -> None:
    questions, answers = str(tmp_path / "questions"), str(tmp_path / "answers")
    make_version(questions, {"q": {"1": 1}})
    make_version(answers, {"a": {"1": 1}})
    with pytest.raises(SettingsError, match="but conversation_column is empty: name that column"):
        answer_questions(questions, answers, str(tmp_path / "out"), AnswerSettings(context_turns=2))
    absent = AnswerSettings(conversation_column="absent")  # it is refused where no context is asked for, too
    with pytest.raises(SettingsError, match="no kept column 'absent'"):
        answer_questions(questions, answers, str(tmp_path / "out"), absent)
