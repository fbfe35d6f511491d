"""Questions with the turns before them, and questions in a language that the encoder does not know."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sbert.apply.answers import language
from sbert.apply.answers.language import LanguageCheck, foreign_letters
from sbert.apply.answers.model import load_model
from sbert.apply.answers.questions import with_context
from sbert.apply.answers.run import answer_questions
from sbert.apply.answers.settings import AnswerSettings
from sbert.derived.derived_table import DerivedTable
from sbert.errors import ModelError, SettingsError
from sbert.table.delta import Table
from tests.support.made_tables import make_version, unit_vector
from tests.support.refreshing import refreshed
from tests.support.tables import rows, write

AMHARIC, THAI, CHINESE = "የይለፍ ቃሌን እንዴት መቀየር እችላለሁ", "ฉันจะเปลี่ยนรหัสผ่านได้อย่างไร", "如何更改我的密码"


def answered(out: str) -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in DerivedTable.open(out).scan().collect().to_dicts()}


def test_the_last_turns_of_a_dialogue_are_the_query_together(tmp_path: Path) -> None:
    """Rows 0 and 3 are turns of one dialogue ("kind 0"), row 1 is of another; row 4 names none, nor does row 9."""
    questions, answers = str(tmp_path / "questions"), str(tmp_path / "answers")
    make_version(questions, {"q": {str(row): row for row in (0, 1, 3, 4, 9)}})
    make_version(answers, {"a": {str(row): row for row in range(20, 60)}})
    alone, together = str(tmp_path / "alone"), str(tmp_path / "together")
    context = AnswerSettings(k=3, context_turns=2, conversation_column="kind", context_decay=0.5)
    answer_questions(questions, answers, alone, AnswerSettings(k=3))
    answer_questions(questions, answers, together, context)
    before, after = answered(alone), answered(together)
    assert [name for name in before if before[name]["answers"] != after[name]["answers"]] == ["3"]
    query = with_context([unit_vector(0), unit_vector(3)], 0.5)
    cosines = {str(row): float(query @ unit_vector(row)) for row in range(20, 60)}
    best = sorted(cosines, key=lambda name: -cosines[name])[:3]
    best_answers = after["3"]["answers"]
    assert isinstance(best_answers, list)
    assert [each["id"] for each in best_answers] == best
    np.testing.assert_allclose([each["cosine"] for each in best_answers], [cosines[name] for name in best], atol=1e-5)


def test_a_turn_counts_less_the_longer_ago_it_was() -> None:
    first, second, third = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(with_context([first, second, third], 0.5), np.array([1, 2, 4]) / np.sqrt(21), rtol=1e-6)


def test_a_column_of_conversations_that_is_not_kept_is_refused_by_name(tmp_path: Path) -> None:
    questions, answers = str(tmp_path / "questions"), str(tmp_path / "answers")
    make_version(questions, {"q": {"1": 1}})
    make_version(answers, {"a": {"1": 1}})
    with pytest.raises(SettingsError, match="no kept column 'dialogue'"):
        answer_questions(
            questions,
            answers,
            str(tmp_path / "out"),
            AnswerSettings(context_turns=2, conversation_column="dialogue"),
        )


@pytest.fixture
def tables(tmp_path: Path, model: str) -> tuple[str, str]:
    """Make a FAQ, and questions in five languages, three of them in scripts that the encoder has no characters of."""
    asked = [{"id": "en", "text": "how do i reset my password"}, {"id": "de", "text": "wie ändere ich das"}]
    asked += [{"id": name, "text": text} for name, text in (("am", AMHARIC), ("th", THAI), ("zh", CHINESE))]
    for name, lines in (("faq", rows(0, 30)), ("tickets", asked)):
        raw = write(tmp_path / f"{name}.jsonl", lines)
        refreshed(raw, tmp_path / name, model, settings={"source": {"keep_columns": ["text"]}})
    return str(tmp_path / "tickets"), str(tmp_path / "faq")


def test_questions_in_a_script_that_the_encoder_cannot_spell_are_silent_and_counted(
    tables: tuple[str, str], tmp_path: Path
) -> None:
    """Each word of Amharic or Thai is one unknown token: long tokens, which say nothing."""
    out = str(tmp_path / "out")
    report = answer_questions(*tables, out)
    row_by_id = answered(out)
    silent = {name for name, row in row_by_id.items() if row["reason"] == "unknown language"}
    assert silent == {"de", "am", "th", "zh"}  # the encoder of the test spells German letter by letter
    assert {row_by_id[name]["decision"] for name in silent} == {"abstain"}
    assert report.reasons["unknown language"] == 4
    assert "unknown language" in Path(report.report_uri).read_text()


def test_without_the_check_they_are_questions_as_all_others(tables: tuple[str, str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert "unknown language" not in answer_questions(*tables, out, AnswerSettings(min_token_length=0)).reasons


def test_an_encoder_that_cannot_be_loaded_leaves_the_length_of_tokens(
    tables: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cannot_be_loaded(table: Table) -> None:
        raise ModelError(f"{table.encoder.model} is gone")

    monkeypatch.setattr(language, "load_table_encoder", cannot_be_loaded)
    out = str(tmp_path / "out")
    answer_questions(*tables, out)
    assert {name for name, row in answered(out).items() if row["reason"] == "unknown language"} == {"de", "zh"}
    assert "is gone" in caplog.text


def test_the_tokens_of_a_prompt_do_not_make_a_language_unknown(tables: tuple[str, str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    answer_questions(*tables, out)
    record = load_model(DerivedTable.open(out).info.settings["model_uri"]).record
    assert record.token_length is not None
    plain = Table.open(tables[0])
    prompt = "a long prompt " * 10
    tokens = round(len(prompt) / record.token_length)
    prompted = Table.open(tables[0])
    prompted.encoder = plain.encoder.model_copy(update={"prompt": prompt})
    text, count = "how do i reset my password", 8
    assert LanguageCheck(prompted, AnswerSettings(), record).unknown([text], [count + tokens]) == [False]
    assert LanguageCheck(plain, AnswerSettings(), record).unknown([text], [count + tokens]) == [True]


def test_letters_beyond_ascii_are_noted_once() -> None:
    assert foreign_letters([pl.Series(["Größe?", "plain"]), pl.Series(["Straße ß“"])]) == "ßö"
