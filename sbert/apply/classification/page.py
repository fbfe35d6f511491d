"""The report of a classification for people."""

from collections.abc import Sequence

import numpy as np

from sbert.apply.classification.quality import HeadQuality, Share
from sbert.apply.classification.rules_effect import RulesEffect
from sbert.apply.classification.settings import ClassificationSettings
from sbert.apply.classification.task_report import TaskReport
from sbert.derived.run import DerivedReport
from sbert.pages.page import PageTable, Section, Verdict, render_page
from sbert.pages.pictures import BLUE, GREY, ORANGE, Picture, as_picture, new_axes, plain

__all__ = ["REPORT_NAME", "report_page"]

REPORT_NAME = "classification.html"
MAX_CLASSES = 20
"""Classes in pictures; tables hold all."""
MAX_LABEL = 24


def report_page(output: DerivedReport, tasks: Sequence[TaskReport], settings: ClassificationSettings) -> str:
    """Return the page as HTML."""
    facts = {
        "Output": f"{output.out_uri} version {output.version}",
        "Table": f"{output.table_uri} version {output.table_version}",
        "Encoder": output.encoder,
        "Rows": f"{output.num_rows:,}, of which {output.num_rows_built:,} were classified in this run",
    }
    refused = [task for task in tasks if task.head.refused is not None]
    verdict = (
        Verdict(
            f"A new head was refused, the one before stays: {'; '.join(task.head.reason for task in refused)}", "bad"
        )
        if refused
        else Verdict("; ".join(_summary(task) for task in tasks), "good")
    )
    sections = [section for task in tasks for section in _task_sections(task, settings, is_alone=len(tasks) == 1)]
    return render_page("Classes of the rows", facts, sections, verdict=verdict)


def _summary(task: TaskReport) -> str:
    name = f"{task.head.task}: " if task.head.task else ""
    answered = 1 - task.now.num_abstained / max(1, task.now.num_rows)
    return f"{name}{len(task.now.classes):,} classes in the output, {answered:.1%} of the rows answered ({task.head.reason})"


def _task_sections(task: TaskReport, settings: ClassificationSettings, *, is_alone: bool) -> list[Section]:
    prefix = "" if is_alone else f"{task.head.task}: "
    quality = task.head.quality
    sections = [_shares_section(prefix, task)]
    if quality is None:
        note = "There are no held-out rows: name test rows, or raise labels.test_share."
        return [*sections, Section(f"{prefix}Quality", [note])]
    head = settings.head
    paragraphs = [
        f"Measured on {quality.num_rows:,} labelled rows that the head has not seen. Brackets hold 95 % intervals. "
        f"Labels: {task.head.labels}.",
        f"The head is {task.head.kind} with strength {task.head.strength:g}, fitted on {task.head.num_labels:,} rows; "
        f"{task.head.reason}.",
    ]
    values = [
        ["accuracy ↑", _shown(quality.accuracy), ""],
        ["macro-F1 ↑", _shown(quality.macro_f1), ""],
        ["calibration error ↓", f"{quality.calibration_error:.3f}", ""],
        ["sets that hold the true class", _shown(quality.set_coverage), f"{head.coverage:.0%} promised"],
        ["classes in a set ↓", f"{quality.mean_set_size:.2f}", ""],
        ["rows answered ↑", _shown(quality.answered), ""],
        ["wrong among the answered ↓", _shown(quality.answered_error), f"at most {head.promised_error:.0%} promised"],
    ]
    sections.append(
        Section(
            f"{prefix}Quality",
            paragraphs,
            pictures=[_reliability(quality), _risk(quality, head.promised_error)],
            tables=[PageTable(["measure", "value", "promise"], values)],
        )
    )
    if task.head.rules is not None:
        sections.append(_rules_section(prefix, task, task.head.rules))
    sections.append(_class_section(prefix, quality))
    if quality.groups:
        sections.append(_group_section(prefix, quality))
    wrong = [[row.text[:300], row.truth, row.predicted, f"{row.probability:.3f}"] for row in quality.wrong]
    columns = ["text", "true class", "named", "probability"]
    sections.append(
        Section(
            f"{prefix}Most surely wrong",
            ["Look at these first: some may be labelled wrongly."],
            tables=[PageTable(columns, wrong, text_columns=["true class", "named"])] if wrong else [],
        )
    )
    tried = [[str(item["kind"]), f"{item['strength']:g}", f"{item['macro_f1']:.4f}"] for item in task.head.tried]
    if tried:
        choice = Section("Settings that were tried", tables=[PageTable(["kind", "strength", "macro-F1 ↑"], tried)])
        sections.append(
            Section(f"{prefix}How it was chosen", ["By cross-validation on the labelled rows."], parts=[choice])
        )
    return sections


