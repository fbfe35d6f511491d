"""Rules speak for classes: they are read strictly, label what nobody labelled, and never decide a class in silence."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sbert.apply.classification import heads
from sbert.apply.classification.fit import HeadRules, fit_head
from sbert.apply.classification.head import HEADS
from sbert.apply.classification.rules import Rule, read_rules, rule_features
from sbert.apply.classification.run import ClassificationReport, classify
from sbert.apply.classification.settings import ClassificationSettings, HeadKind, HeadSettings
from sbert.apply.classification.weak_labels import WeakLabels, find_weak_labels
from sbert.derived.derived_table import DerivedTable
from sbert.errors import ColumnError, LabelError
from sbert.table.delta import Table
from tests.sbert.apply.classification.blobs import ORIGIN, blobs
from tests.support.made_tables import make_version, unit_vector

QUICK = HeadSettings(kinds=(HeadKind.LINEAR,), strengths=(10.0,), num_folds=2, words=False)


@pytest.fixture(autouse=True)
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give each labelled text the vector of the number at its end; return how many texts each look-up asks for."""
    asked: list[int] = []

    def of_texts(_: Table, texts: list[str]) -> np.ndarray[Any, Any]:
        asked.append(len(texts))
        return np.array([unit_vector(int(text.split()[-1])) for text in texts], np.float32)

    monkeypatch.setattr(heads, "vectors_of_texts", of_texts)
    return asked


def rule(label: str, *terms: str, **fields: Any) -> Rule:
    return Rule.model_validate({"class": label, "terms": terms, **fields})


def write_rules(file: Path, *rules: dict[str, Any]) -> str:
    file.write_text("".join(json.dumps(item) + "\n" for item in rules))
    return str(file)


def test_terms_are_whole_words_in_any_case_and_the_surest_rule_of_a_class_counts() -> None:
    rules = [
        rule("b", "loss", "c++", weight=0.5),
        rule("b", "heavy loss"),
        Rule.model_validate({"class": "a", "pattern": "^up [0-9]+", "weight": 0.25}),
    ]
    texts = ["A LOSS.", "glossy", "heavy loss", "up 12 loss", "in C++, not c", None, "Up 12"]
    expected = [[0, 0.5], [0, 0], [0, 1], [0.25, 0.5], [0, 0.5], [0, 0], [0, 0]]
    np.testing.assert_array_equal(rule_features(rules, texts), np.array(expected, np.float32))


def test_a_pattern_that_would_take_forever_elsewhere_is_searched_in_linear_time() -> None:
    endless = Rule.model_validate({"class": "a", "pattern": "^(a+)+$"})
    assert rule_features([endless], ["a" * 50_000 + "b", "a" * 50_000]).tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"class": "c", "terms": ["x"]}, r"no labelled row has the class 'c' \(classes: a, b\): correct the rule"),
        ({"class": "a", "pattern": "("}, r"the pattern '\(' is no regular expression: unclosed group$"),
        ({"class": "a", "terms": ["x"], "weight": 1.5}, r"weight is 1\.5: input should be less than or equal to 1"),
        (
            {"class": "a", "terms": ["x"], "weight": -0.1},
            r"weight is -0\.1: input should be greater than or equal to 0",
        ),
        ({"class": "a", "terms": []}, "give either terms or pattern"),
        ({"class": "a", "terms": ["x"], "pattern": "x"}, "give either terms or pattern"),
        ({"class": "a", "terms": [" "]}, "a term is empty"),
        ({"terms": ["x"]}, "a rule needs the field class"),
        (
            {"class": "a", "terms": ["x"], "wieght": 1},
            "a rule has no field wieght, its fields are: class, terms, pattern, weight, task",
        ),
        ({"class": "a", "terms": ["x"], "task": "mood"}, "the task is 'mood', the tasks are: none, so leave task out"),
        (["a"], "a rule is an object"),
    ],
)
def test_a_bad_rule_is_named_by_its_line(tmp_path: Path, bad: Any, message: str) -> None:
    uri = write_rules(tmp_path / "rules.jsonl", {"class": "a", "terms": ["fine"]}, bad)
    with pytest.raises(LabelError, match=f"rules.jsonl, line 2: .*{message}"):
        read_rules(uri, "", ("",), ("a", "b"))


