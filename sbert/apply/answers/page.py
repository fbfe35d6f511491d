"""The report of answers as one HTML page."""

from sbert.apply.answers.model import FitQuality
from sbert.apply.answers.report import AnswersReport
from sbert.counted import counted
from sbert.pages.page import PageTable, Section, Verdict, render_page
from sbert.pages.pictures import BLUE, GREY, Picture, as_picture, legend_below, new_axes
from sbert.storage.files import base_name

__all__ = ["report_page"]

MAX_CHARACTERS = 200


def report_page(report: AnswersReport, promised_error: float) -> str:
    """Return the page of a run."""
    output, model, quality = report.output, report.model, report.model.quality
    total = max(sum(report.decisions.values()), 1)
    properties = {
        "questions": f"{output.num_rows:,} ({output.table_uri}, version {output.table_version})",
        "answers": f"{report.num_answers:,}",
        "encoder": output.encoder,
        "model": "fitted to labels"
        if model.origin == "labels"
        else "fixed weights, no labels: probabilities are a guess",
    }
    sections = [_decisions(report, total), _errors(report, promised_error)]
    if quality is not None:
        sections.append(_quality(quality))
    sections += [_unanswered(report), _unused(report)]
    share = report.decisions["answer"] / total
    return render_page(
        "Answers", properties, sections, verdict=Verdict(f"{share:.0%} of {counted(total, 'question')} are answered.")
    )


def _errors(report: AnswersReport, promised_error: float) -> Section:
    """Return the errors that the page shows, each with its origin."""
    quality = report.model.quality
    rows = [
        ["promised", f"at most {promised_error:.1%}", "the setting promised_error: wrong ones among the given answers"]
    ]
    if quality is not None:
        rows.append(
            [
                "measured",
                f"{quality.error:.1%} [{quality.error_low:.1%}, {quality.error_high:.1%}]",
                f"wrong ones among the answers to {counted(quality.num_questions, 'labelled question')} "
                "(cross-validation, 95 % interval), each asked again with its own answer held out",
            ]
        )
    if report.expected_error is not None:
        rows.append(
            [
                "expected in this run",
                f"{report.expected_error:.1%}",
                "mean of 1 minus probability over the answers of this run, to other questions than the labelled ones",
            ]
        )
    note = (
        "Three errors are named here. They differ because they are about different questions." if len(rows) > 2 else ""
    )
    table = PageTable(["error", "share", "where it comes from"], rows, text_columns=["where it comes from"])
    return Section("Errors", [note] if note else [], tables=[table])


def _decisions(report: AnswersReport, total: int) -> Section:
    rows = [[name, f"{count:,}", f"{count / total:.1%}"] for name, count in report.decisions.items()]
    reasons = [[name, f"{count:,}", f"{count / total:.1%}"] for name, count in report.reasons.items()]
    tables = [PageTable(["decision", "questions", "share"], rows)]
    if reasons:
        tables.append(PageTable(["reason", "questions", "share"], reasons, caption="Why questions are not answered"))
    return Section("Decisions", tables=tables)


def _quality(quality: FitQuality) -> Section:
    paragraphs = [
        f"Measured by cross-validation on {counted(quality.num_questions, 'labelled question')}, each with all answers "
        "and with its own held out. The calibration had not seen these questions; the weights of the score had. The best "
        f"answer is right for {quality.best_is_right:.1%} of them.",
        f"AUROC of right against wrong or missing answers: {quality.auroc:.3f} "
        f"(95 % interval {quality.auroc_low:.3f} to {quality.auroc_high:.3f}).",
        f"At the promise of this run {quality.coverage:.1%} are answered; {quality.error:.1%} of the answers are wrong.",
    ]
    rows = [[f"{each.promised_error:.0%}", f"{each.error:.1%}", f"{each.coverage:.1%}"] for each in quality.curve]
    table = PageTable(
        ["promised error", "measured error", "questions answered"], rows, caption="Measured error at other promises"
    )
    return Section("Error and coverage on labelled questions", paragraphs, pictures=[_curve(quality)], tables=[table])


def _curve(quality: FitQuality) -> Picture:
    figure, axes = new_axes(x="share of labelled questions answered (0 to 1)", y="wrong among the answers")
    axes.plot([each.coverage for each in quality.curve], [each.error for each in quality.curve], "o-", color=BLUE,
              label="measured, one point for each promise")  # fmt: skip
    axes.axhline(
        quality.error, color=GREY, linestyle=":", label=f"measured at the promise of this run: {quality.error:.1%}"
    )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    legend_below(figure, 1)
    return as_picture(figure, "Coverage", "More answers cost more errors.")


def _unanswered(report: AnswersReport) -> Section:
    rows = [
        [f"{group.num_questions:,}", _short(group.text), f"{group.id} of {base_name(group.source)}"]
        for group in report.unanswered
    ]
    table = PageTable(["questions", "typical question", "its row"], rows, text_columns=["typical question", "its row"])
    paragraph = "Questions without an answer, grouped by meaning. An answer to the first groups helps most people."
    return Section("Most frequent questions without an answer", [paragraph], tables=[table] if rows else [])


def _unused(report: AnswersReport) -> Section:
    rows = [[each.id, base_name(each.source), _short(each.text)] for each in report.unused]
    table = PageTable(["id", "source", "text"], rows, text_columns=["source", "text"])
    paragraph = (
        f"{report.num_unused:,} of {counted(report.num_answers, 'answer')} are the best of no answered question."
    )
    return Section("Answers that are never used", [paragraph], tables=[table] if rows else [])


def _short(text: str | None) -> str:
    if text is None:
        return "unknown"
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