def _shares_section(prefix: str, task: TaskReport) -> Section:
    rows = []
    for label, count in task.now.classes.items():
        share = task.now.share(label)
        change = "" if task.before is None else f"{100 * (share - task.before.share(label)):+.2f}"
        rows.append([label, f"{count:,}", f"{100 * share:.2f}", change])
    gone = [label for label in (task.before.classes if task.before else {}) if label not in task.now.classes]
    rows += [[label, "0", "0.00", f"{-100 * task.before.share(label):+.2f}"] for label in gone if task.before]
    abstained = task.now.num_abstained
    note = (
        f"The head abstains on {abstained:,} of {task.now.num_rows:,} rows; here they count by their likeliest class."
    )
    return Section(
        f"{prefix}Classes of the rows",
        [note],
        tables=[PageTable(["class", "rows", "share, %", "change since the last run, points"], rows)],
    )


def _class_section(prefix: str, quality: HeadQuality) -> Section:
    rows = [
        [item.label, f"{item.num_rows:,}", _shown(item.precision), _shown(item.recall), _shown(item.f1)]
        for item in quality.classes
    ]
    columns = ["class", "rows", "precision ↑", "recall ↑", "F1 ↑"]
    return Section(f"{prefix}Class by class", pictures=[_confusion(quality)], tables=[PageTable(columns, rows)])


def _rules_section(prefix: str, task: TaskReport, rules: RulesEffect) -> Section:
    paragraphs = [
        f"Rules gave a class to {rules.num_weak_rows:,} rows without a label, which the head learned from. "
        f"In the output {task.now.num_by_rules:,} of {task.now.num_rows:,} rows have another class because of rules "
        f"(column by_rules), of the held-out rows {rules.num_changed:,}.",
        f"Macro-F1 without rules is {_shown(rules.without_rules)}; rules change it by {_signed(rules.gain)}.",
    ]
    rows = [
        [item.label, f"{item.num_rules:,}", f"{item.num_matches:,}", f"{item.coefficient:+.2f}"]
        for item in rules.coefficients
    ]
    columns = ["class", "rules", "held-out rows that match", "coefficient"]
    return Section(f"{prefix}Effect of rules", paragraphs, tables=[PageTable(columns, rows)])


def _group_section(prefix: str, quality: HeadQuality) -> Section:
    rows = [
        [f"{item.column} = {item.value}", f"{item.num_rows:,}", _shown(item.error), _shown(item.abstained),
         f"{item.gap.value:+.3f} [{item.gap.low:+.3f}, {item.gap.high:+.3f}]"]
        for item in quality.groups
    ]  # fmt: skip
    columns = ["group", "rows", "error ↓", "abstained", "error minus that of all others"]
    return Section(f"{prefix}Group by group", tables=[PageTable(columns, rows)])


def _reliability(quality: HeadQuality) -> Picture:
    figure, axes = new_axes(3.2, x="probability of the named class", y="share that is right")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="exact")
    axes.plot(*zip(*[(mean, right) for mean, right, _ in quality.reliability], strict=True), "o-", color=BLUE,
              markersize=4, label="measured")  # fmt: skip
    axes.legend(fontsize=8.5, frameon=False)
    return as_picture(
        figure, "Reliability", "Each point holds as many held-out rows; on the dashed line probabilities are exact."
    )


def _risk(quality: HeadQuality, promised: float) -> Picture:
    figure, axes = new_axes(3.2, x="share of rows answered", y="wrong among them")
    axes.plot(*zip(*quality.risk, strict=True), color=BLUE, linewidth=1.4)
    axes.axhline(promised, color=ORANGE, linestyle="--", linewidth=1, label=f"promised {promised:.0%}")
    axes.axvline(quality.answered.value, color=GREY, linestyle=":", linewidth=1.2, label="answered now")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8.5, frameon=False)
    return as_picture(figure, "Coverage against error", "Rows are answered from the surest down.")


def _confusion(quality: HeadQuality) -> Picture:
    counts = np.array(quality.confusion)
    largest = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:MAX_CLASSES])
    counts = counts[np.ix_(largest, largest)]
    labels = [plain(quality.classes[at].label) for at in largest.tolist()]
    names = [label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…" for label in labels]
    figure, axes = new_axes(1.5 + 0.28 * max(4, len(names)), x="named class", y="true class")
    axes.grid(visible=False)
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7.5)
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    for row, column in np.argwhere(counts > 0).tolist():
        dark = counts[row, column] > 0.5 * counts[row].sum()
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=7,
                  color="white" if dark else "black")  # fmt: skip
    shown = f"The {len(names)} largest of {len(quality.classes)} classes. " if len(names) < len(quality.classes) else ""
    return as_picture(figure, "Confusion", f"{shown}Held-out rows of each true class by the class that was named.")


def _signed(share: Share | None) -> str:
    return "" if share is None else f"{share.value:+.3f} [{share.low:+.3f}, {share.high:+.3f}]"


def _shown(share: Share | None) -> str:
    return "" if share is None else f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