def test_a_rules_file_that_is_not_utf_8_is_named_by_its_line(tmp_path: Path) -> None:
    latin = '{"class": "a", "terms": ["fine"]}\n{"class": "b", "terms": ["Verlust für alle"]}\n'.encode("latin-1")
    (tmp_path / "rules.jsonl").write_bytes(latin)
    with pytest.raises(LabelError, match=r"rules.jsonl, line 2: this is not UTF-8 .*save the file as UTF-8"):
        read_rules(str(tmp_path / "rules.jsonl"), "", ("",), ("a", "b"))
    (tmp_path / "rules.jsonl").write_text('{"class": "a", "terms": ["one\u2028line"]}\n', "utf-8-sig")
    assert read_rules(str(tmp_path / "rules.jsonl"), "", ("",), ("a", "b"))[0].terms == ("one\u2028line",)


def test_rules_name_their_task_where_there_are_several(tmp_path: Path) -> None:
    mood = {"class": "a", "terms": ["x"], "task": "mood"}
    uri = write_rules(tmp_path / "rules.jsonl", mood, {"class": "z", "terms": ["x"], "task": "tone"})
    assert read_rules(uri, "mood", ("mood", "tone"), ("a", "b")) == (Rule.model_validate(mood),)
    with pytest.raises(LabelError, match=r"line 1: .* the tasks are: mood, tone"):
        read_rules(write_rules(tmp_path / "bad.jsonl", {"class": "a", "terms": ["x"]}), "mood", ("mood", "tone"), "ab")
    (tmp_path / "broken.jsonl").write_text('\n{"class": ')
    with pytest.raises(LabelError, match="line 2: this is not JSON"):
        read_rules(str(tmp_path / "broken.jsonl"), "", ("",), ("a", "b"))


def test_rules_label_rows_where_they_agree_and_nobody_labelled(tmp_path: Path) -> None:
    table = make_version(str(tmp_path / "table"), {"a": {str(number): number for number in range(30)}})
    texts = dict(table.scan().select("id", "kind").collect().iter_rows())
    rules = [rule("zero", "kind 0", weight=0.7), rule("zero", "kind 0", weight=0.2), rule("one", "kind 1")]
    weak = find_weak_labels(table, "kind", rules, pl.Series(["nothing"]), 100)
    assert weak is not None
    spoken = sorted((number for number in range(30) if number % 5 != 4 and number % 3 < 2), key=lambda n: n)
    assert weak.labels == [("zero", "one")[number % 3] for number in spoken]  # the hash is the number
    assert weak.weights_N.tolist() == [(0.7, 1.0)[number % 3] for number in spoken]
    np.testing.assert_allclose(weak.vectors_ND, [unit_vector(number) for number in spoken], atol=1e-6)
    capped = find_weak_labels(table, "kind", rules, pl.Series(["nothing"]), 4)
    assert capped is not None
    assert capped.labels == weak.labels[:4]
    labelled = find_weak_labels(table, "kind", rules, pl.Series([texts["0"]]), 100)
    assert labelled is not None
    assert set(labelled.labels) == {"one"}
    disagreeing = [*rules, rule("two", "kind")]
    assert find_weak_labels(table, "kind", disagreeing, pl.Series(["nothing"]), 100) is not None  # kind 2 alone
    assert find_weak_labels(table, "kind", [rules[0], rule("two", "kind 0")], pl.Series(["nothing"]), 100) is None
    assert find_weak_labels(table, "kind", [rule("zero", "kind 0", weight=0)], pl.Series(["nothing"]), 100) is None


def test_rules_tell_classes_that_vectors_cannot_and_silent_rules_change_nothing(tmp_path: Path) -> None:
    points, _ = blobs(200)
    labels = ["even" if number % 2 == 0 else "odd" for number in range(200)]
    texts = [f"the {label} one" if number % 4 else "nothing" for number, label in enumerate(labels)]
    rules = HeadRules((rule("even", "even"), rule("odd", "odd")), "text", texts)
    head = fit_head(points, labels, QUICK, ORIGIN, rules=rules)
    named = np.array(head.classes)[head.scores(points, texts).argmax(axis=1)]
    assert (named == labels)[np.arange(200) % 4 != 0].mean() > 0.95
    np.testing.assert_array_equal(head.scores(points, ["nothing"] * 200), head.scores(points))
    head.save(str(tmp_path))
    again = HEADS.find(str(tmp_path), "f" * 32)
    assert again is not None
    np.testing.assert_array_equal(again.scores(points, texts), head.scores(points, texts))


