"""Reports: every text from outside is escaped, in HTML and in Markdown."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from sbert.evaluation.bias import Association
from sbert.evaluation.evaluate import EncoderEvaluation, MetricValue, SetEvaluation
from sbert.evaluation.geometry import Geometry
from sbert.pages.page import page_style
from sbert.registry.version_record import LabelsRecord, VersionRecord
from sbert.retrain.gate import Decision, MetricComparison
from sbert.retrain.judge import Judgement
from sbert.retrain.report_page import report_html
from sbert.retrain.retrain_report import RetrainReport
from sbert.retrain.settings import RetrainSettings
from sbert.training.result import HistoryPoint, StopReason, TrainingResult, Trial
from tasks.announce_decision import report_markdown

EVIL = '<script>alert("x")</script>|`$x$'
GEOMETRY = Geometry(num_texts=9, mean_cosine=0.1, effective_rank=5.0, uniformity=-2.0)


def evaluation() -> EncoderEvaluation:
    value = MetricValue(value=0.5, low=0.4, high=0.6, num_rows=30)
    evaluated_set = SetEvaluation(
        name=EVIL, kind="classes", fingerprint="rows", num_rows=30, primary_metric="accuracy", metrics={"accuracy": value},
        slices={f"label: {EVIL}": value}, robustness={"clean": value, "typos": value.model_copy(update={"value": 0.31, "low": 0.29})},
    )  # fmt: skip
    bias = [Association(name="flowers", effect_size=1.0, p_value=0.01)]
    return EncoderEvaluation(
        model=EVIL, fingerprint="f" * 64, dim=8, sets={EVIL: evaluated_set}, geometry=GEOMETRY, bias=bias, speed=None
    )


def decision() -> Decision:
    comparison = MetricComparison(
        set_name=EVIL, metric="accuracy", before=0.5, after=0.6, gain=0.1, low=0.05, high=0.15, num_rows=30,
        rows_fingerprint="rows",
    )  # fmt: skip
    regression = comparison.model_copy(update={"tolerance": 0.005, "set_name": "sts"})
    return Decision(
        promoted=True, reasons=[EVIL], primary=comparison, regression_sets=[regression], geometry_before=GEOMETRY,
        geometry_after=GEOMETRY, production_fingerprint="p" * 64, candidate_fingerprint="c" * 64,
    )  # fmt: skip


def training() -> TrainingResult:
    history = tuple(HistoryPoint(step, step / 10, {"loss": 1 / step, "dev": 0.5 + step / 100}) for step in range(1, 9))
    return TrainingResult(
        folder="x", stop_reason=StopReason.COMPLETED, dev_before=0.5, dev_best=0.58, best_step=8, num_steps=8,
        num_trainable=1, num_parameters=2, num_tokens=3, seconds=1.0, rows_per_second=2.0, tokens_per_second=3.0,
        history=history,
    )  # fmt: skip


LABELS = LabelsRecord(uri=EVIL, kind="classes", fingerprint="l" * 64, counts={"train": 9})


def record() -> VersionRecord:
    return VersionRecord(
        version="v0002", encoder_fingerprint="c" * 64, dim=8, base=EVIL, run_id=EVIL, labels=LABELS,
        settings=RetrainSettings().model_dump(mode="json"), decision=decision().model_dump(mode="json"),
    )  # fmt: skip


def test_html_is_escaped_and_complete() -> None:
    stored = record()
    judgement = Judgement(decision=decision(), before=evaluation(), after=evaluation())
    html = report_html(stored, judgement, training())
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 8
    assert len(re.findall(r'src="data:image/png;base64,[A-Za-z0-9+/=]{500,}"', html)) == 2
    for expected in ("f" * 64, "0.6000", "+0.0500", "flowers", "v0002", "num_resamples"):
        assert expected in html
    assert 'src="http' not in html  # it needs nothing else
    robustness = (
        '<td class="n" data-name="candidate">0.3100</td><td class="n" data-name="its interval">[0.2900, 0.6000]</td>'
    )
    assert robustness in html


@pytest.mark.parametrize(
    ("promoted", "approval", "outcome", "mood"),
    [
        (True, "automatic", "promoted", "verdict good"),
        (True, "ask", "passed the gate, waits for a person", "verdict"),
        (False, "ask", "refused", "verdict bad"),
    ],
)
def test_the_page_says_what_became_of_the_candidate(promoted: bool, approval: str, outcome: str, mood: str) -> None:
    decided = decision().model_copy(update={"promoted": promoted})
    settings = RetrainSettings.model_validate({"gate": {"approval": approval}}).model_dump(mode="json")
    stored = record().model_copy(update={"settings": settings, "decision": decided.model_dump(mode="json")})
    html = report_html(stored, Judgement(decision=decided, before=evaluation(), after=evaluation()), training())
    assert f"<h1>v0002: {outcome}</h1>" in html
    assert f'<div class="{mood}">' in html
    assert page_style() in html


def test_metrics_say_which_way_is_better_and_settings_are_folded_away() -> None:
    html = report_html(record(), Judgement(decision=decision(), before=evaluation(), after=evaluation()), training())
    assert "accuracy ↑</td>" in html
    assert "mean cosine of random pairs ↓</td>" in html
    assert "<details><summary>Settings</summary><pre>" in html


def test_every_cell_but_the_first_names_its_column_so_that_a_narrow_screen_can_stack_them() -> None:
    html = report_html(record(), Judgement(decision=decision(), before=evaluation(), after=evaluation()), training())
    assert html.count("<tr><td>") == html.count("<tr>") - html.count("<thead><tr>")
    assert html.count("<td>") == html.count("<tr><td>")


def test_without_dev_rows_the_report_says_so() -> None:
    stored = VersionRecord(
        version="v0002", encoder_fingerprint="c" * 64, dim=8, base="b", run_id="r", labels=LABELS,
        settings=RetrainSettings().model_dump(mode="json"),
    )  # fmt: skip
    judgement = Judgement(decision=decision(), before=evaluation(), after=evaluation())
    history = tuple(HistoryPoint(step, step / 10, {"loss": 1 / step}) for step in range(1, 9))
    html = report_html(stored, judgement, replace(training(), dev_before=math.nan, dev_best=math.nan, history=history))
    assert "none, there are no dev rows: the last step is the candidate" in html
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html)


def retrained(**changes: Any) -> RetrainReport:
    fields: dict[str, Any] = {
        "promoted": True, "version": "v0002", "primary_metric": "accuracy", "before": 0.5, "after": 0.6, "reason": EVIL,
        "candidate": "v0002", "previous": "v0001", "model_uri": "m", "decision": decision(), "labels": LABELS,
        "num_new_objects": 1,
    }  # fmt: skip
    return RetrainReport(**fields | changes)


def test_markdown_is_escaped_and_has_pictures() -> None:
    markdown = report_markdown(retrained(), training(), 0.0)
    assert "<script" not in markdown
    assert "&lt;script&gt;" in markdown
    assert markdown.count("](data:image/png;base64,") == 2
    assert "0.5000 → 0.6000 | +0.1000, +0.0500 to +0.1500 |" in markdown


@pytest.mark.parametrize(
    ("changes", "heading"),
    [
        ({}, "# Promoted: v0002"),
        ({"promoted": False, "version": "v0001"}, "# Refused: v0002"),
        ({"promoted": False, "version": "v0001", "candidate": None}, "# Refused: no new model"),
        ({"promoted": False, "decided_before": True}, "# Nothing new: v0002 stays"),
    ],
)
def test_the_heading_says_what_became_of_production(changes: dict[str, Any], heading: str) -> None:
    assert report_markdown(retrained(**changes), None, 0.0).startswith(heading + "\n")


TRIALS = (
    Trial(1, {"learning_rate": 2e-5, "batch_size": 32}, "completed", 0.81234, 12.0, is_best=True),
    Trial(2, {"learning_rate": 1.23456e-4, "batch_size": 16}, "stopped", None, 3.5, reason=EVIL),
)


def test_both_reports_show_all_trials_of_a_search() -> None:
    searched = replace(training(), trials=TRIALS)
    judgement = Judgement(decision=decision(), before=evaluation(), after=evaluation())
    for shown in (report_html(record(), judgement, searched), report_markdown(retrained(trials=TRIALS), searched, 0.0)):
        for expected in ("Search of settings", "1 (best)", "0.8123", "learning_rate 0.000123, batch_size 16"):
            assert expected in shown
        assert "<script" not in shown
    assert "Search of settings" not in report_html(record(), judgement, training())
