"""The report of a classification for people."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sbert.apply.classification.groups import ColumnAbstentions
from sbert.apply.classification.head_kinds import Quality
from sbert.apply.classification.multi_label_quality import MultiLabelQuality
from sbert.apply.classification.quality import HeadQuality, Share
from sbert.apply.classification.report import TaskReport
from sbert.apply.classification.search_use import SearchUse
from sbert.apply.classification.settings import ClassificationSettings, HeadKind, HeadSettings
from sbert.counted import counted
from sbert.derived.run import DerivedReport
from sbert.pages.page import PageTable, Section, Verdict, render_page
from sbert.pages.pictures import BLUE, GREY, ORANGE, Picture, as_picture, legend_below, new_axes, plain

__all__ = ["REPORT_NAME", "report_page"]

REPORT_NAME = "classification.html"
MAX_CLASSES = 20
"""Classes in pictures; tables hold all."""
MAX_LABEL = 24
MIN_PICTURE_ROWS = 30
"""Held-out rows below which curves show chance."""
ABOUT_LISTS = (
    "A row can have several classes, or none. A class is named where its probability reaches the threshold with the best F1 "
    "on rows that the head had not seen. The head answers where the whole list of a row is surely enough right."
)


def report_page(output: DerivedReport, tasks: Sequence[TaskReport], settings: ClassificationSettings) -> str:
    """Return the page as HTML."""
    properties = {
        "Output": f"{output.out_uri} version {output.version}",
        "Table": f"{output.table_uri} version {output.table_version}",
        "Encoder": output.encoder,
        "Rows": f"{output.num_rows:,}, of which this run classified {output.num_rows_built:,}",
    }
    sections = [section for task in tasks for section in _task_sections(task, settings, is_alone=len(tasks) == 1)]
    return render_page("Classes of the rows", properties, sections, verdict=_verdict(tasks, settings))


def _verdict(tasks: Sequence[TaskReport], settings: ClassificationSettings) -> Verdict:
    """Return the verdict and its mood: bad for a head that answers nothing, neutral for one that answers few rows."""
    promised = settings.head.promised_error
    refused = [task for task in tasks if task.head.refused is not None]
    if refused:
        reasons = "; ".join(task.head.reason for task in refused)
        return Verdict(f"A new head was refused, the one before stays: {reasons}", "bad")
    silent = any(task.silence(promised) for task in tasks)
    warnings = dict.fromkeys(task.head.warning for task in tasks if task.head.warning)
    many = all(2 * task.now.num_abstained <= task.now.num_rows for task in tasks)
    text = ". ".join(["; ".join(_summary(task, promised) for task in tasks), *warnings])
    return Verdict(text, "bad" if silent else "good" if many and not warnings else "")


def _summary(task: TaskReport, promised: float) -> str:
    name = f"{task.head.task}: " if task.head.task else ""
    answered = task.now.num_rows - task.now.num_abstained
    share = answered / max(1, task.now.num_rows)
    if silence := task.silence(promised):
        return f"{name}{silence}"
    return (
        f"{name}{share:.1%} of {counted(task.now.num_rows, 'row')} are answered, with "
        f"{counted(len(task.now.classes), 'class', 'classes')}; on the others the head abstains, so that at most "
        f"{100 * promised:g}% of the answers are wrong ({task.head.reason})"
    )


def _task_sections(task: TaskReport, settings: ClassificationSettings, *, is_alone: bool) -> list[Section]:
    prefix = "" if is_alone else f"{task.head.task}: "
    quality = task.head.quality
    sections = [_shares_section(prefix, task)]
    if quality is None:
        note = "There are no held-out rows: name test rows, or raise labels.test_share."
        sections.append(Section(f"{prefix}Quality", [note, *_about_labels(task), task.head.told_kind()]))
        if task.head.rules_use is not None:
            sections.append(Section(f"{prefix}Rules", [task.head.rules_use.told()]))
        return [*sections, *_group_sections(prefix, task, settings)]
    head = settings.head
    paragraphs = [
        f"Measured on {counted(quality.num_rows, 'labelled row')} that the head has not seen. Brackets hold 95 % intervals. "
        f"Labels: {task.head.labels}.",
        *_about_labels(task),
        task.head.told_kind(),
    ]
    if isinstance(quality, MultiLabelQuality):
        paragraphs.append(ABOUT_LISTS)
    is_small = quality.num_rows < MIN_PICTURE_ROWS
    if is_small:
        paragraphs.append(
            f"These are too few rows for pictures ({MIN_PICTURE_ROWS} are needed), and too few to say much: look at the "
            "intervals. Name more test rows, or raise labels.test_share."
        )
    values = [
        *(_values_of_lists(quality, head) if isinstance(quality, MultiLabelQuality) else _values(quality, head)),
        ["rows answered ↑", _shown(quality.answered), ""],
        [
            "wrong lists among the answered ↓" if task.head.is_multi_label else "wrong among the answered ↓",
            _shown(quality.answered_error),
            f"at most {head.promised_error:.0%} promised",
        ],
    ]
    error = "too few rows" if is_small else f"{quality.calibration_error:.3f}"
    values.insert(3 if task.head.is_multi_label else 2, ["calibration error ↓", error, ""])
    sections.append(
        Section(
            f"{prefix}Quality",
            paragraphs,
            pictures=[] if is_small else [_reliability(quality), _risk(quality, head.promised_error)],
            tables=[PageTable(["measure", "value", "promise"], values)],
        )
    )
    if task.head.rules_use is not None or task.head.rules is not None:
        sections.append(_rules_section(prefix, task))
    sections.append(_class_section(prefix, quality))
    sections += _group_sections(prefix, task, settings)
    sections.append(_wrong_section(prefix, quality))
    return [*sections, *_choice_sections(prefix, task)]


def _values(quality: HeadQuality, head: HeadSettings) -> list[list[str]]:
    return [
        ["accuracy ↑", _shown(quality.accuracy), ""],
        ["macro-F1 ↑", _shown(quality.macro_f1), ""],
        ["sets that hold the true class", _shown(quality.set_coverage), f"{head.coverage:.0%} promised"],
        ["classes in a set ↓", f"{quality.mean_set_size:.2f}", ""],
    ]


def _values_of_lists(quality: MultiLabelQuality, head: HeadSettings) -> list[list[str]]:
    promised = f"{head.coverage:.0%} promised"
    return [
        ["rows whose whole list is right ↑", _shown(quality.subset_accuracy), ""],
        ["micro-F1 ↑", _shown(quality.micro_f1), ""],
        ["macro-F1 ↑", _shown(quality.macro_f1), ""],
        ["true classes that are possible", _shown(quality.possible_coverage), promised],
        ["possible classes of a row ↓", f"{quality.mean_possible:.2f}", ""],
    ]


def _wrong_section(prefix: str, quality: Quality) -> Section:
    if isinstance(quality, MultiLabelQuality):
        columns = ["text", "true classes", "named", "probability of the list"]
        wrong = [
            [row.text[:300], ", ".join(row.truth) or "none", ", ".join(row.named) or "none", f"{row.probability:.3f}"]
            for row in quality.wrong
        ]
    else:
        columns = ["text", "true class", "named", "probability"]
        wrong = [[row.text[:300], row.truth, row.predicted, f"{row.probability:.3f}"] for row in quality.wrong]
    return Section(
        f"{prefix}Most surely wrong",
        ["Look at these first: some may be labelled wrongly."],
        tables=[PageTable(columns, wrong, text_columns=columns[1:3])] if wrong else [],
    )


def _choice_sections(prefix: str, task: TaskReport) -> list[Section]:
    """Return the settings that were tried, and the words that tell the classes apart; nothing where there was no choice."""
    head = task.head
    if not head.tried:
        return []
    parts = [Section("Settings that were tried", tables=[_tried_table(head.tried, head.search)])]
    paragraphs = ["By cross-validation on the labelled rows.", head.told_words()]
    if head.search is not None:
        paragraphs.append(head.search.told())
    if head.speaking:
        speaking = [[label, ", ".join(terms)] for label, terms in head.speaking.items()]
        columns = ["class", "words that speak most for it"]
        parts.insert(0, Section("Words", tables=[PageTable(columns, speaking, text_columns=[columns[1]])]))
    return [Section(f"{prefix}How it was chosen", paragraphs, parts=parts)]


def _tried_table(tried: Sequence[Mapping[str, float | str]], search: SearchUse | None) -> PageTable:
    """Return the settings that were tried; after a search with its trials and with all that a trial changes."""
    columns: dict[str, Callable[[Mapping[str, float | str]], str]] = {
        "kind": lambda item: str(item["kind"]),
        "strength": lambda item: "" if item["kind"] == HeadKind.CLASSIFIER else f"{item['strength']:.3g}",
        "weight of words": lambda item: f"{item.get('words', 0):.3g}",
        "macro-F1 ↑": lambda item: _figure(item, "macro_f1", ".4f"),
    }
    text_columns: Sequence[str] = ()
    if search is not None:
        columns = {
            "tried": lambda item: _trial_name(item, search),
            **columns,
            "macro-F1 without words ↑": lambda item: _figure(item, "macro_f1_without_words", ".4f"),
            "strength of words": lambda item: _figure(item, "word_strength", ".3g"),
            "landmarks": lambda item: _figure(item, "num_landmarks", ",.0f"),
            "gamma": lambda item: _figure(item, "gamma", ".3g"),
            "outcome": lambda item: ": ".join(
                filter(None, [str(item.get("outcome", "")), str(item.get("reason", ""))])
            ),
        }
        text_columns = ["kind", "outcome"]
    rows = [[cell(item) for cell in columns.values()] for item in tried]
    return PageTable(list(columns), rows, text_columns=text_columns)


def _trial_name(item: Mapping[str, float | str], search: SearchUse) -> str:
    if "trial" not in item:
        return "beside the search" if item["kind"] == HeadKind.CLASSIFIER else "grid"
    return f"trial {item['trial']:.0f}{' (best)' if item['trial'] == search.best_trial else ''}"


def _figure(item: Mapping[str, float | str], name: str, form: str) -> str:
    return format(item[name], form) if name in item else ""


def _shares_section(prefix: str, task: TaskReport) -> Section:
    now, before = task.now, task.before
    ended = [label for label in (before.classes if before else {}) if label not in now.classes]
    rows = [
        [label, f"{now.classes.get(label, 0):,}", f"{100 * now.share(label):.2f}"] for label in [*now.classes, *ended]
    ]
    columns = ["class", "rows", "share, %"]
    if before is not None:
        rows = [[*row, f"{100 * (now.share(row[0]) - before.share(row[0])):+.2f}"] for row in rows]
        columns.append("change since the last run, points")
    abstained = f"The head abstains on {now.num_abstained:,} of {counted(now.num_rows, 'row')}"
    note = f"{abstained}; here they count by their likeliest class."
    if task.head.is_multi_label:
        note = (
            f"{abstained}; here they count with the classes that it gives them. {counted(now.num_without_class, 'row')} "
            "got no class. A row counts for each of its classes, so that shares can add up to more than 100 %."
        )
    return Section(f"{prefix}Classes of the rows", [note], tables=[PageTable(columns, rows)])


def _class_section(prefix: str, quality: Quality) -> Section:
    rows = [
        [item.label, f"{item.num_rows:,}", _shown(item.precision), _shown(item.recall), _shown(item.f1)]
        for item in quality.classes
    ]
    columns = ["class", "rows", "precision ↑", "recall ↑", "F1 ↑"]
    pictures = [] if isinstance(quality, MultiLabelQuality) else [_confusion(quality)]
    return Section(f"{prefix}Class by class", pictures=pictures, tables=[PageTable(columns, rows)])


def _rules_section(prefix: str, task: TaskReport) -> Section:
    use, rules = task.head.rules_use, task.head.rules
    told = [] if use is None else [use.told()]
    if rules is None:
        return Section(f"{prefix}Rules", told)
    learned = (
        f"Rules gave a class to {counted(rules.num_weak_rows, 'row')} without a label, which the head learned from. "
        if rules.num_weak_rows
        else ""
    )
    paragraphs = [
        *told,
        f"{learned}In the output {task.now.num_by_rules:,} of {counted(task.now.num_rows, 'row')} have another class "
        f"because of rules (column by_rules), of the held-out rows {rules.num_changed:,}.",
        f"Macro-F1 without rules is {_shown(rules.without_rules)}; rules change it by {_signed(rules.gain)}.",
    ]
    rows = [
        [item.label, f"{item.num_rules:,}", f"{item.num_matches:,}", f"{item.coefficient:+.2f}"]
        for item in rules.coefficients
    ]
    columns = ["class", "rules", "held-out rows that match", "coefficient"]
    return Section(f"{prefix}Rules", paragraphs, tables=[PageTable(columns, rows)])


def _group_sections(prefix: str, task: TaskReport, settings: ClassificationSettings) -> list[Section]:
    """Return errors and abstentions of held-out rows by group, then abstentions of all rows; nothing without groups."""
    sections = []
    quality = task.head.quality
    if quality is not None and settings.group_columns:
        rows = [
            [_group_name(item.column, item.value), f"{item.num_rows:,}", _shown(item.error), _shown(item.abstained),
             _signed(item.gap)]
            for item in quality.groups
        ]  # fmt: skip
        columns = ["group", "held-out rows", "error ↓", "abstained", "error minus that of all other groups"]
        notes = list(filter(None, (_about_missing(name, quality) for name in settings.group_columns)))
        tables = [PageTable(columns, rows)] if rows else []
        sections.append(Section(f"{prefix}Group by group", notes, tables=tables))
    if task.groups:
        rows = [
            [_group_name(of.column, group.value), f"{group.num_rows:,}", _shown(group.abstained)]
            for of in task.groups
            for group in of.groups
        ]
        notes = list(filter(None, map(_about_largest, task.groups)))
        table = PageTable(["group", "rows of the table", "abstained"], rows)
        sections.append(Section(f"{prefix}All rows by group", notes, tables=[table]))
    return sections


def _group_name(column: str, value: str) -> str:
    return f"{column} = {value}" if value else f"{column}: no value"


def _about_missing(column: str, quality: Quality) -> str:
    """Return how many held-out rows have no group of a column; empty where all have one."""
    missing = quality.num_rows - sum(item.num_rows for item in quality.groups if item.column == column)
    if not missing:
        return ""
    return (
        f"{missing:,} of {counted(quality.num_rows, 'held-out row')} have no group by {column}, since their texts are not "
        "in the table."
    )


def _about_largest(groups: ColumnAbstentions) -> str:
    if len(groups.groups) == groups.num_groups:
        return ""
    return f"The column {groups.column} has {groups.num_groups:,} values; the {len(groups.groups):,} largest are shown."


def _about_labels(task: TaskReport) -> list[str]:
    """Return how many labelled texts are in the table, in a sentence."""
    if task.head.in_table is None:
        return []
    return [f"{task.head.in_table.told()}."]


def _reliability(quality: Quality) -> Picture:
    figure, axes = new_axes(3.2, x="probability of the named class (0 to 1)", y="share that is right (0 to 1)")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="exact")
    axes.plot(*zip(*[(mean, right) for mean, right, _ in quality.reliability], strict=True), "o-", color=BLUE,
              markersize=4, label="measured")  # fmt: skip
    legend_below(figure)
    if isinstance(quality, MultiLabelQuality):
        about = (
            "Each point holds the decisions about a class and a row whose probability lies in one tenth of the range"
        )
    else:
        about = f"Each point holds about {counted(quality.num_rows // len(quality.reliability), 'held-out row')}"
    return as_picture(figure, "Reliability", f"{about}; on the dashed line probabilities are exact.")


def _risk(quality: Quality, promised: float) -> Picture:
    figure, axes = new_axes(3.2, x="share of held-out rows answered (0 to 1)", y="wrong among them (0 to 1)")
    axes.plot(*zip(*quality.risk, strict=True), color=BLUE, linewidth=1.4)
    axes.axhline(promised, color=ORANGE, linestyle="--", linewidth=1, label=f"promised {promised:.0%}")
    axes.axvline(quality.answered.value, color=GREY, linestyle=":", linewidth=1.2, label="answered now")
    axes.set_ylim(bottom=0)
    legend_below(figure)
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
