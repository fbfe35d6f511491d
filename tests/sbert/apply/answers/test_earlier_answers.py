"""Rows that are carried over from the night before: only lists that can change are made again."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sbert.apply.answers import answer_pool
from sbert.apply.answers import job as library
from sbert.apply.answers.earlier_answers import RowsBefore, are_same_rows, last_scores, names_any, with_replaced
from sbert.apply.answers.run import answer_questions
from sbert.apply.answers.settings import AnswerSettings
from sbert.derived.derived_table import DerivedTable
from tests.support.made_tables import State, make_version

LIST = pa.list_(library.ANSWER)
TWO = [{"source": "s", "id": "1", "score": 0.9}, {"source": "s", "id": "2", "score": 0.5}]
LISTS = pa.chunked_array([pa.array([TWO, []], LIST), pa.array([[{"source": "t", "id": "1", "score": 0.8}]], LIST)])


def test_the_last_score_of_a_full_list_bounds_what_can_enter() -> None:
    np.testing.assert_array_equal(last_scores(LISTS, 2), np.array([0.5, -np.inf, -np.inf], np.float32))
    np.testing.assert_array_equal(last_scores(LISTS, 1), np.array([-np.inf, -np.inf, 0.8], np.float32))


def test_an_answer_is_known_by_source_and_id() -> None:
    assert names_any(LISTS, {("s", "2")}).tolist() == [True, False, False]
    assert names_any(LISTS, {("t", "1"), ("t", "2")}).tolist() == [False, False, True]
    assert names_any(LISTS, set()).tolist() == [False, False, False]


def test_rows_are_read_as_many_as_are_asked_for_and_replaced_in_their_places() -> None:
    schema = pa.schema([("source", pa.string()), ("id", pa.string())])
    batches = [
        pa.RecordBatch.from_pydict({"source": ["s"] * len(ids), "id": list(ids)}, schema) for ids in ("abc", "d", "ef")
    ]
    before = RowsBefore(iter(batches), schema)
    first, rest, none = before.take(4), before.take(5), before.take(1)
    assert first["id"].to_pylist() == list("abcd")
    assert rest["id"].to_pylist() == list("ef")
    assert len(none) == 0
    assert are_same_rows(first, pa.table({"source": ["s"] * 4, "id": list("abcd")}))
    assert not are_same_rows(first, pa.table({"source": ["s"] * 4, "id": list("abdc")}))
    assert not are_same_rows(rest, first)
    new = pa.table({"source": ["s"] * 2, "id": ["X", "Y"]}, schema)
    assert with_replaced(first, [3, 1], new)["id"].to_pylist() == ["a", "Y", "c", "X"]


def test_only_questions_whose_list_can_change_are_decided_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, answers, out, whole = (str(tmp_path / name) for name in ("questions", "answers", "out", "whole"))
    make_version(questions, {"q": {str(row): row for row in range(50)}})
    state: State = {"a": {str(row): row + 100 for row in range(40)}, "b": {"leaves": 7}}
    make_version(answers, state)
    answer_questions(questions, answers, out, AnswerSettings(k=2))
    before = {row["id"]: row for row in DerivedTable.open(out).scan().collect().to_dicts()}
    make_version(answers, {"a": state["a"], "c": {"joins": 9}})
    decided: list[int] = []
    real = library.decide

    def counted(lists: Any, *others: Any) -> Any:
        decided.append(len(lists))
        return real(lists, *others)

    monkeypatch.setattr(library, "decide", counted)
    answer_questions(questions, answers, out, AnswerSettings(k=2))
    after = {row["id"]: row for row in DerivedTable.open(out).scan().collect().to_dicts()}
    changed = [name for name in before if before[name] != after[name]]
    assert decided == [len(changed)]
    assert 0 < len(changed) < 25
    assert after["9"]["answers"][0]["id"] == "joins"
    assert all(each["id"] != "leaves" for row in after.values() for each in row["answers"])
    answer_questions(questions, answers, whole, AnswerSettings(k=2))
    assert after == {row["id"]: row for row in DerivedTable.open(whole).scan().collect().to_dicts()}


def test_a_pool_in_a_file_gives_what_one_in_memory_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions, answers, second = (str(tmp_path / name) for name in ("questions", "answers", "second"))
    make_version(questions, {"q": {str(row): row for row in range(9)}})
    for table in (answers, second):
        make_version(table, {name: {str(row): ord(name) * 100 + row for row in range(20)} for name in "ab"})
    outputs = []
    for name, limit in (("memory", answer_pool.BYTES_IN_MEMORY), ("file", 0)):
        monkeypatch.setattr(answer_pool, "BYTES_IN_MEMORY", limit)
        out = str(tmp_path / name)
        answer_questions(questions, answers, out, AnswerSettings(k=3), second_uri=second)
        outputs.append(DerivedTable.open(out).scan().collect())
    assert outputs[0].equals(outputs[1])
