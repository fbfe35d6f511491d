"""The page of answers names each error by where it comes from."""

from sbert.apply.answers.model import AnswerModel, CurvePoint, FitQuality
from sbert.apply.answers.page import report_page
from sbert.apply.answers.report import AnswersReport
from sbert.derived.run import DerivedReport

QUALITY = FitQuality.model_construct(
    num_questions=150, num_unmatched=0, best_is_right=0.967, auroc=0.948, auroc_low=0.915, auroc_high=0.979, coverage=0.685,
    error=0.093, error_low=0.055, error_high=0.132, curve=(CurvePoint(promised_error=0.1, coverage=0.685, error=0.093),),
)  # fmt: skip


def page(quality: FitQuality | None, expected_error: float | None) -> str:
    report = AnswersReport.model_construct(
        output=DerivedReport.model_construct(num_rows=500, table_uri="q", table_version=0, encoder="e"),
        model=AnswerModel.model_construct(origin="labels" if quality else "fixed", quality=quality),
        num_answers=100, decisions={"answer": 370, "clarify": 0, "abstain": 130}, reasons={"unsure": 130},
        expected_error=expected_error, num_unused=0, unused=(), unanswered=(), report_uri="r",
    )  # fmt: skip
    return report_page(report, 0.1)


def test_promised_measured_and_expected_errors_stand_side_by_side() -> None:
    html = page(QUALITY, 0.084)
    rows = [line for line in html.splitlines() if line.startswith("<tr><td") and "share" in line]
    names = ("promised<", "at most 10.0%"), ("measured<", "9.3% [5.5%, 13.2%]"), ("expected in this run<", "8.4%")
    for (name, value), row in zip(names, (row for row in rows if "where it comes from" in row), strict=True):
        assert name in row
        assert value in row
    assert '<div class="verdict">74% of 500 questions are answered.</div>' in html
    assert "They differ because they are about different questions." in html


def test_without_labels_nothing_is_measured() -> None:
    html = page(None, None)
    assert "at most 10.0%" in html
    assert "measured" not in html
    assert "They differ" not in html
