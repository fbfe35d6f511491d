"""The column of reasons: each pair is explained once, reasons are taken over, and nothing changes without it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sbert.apply.answers.run import answer_questions
from sbert.apply.answers.settings import AnswerSettings
from sbert.apply.duplicates.job import DuplicatesJob
from sbert.apply.duplicates.rule import PairRule
from sbert.apply.duplicates.run import DuplicateSettings, duplicates_job
from sbert.apply.recommendation.run import recommend
from sbert.apply.recommendation.settings import ListSettings, RankingSettings, RecommendationSettings
from sbert.derived.any_table import verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.errors import ColumnError, ModelError
from sbert.explanation import reason_column
from sbert.explanation.explain import Explainer
from sbert.explanation.reason_column import EXPLANATION, KnownReasons, ReasonColumn, RowPair
from sbert.table.delta import Table
from tests.support.made_texts import make_text_version
from tests.support.refreshing import refreshed
from tests.support.tables import write

KEEP = {"source": {"keep_columns": ["text"]}}
TEXTS = ["the train is late", "the train is not late", "the train is late", "select name from users", "butter tin 9"]


def table_of(place: Path, model: str, objects: dict[str, Sequence[str]], name: str = "table") -> str:
    """Bring a table up to date with texts by object; the id of a text is its object and its place."""
    for old in (place / f"{name}-raw").glob("*.jsonl"):
        old.unlink()
    for key, texts in objects.items():
        rows = [{"id": f"{key}{number}", "text": text} for number, text in enumerate(texts)]
        write(place / f"{name}-raw" / f"{key}.jsonl", rows)
    refreshed(place / f"{name}-raw", place / name, model, KEEP)
    return str(place / name)


def rows_of(out: str) -> list[dict[str, Any]]:
    return DerivedTable.open(out).scan().collect().sort("id").to_dicts()


def flat(reasons: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the values of a column's element by name, so that numbers can be compared with a tolerance."""
    values: dict[str, Any] = {}
    for reason in reasons:
        parts = {f"{pair['left']} {pair['right']} {at}": pair["part"] for at, pair in enumerate(reason["pairs"])}
        values |= {
            **parts,
            "cosine": reason["cosine"],
            f"{reason['id']} {reason['texts_hash']} {reason['warnings']}": 0,
        }
    return values


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return the pairs that are explained, as they come."""
    pairs: list[tuple[str, str]] = []
    real = reason_column.explain_pairs

    def noted(explainer: Explainer, some: Sequence[tuple[str, str]], **other: Any) -> Any:
        pairs.extend(some)
        return real(explainer, some, **other)

    monkeypatch.setattr(reason_column, "explain_pairs", noted)
    return pairs


def everything_alike(*, explain: bool = True) -> DuplicatesJob:
    return DuplicatesJob(rule=PairRule(similarity=0.3, conflict_check=False), explain=explain)


def test_a_duplicate_says_why_and_warns_of_a_negation(tmp_path: Path, model: str) -> None:
    table, out = table_of(tmp_path, model, {"a": TEXTS}), str(tmp_path / "out")
    derive(everything_alike(), table, out)
    texts = {row["id"]: row["text"] for row in Table.open(table).scan().collect().to_dicts()}
    explainer = Explainer.of_table(Table.open(table))
    num_reasons = 0
    for row in rows_of(out):
        other = row["representative"]["id"]
        if texts[row["id"]] == texts[other]:
            assert row[EXPLANATION] == []
            continue
        num_reasons += 1
        (reason,) = row[EXPLANATION]
        wanted = explainer.explain(texts[row["id"]], texts[other])
        assert reason["id"] == other
        assert reason["cosine"] == pytest.approx(wanted.cosine, abs=1e-5)
        assert reason["cosine"] == pytest.approx(row["similarity"], abs=1e-2)
        assert [pair["part"] for pair in reason["pairs"]] == pytest.approx(
            [pair.part for pair in wanted.pairs[:5]], abs=2e-5
        )
        assert reason["warnings"] == [warning.message for warning in wanted.warnings]
    assert num_reasons >= 2
    assert verify_any(out).findings == []


def test_without_reasons_nothing_changes(tmp_path: Path, model: str, explained: list[tuple[str, str]]) -> None:
    table, out = table_of(tmp_path, model, {"a": TEXTS}), str(tmp_path / "out")
    plain = everything_alike(explain=False)
    assert "explain" not in plain.model_dump(mode="json")  # so the fingerprint is that of earlier releases
    derive(plain, table, out)
    assert EXPLANATION not in DerivedTable.open(out).schema.names
    assert derive(plain, table, out).num_rows_built == 0
    assert explained == []
    job = duplicates_job(table, DuplicateSettings(similarity=0.3, conflict_check=False, explain=True))
    assert derive(job, table, out).num_rows_built == 5
    assert derive(job, table, out).num_rows_built == 0
    derive(plain, table, out)
    assert EXPLANATION not in DerivedTable.open(out).schema.names


def test_a_night_explains_only_the_pairs_that_are_new(
    tmp_path: Path, model: str, explained: list[tuple[str, str]]
) -> None:
    out, job = str(tmp_path / "out"), everything_alike()
    derive(job, table_of(tmp_path, model, {"a": TEXTS, "b": ["my password"]}), out)
    first = rows_of(out)
    explained.clear()
    changed: dict[str, Sequence[str]] = {"a": [*TEXTS, "light into energy"], "b": ["my password"]}
    table = table_of(tmp_path, model, changed)
    derive(job, table, out)
    before = {row["id"]: row for row in first}
    rows = rows_of(out)
    new = [row for row in rows if before.get(row["id"], {}).get("representative") != row["representative"]]
    assert len(explained) <= len(new) < len(rows)
    for row in rows:
        if row not in new:
            assert row[EXPLANATION] == before[row["id"]][EXPLANATION]
    fresh = str(tmp_path / "fresh")
    derive(job, table, fresh)
    for row, other in zip(rows, rows_of(fresh), strict=True):
        assert flat(row[EXPLANATION]) == pytest.approx(flat(other[EXPLANATION]), abs=3e-5)


def test_answers_say_why_the_first_is_near(tmp_path: Path, model: str, explained: list[tuple[str, str]]) -> None:
    questions = table_of(
        tmp_path, model, {"q": ["my password", "is the train late"], "r": ["my password"]}, "questions"
    )
    answers, out = table_of(tmp_path, model, {"a": TEXTS}, "answers"), str(tmp_path / "out")
    report = answer_questions(questions, answers, out, AnswerSettings(k=3))
    assert report.output.num_rows_built == 3
    assert "explain" not in DerivedTable.open(out).info.settings
    answer_questions(questions, answers, out, AnswerSettings(k=3), explain=True)
    assert len(explained) == 2  # two of three questions are one text
    texts = {row["id"]: row["text"] for row in Table.open(answers).scan().collect().to_dicts()}
    explainer = Explainer.of_table(Table.open(questions))
    for row, text in zip(rows_of(out), ["my password", "is the train late", "my password"], strict=True):
        (reason,) = row[EXPLANATION]
        assert reason["source"] == row["answers"][0]["source"]
        assert reason["id"] == row["answers"][0]["id"]
        assert reason["cosine"] == pytest.approx(row["answers"][0]["cosine"], abs=1e-2)
        assert reason["cosine"] == pytest.approx(explainer.explain(text, texts[reason["id"]]).cosine, abs=1e-5)
    explained.clear()
    more = table_of(tmp_path, model, {"a": TEXTS, "b": ["is the train late"]}, "answers")
    assert answer_questions(questions, more, out, AnswerSettings(k=3), explain=True).output.num_rows_built == 3
    assert explained == [("is the train late", "is the train late")]
    again = answer_questions(questions, more, out, AnswerSettings(k=3), explain=True)
    assert again.output.num_rows_built == 0


def test_a_recommended_item_says_why_it_is_near_the_history(
    tmp_path: Path, model: str, explained: list[tuple[str, str]]
) -> None:
    items, out = (
        table_of(tmp_path, model, {"i": [*TEXTS, *(f"cake {number}" for number in range(9))]}),
        tmp_path / "out",
    )
    events = [
        {"user": f"u{user}", "item": f"i{item}", "time": str(1_700_000_000 + item), "type": "click"}
        for user in range(4)
        for item in (user, user + 3, user + 5)
    ]
    settings = RecommendationSettings(
        ranking=RankingSettings(num_factors=2, num_rounds=1), lists=ListSettings(k=3, num_new=0), refit_share=50
    )

    def run(**other: Any) -> Any:
        pl.DataFrame(events).write_csv(tmp_path / "events.csv")
        return recommend(items, str(tmp_path / "events.csv"), str(out), settings, **other)

    assert run().num_users_computed == 4
    assert run().num_users_computed == 0
    assert explained == []
    assert run(explain=True).num_users_computed == 4
    assert len(explained) == len(set(explained)) > 0
    for row in rows_of(str(out)):
        (reason,) = row[EXPLANATION]
        assert reason["id"] == row["because"][0]["id"]
        assert len(reason["pairs"]) > 0
    first = {(row["user"], row["id"], row["because"][0]["id"]): row[EXPLANATION] for row in rows_of(str(out))}
    explained.clear()
    events.append({"user": "u1", "item": "i9", "time": "1700000099", "type": "click"})
    assert run(explain=True).num_users_computed == 1
    rows = {(row["user"], row["id"], row["because"][0]["id"]): row[EXPLANATION] for row in rows_of(str(out))}
    assert len(explained) <= len(rows.keys() - first.keys())
    assert all(rows[key] == first[key] for key in rows.keys() & first.keys())
    assert run(explain=True).num_shards_built == 0
    assert verify_any(str(out)).findings == []


def test_a_table_without_texts_is_refused_before_any_work(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw.jsonl", [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)])
    bare, out = str(tmp_path / "bare"), str(tmp_path / "out")
    refreshed(tmp_path / "raw.jsonl", bare, model)
    other = table_of(tmp_path, model, {"a": TEXTS})
    for job in (
        lambda: derive(everything_alike(), bare, out),
        lambda: answer_questions(bare, other, out, explain=True),
        lambda: answer_questions(other, bare, out, explain=True),
        lambda: recommend(bare, str(tmp_path / "raw.jsonl"), out, explain=True),
    ):
        with pytest.raises(ColumnError, match="no kept column holds the encoded text"):
            job()
    assert not Path(out).exists()


@pytest.mark.parametrize("encoding", [{"compute_dtype": "bfloat16"}, {"output_dim": 16}])
def test_reasons_are_of_the_vectors_that_the_table_has(tmp_path: Path, model: str, encoding: dict[str, Any]) -> None:
    rows = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]
    write(tmp_path / "raw.jsonl", rows)
    refreshed(tmp_path / "raw.jsonl", tmp_path / "table", model, {**KEEP, "encoding": encoding})
    derive(everything_alike(), str(tmp_path / "table"), str(tmp_path / "out"))
    rows_with_reason = [row for row in rows_of(str(tmp_path / "out")) if row[EXPLANATION]]
    assert rows_with_reason
    for row in rows_with_reason:
        assert row[EXPLANATION][0]["cosine"] == pytest.approx(row["similarity"], abs=0.01)


def test_an_encoder_that_is_gone_is_said(tmp_path: Path) -> None:
    table = make_text_version(str(tmp_path / "table"), {"a": [("1", "a text", [1.0, 0.0])]})
    with pytest.raises(ModelError, match=r"reasons cannot be given \(.*made.*\): run the job without explain"):
        ReasonColumn(table).make([RowPair("a", "2", "a text", "another")], KnownReasons.of([]))


def test_an_empty_text_has_no_reason(tmp_path: Path) -> None:
    table = make_text_version(str(tmp_path / "table"), {"a": [("1", "a text", [1.0, 0.0])]})
    column = ReasonColumn(table).make([None, RowPair("a", "2", " ", "another")], KnownReasons.of([]))
    assert column.to_pylist() == [[], []]
