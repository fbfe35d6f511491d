"""The report of answers as one HTML page."""

from sbert.apply.answers.model import FitQuality
from sbert.apply.answers.report_facts import AnswersReport
from sbert.pages.page import PageTable, Section, Verdict, render_page
from sbert.pages.pictures import BLUE, GREY, Picture, as_picture, new_axes

__all__ = ["report_page"]

MAX_CHARACTERS = 200


def report_page(report: AnswersReport, promised_error: float) -> str:
    """Return the page of a run."""
    output, model, quality = report.output, report.model, report.model.quality
    total = max(sum(report.decisions.values()), 1)
    facts = {
        "questions": f"{output.num_rows:,} ({output.table_uri}, version {output.table_version})",
        "answers": f"{report.num_answers:,}",
        "encoder": output.encoder,
        "promised error": f"{promised_error:.0%}",
        "model": "fitted to labels"
        if model.origin == "labels"
        else "fixed weights, no labels: probabilities are a guess",
    }
    sections = [_decisions(report, total)]
    if quality is not None:
        sections.append(_quality(quality))
    sections += [_unanswered(report), _unused(report)]
    share = report.decisions["answer"] / total
    text = f"{share:.0%} of the questions are answered"
    if report.expected_error is not None:
        text += f", with an expected error of {report.expected_error:.1%} (promised: {promised_error:.0%})"
    return render_page("Answers", facts, sections, verdict=Verdict(f"{text}."))


def _decisions(report: AnswersReport, total: int) -> Section:
    rows = [[name, f"{count:,}", f"{count / total:.1%}"] for name, count in report.decisions.items()]
    reasons = [[name, f"{count:,}", f"{count / total:.1%}"] for name, count in report.reasons.items()]
    tables = [PageTable(["decision", "questions", "share"], rows)]
    if reasons:
        tables.append(PageTable(["reason", "questions", "share"], reasons, caption="Why questions are not answered"))
    return Section("Decisions", tables=tables)


def _quality(quality: FitQuality) -> Section:
    paragraphs = [
        f"Measured by cross-validation on {quality.num_questions:,} labelled questions, each with all answers and with its "
        "own held out. The calibration had not seen these questions; the weights of the score had. The best answer is right "
        f"for {quality.best_is_right:.1%} of them.",
        f"AUROC of right against wrong or missing answers: {quality.auroc:.3f} "
        f"(95 % interval {quality.auroc_low:.3f} to {quality.auroc_high:.3f}).",
        f"Error of the given answers: {quality.error:.1%} (95 % interval {quality.error_low:.1%} to "
        f"{quality.error_high:.1%}) at a coverage of {quality.coverage:.1%}.",
    ]
    rows = [[f"{each.promised_error:.0%}", f"{each.error:.1%}", f"{each.coverage:.1%}"] for each in quality.curve]
    table = PageTable(["promised error", "error", "questions answered"], rows, caption="Error by promise")
    return Section("Error and coverage", paragraphs, pictures=[_curve(quality)], tables=[table])


def _curve(quality: FitQuality) -> Picture:
    figure, axes = new_axes(x="share of questions answered", y="share of wrong answers")
    axes.plot([each.coverage for each in quality.curve], [each.error for each in quality.curve], "o-", color=BLUE)
    axes.axhline(quality.error, color=GREY, linestyle=":")
    axes.set_xlim(0, 1)
    return as_picture(figure, "Coverage", "More answers cost more errors; the dotted line is the error now.")


def _unanswered(report: AnswersReport) -> Section:
    rows = [
        [f"{group.num_questions:,}", _short(group.text), f"{group.id} in {group.source}"] for group in report.unanswered
    ]
    table = PageTable(["questions", "in the middle", "row"], rows, text_columns=["in the middle", "row"])
    paragraph = "Questions without an answer, grouped by meaning. An answer to the first groups helps most people."
    return Section("Most frequent questions without an answer", [paragraph], tables=[table] if rows else [])


def _unused(report: AnswersReport) -> Section:
    rows = [[each.id, each.source, _short(each.text)] for each in report.unused]
    table = PageTable(["id", "source", "text"], rows, text_columns=["source", "text"])
    paragraph = f"{report.num_unused:,} of {report.num_answers:,} answers are the best of no answered question."
    return Section("Answers that are never used", [paragraph], tables=[table] if rows else [])


def _short(text: str | None) -> str:
    if text is None:
        return "unknown"
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
