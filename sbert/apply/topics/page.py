"""The report of topics for people: new topics, topics by group, and changes over time."""

from collections import defaultdict

import numpy as np

from sbert.apply.named_topics import group_name
from sbert.apply.topics.report import FIRST_RUN, TopicsReport
from sbert.apply.topics.report_figures import TopicSummary
from sbert.counted import counted
from sbert.pages.page import PageTable, Section, Verdict, render_page
from sbert.pages.pictures import SERIES, Picture, as_picture, date_axis, legend_below, new_axes, plain

__all__ = ["topics_page"]

NUM_LINES = 8
"""Topics in the picture over time."""
MAX_LABEL = 32
"""Characters of a topic's name in the legend: two columns fit into the picture."""


def topics_page(report: TopicsReport) -> str:
    """Return the page as HTML."""
    properties = {
        "table": f"{report.table_uri} version {report.table_version}",
        "rows": f"{report.num_rows:,}",
        "topics": f"{report.num_topics:,}",
        "outliers": f"{counted(report.num_outliers, 'row')} ({report.num_outliers / max(report.num_rows, 1):.1%})",
        "fitted in this run": report.refitted or "no",
    }
    if report.num_without_time:
        properties["without a time"] = f"{counted(report.num_without_time, 'row')}, in no period"
    sections = []
    new = [topic for topic in report.topics if topic.topic in report.new_topics]
    if new:
        sections.append(Section("New topics", tables=[_table(new)]))
    picture = _over_time(report)
    if picture is not None:
        sections.append(Section("Over time", pictures=[picture]))
    groups: dict[int, list[TopicSummary]] = defaultdict(list)
    for topic in report.topics:
        groups[topic.parent].append(topic)
    ordered = sorted(groups.items(), key=lambda item: -sum(topic.num_rows for topic in item[1]))
    parts = [
        Section(
            f"{group_name(parent, (topic.words for topic in topics))} ({_size(topics, report)})",
            tables=[_table(topics)],
        )
        for parent, topics in ordered
    ]
    sections.append(
        Section(
            "Topics by group",
            ["Each group holds topics that are near each other. The texts are those nearest to the topic's centroid."],
            parts=parts,
        )
    )
    return render_page("Topics", properties, sections, verdict=_verdict(report))


def _verdict(report: TopicsReport) -> Verdict:
    if report.new_topics:
        words = {topic.topic: ", ".join(topic.words[:2]) for topic in report.topics}
        named = [f"{topic} ({words[topic]})" if words.get(topic) else str(topic) for topic in report.new_topics]
        return Verdict(f"{counted(len(named), 'new topic')}: {', '.join(named)}.")
    if report.refitted == FIRST_RUN:
        return Verdict(f"{counted(report.num_topics, 'topic')} in {counted(report.num_rows, 'row')}.")
    return Verdict("No new topics.", "good")


def _size(topics: list[TopicSummary], report: TopicsReport) -> str:
    num_rows = sum(topic.num_rows for topic in topics)
    share = num_rows / max(report.num_rows, 1)
    return f"{counted(len(topics), 'topic')}, {counted(num_rows, 'row')}, {share:.0%}"


def _table(topics: list[TopicSummary]) -> PageTable:
    return PageTable(
        ("topic", "words", "rows", "share", "typical texts"),
        [
            (
                str(topic.topic),
                ", ".join(topic.words[:6]),
                f"{topic.num_rows:,}",
                f"{topic.share:.1%}",
                " · ".join(topic.texts),
            )
            for topic in topics
        ],
        text_columns=("words", "typical texts"),
    )


def _over_time(report: TopicsReport) -> Picture | None:
    """Return the rows of the largest topics in each period."""
    periods = sorted({str(item["period"]) for item in report.over_time})
    if len(periods) < 2:
        return None
    figure, axes = new_axes(3.2, y=f"rows of a {report.period}")
    rows = {(str(item["period"]), item["topic"]): int(item["rows"]) for item in report.over_time}
    moments = np.array(periods, "datetime64[D]")
    for colour, topic in zip(SERIES, report.topics[:NUM_LINES], strict=False):
        values = [rows.get((period, topic.topic), 0) for period in periods]
        axes.plot(
            moments, values, ".-", color=colour, label=plain(f"{topic.topic} {', '.join(topic.words[:2])}"[:MAX_LABEL])
        )
    axes.set_ylim(bottom=0)
    date_axis(axes)
    legend_below(figure, 2)
    return as_picture(
        figure,
        "Rows of the largest topics",
        f"One line for each of the {min(NUM_LINES, report.num_topics)} largest topics.",
    )