def test_rows_that_rules_labelled_are_learned_from_by_their_weight() -> None:
    points, labels = blobs(300, spread=0.3)
    weak = WeakLabels(points[40:], labels[40:], np.full(260, 0.9))
    none = WeakLabels(points[40:], labels[40:], np.full(260, 1e-9))
    heads_by_weight = [
        fit_head(
            points[:40], labels[:40], QUICK, ORIGIN,
            rules=weak_labels and HeadRules((rule("class 0", "never"),), "text", [""] * 40, weak_labels),
        )
        for weak_labels in (weak, none, None)
    ]  # fmt: skip
    assert heads_by_weight[0].record.num_weak_rows == 260
    assert heads_by_weight[0].confusion.sum() == 40  # nothing is measured on them
    np.testing.assert_allclose(heads_by_weight[1].weights_FC, heads_by_weight[2].weights_FC, atol=0.05)
    assert np.abs(heads_by_weight[0].weights_FC - heads_by_weight[2].weights_FC).max() > 0.5


def run(tmp_path: Path, settings: ClassificationSettings) -> ClassificationReport:
    return classify(str(tmp_path / "table"), str(tmp_path / "labels.jsonl"), str(tmp_path / "out"), settings)


def test_rows_whose_class_rules_changed_are_marked_and_the_effect_is_told(tmp_path: Path, lookups: list[int]) -> None:
    make_version(str(tmp_path / "table"), {"a": {str(number): number for number in range(1_000, 1_060)}})
    labelled = [
        {
            "text": f"{hashlib.sha256(str(number).encode()).hexdigest()} kind {number % 3} {number}",
            "label": "zero" if number % 3 == 0 else "up" if unit_vector(number)[0] > 0 else "down",
            "split": "test" if number % 4 == 0 else "train",
        }
        for number in range(400)
    ]
    write_rules(tmp_path / "labels.jsonl", *labelled)
    plain = run(tmp_path, ClassificationSettings(head=QUICK))
    rules_uri = write_rules(tmp_path / "rules.jsonl", {"class": "zero", "terms": ["kind 0"], "weight": 0.9})
    settings = ClassificationSettings(head=QUICK, rules_uri=rules_uri, text_column="kind", max_weak_rows=5)
    report = run(tmp_path, settings)
    assert lookups == [400, 400]  # each run asks once for all texts
    task = report.tasks[0]
    assert task.head.rules is not None
    assert task.head.rules.num_weak_rows == 5
    assert task.head.rules.coefficients[0].coefficient > 1
    assert task.head.rules.gain is not None
    assert task.head.rules.gain.low > 0.1
    rows = DerivedTable.open(report.output.out_uri).scan().collect()
    assert isinstance(rows, pl.DataFrame)
    changed = rows.filter("by_rules")
    assert 0 < changed.height == task.now.num_by_rules
    assert set(changed["label"]) == {"zero"}
    assert {int(name) % 3 for name in changed["id"]} == {0}
    page = Path(report.report_uri).read_text()
    assert "The head takes all that the rules give" in page
    assert run(tmp_path, settings).output.num_rows_built == 0
    worse = [{**row, "label": "up" if row["label"] == "down" else row["label"]} for row in labelled]
    worse = [row if row["split"] == "train" else old for row, old in zip(worse, labelled, strict=True)]
    write_rules(tmp_path / "labels.jsonl", *worse)
    refused = run(tmp_path, settings).tasks[0].head
    assert refused.refused is not None
    assert refused.rules is None  # the head before has other labels than any head without rules that is fitted now
    write_rules(tmp_path / "labels.jsonl", *labelled)
    back = run(tmp_path, ClassificationSettings(head=QUICK, tolerance=1))
    assert back.tasks[0].head.fingerprint == plain.tasks[0].head.fingerprint
    assert "by_rules" not in DerivedTable.open(back.output.out_uri).schema.names
    with pytest.raises(ColumnError, match=r"column 'text', which the table does not keep .*--keep-columns text"):
        run(tmp_path, ClassificationSettings(head=QUICK, rules_uri=rules_uri))
