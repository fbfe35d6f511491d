"""The page of opinion monitoring: trends by topic, alerts in a sentence each, and the texts behind them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from sbert.apply.monitoring.alerts import VOLUME, TopicHistory
from sbert.apply.monitoring.report import AlertReport, MonitoringReport, left_out, withdrawn_sentences
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.monitoring.shares import ShareCorrection
from sbert.counted import counted
from sbert.pages.page import PageTable, Section, Verdict, render_page
from sbert.pages.pictures import (
    GREY,
    ORANGE,
    RED,
    SERIES,
    Picture,
    as_picture,
    date_axis,
    legend_below,
    new_axes,
    plain,
)

__all__ = ["PAGE_NAME", "opinion_page"]

PAGE_NAME = "opinion.html"
MAX_TOPICS = 30
"""Topics whose trends are drawn, those with alerts and the largest first."""
MAX_CLASSES = 6
"""Classes that a picture draws, the largest first."""
DAY_SECONDS = 86_400
MAX_IN_VERDICT = 3
"""Open alerts that the box on top names."""
MAX_BUCKETS = 200
"""Newest buckets that are drawn."""


def opinion_page(
    report: MonitoringReport,
    histories: Sequence[TopicHistory],
    shares: ShareCorrection | None,
    settings: MonitoringSettings,
    *,
    is_multi_label: bool = False,
) -> str:
    """Return the page as HTML."""
    properties = {
        "Table" if shares is None else "Classes": report.predictions_uri,
        "Rows" if shares is None else "Rows with a class": (
            f"{report.num_rows:,}{'; ' if (missing := left_out(report)) else ''}{', '.join(missing)}"
        ),
        "Topics": f"{report.num_topics:,} ({settings.topic_column or 'all rows together'})",
        "Time": _span(report, settings),
    }
    trends = _trend_sections(report, histories, shares, settings, is_multi_label=is_multi_label)
    sections = [_alert_section(report, settings), *_withdrawn_section(report), *_model_section(report), *trends]
    return render_page("Opinion over time", properties, sections, verdict=_verdict(report))


def _verdict(report: MonitoringReport) -> Verdict:
    """Return the conclusion of the page. A page that tested nothing is not good news."""
    open_alerts = [alert.sentence for alert in report.alerts if alert.closed is None]
    if open_alerts:
        hidden = f"; and {len(open_alerts) - MAX_IN_VERDICT:,} more" if len(open_alerts) > MAX_IN_VERDICT else ""
        return Verdict(f"{'; '.join(open_alerts[:MAX_IN_VERDICT])}{hidden}.", "bad")
    if not report.num_tested:
        return Verdict(report.tested)
    earlier = f" {counted(len(report.alerts), 'alert')} of the past closed again." if report.alerts else ""
    number = report.num_withdrawn
    gone = (
        f" {counted(number, 'alert')} of the run before {'was' if number == 1 else 'were'} withdrawn." if number else ""
    )
    return Verdict(f"No alert is open.{earlier}{gone} {report.tested}", "good")


def _span(report: MonitoringReport, settings: MonitoringSettings) -> str:
    if report.first_bucket is None or report.last_bucket is None:
        return "no row has a time"
    first, last = (f"{moment:%Y-%m-%d %H:%M}" for moment in (report.first_bucket, report.last_bucket))
    return f"{first} to {last}, in buckets of {settings.bucket} ({settings.time_zone})"


def _alert_section(report: MonitoringReport, settings: MonitoringSettings) -> Section:
    note = (
        "An alert opens when a class or the number of rows of a topic is higher than chance allows, given the buckets "
        "before. "
        "The p-value is the probability of at least this much without any change. An alert opens at the level beside it or "
        f"below. The level is corrected for all classes and buckets of a topic: {settings.false_alerts:g} alerts by chance "
        "are expected for each topic in 30 days."
    )
    rows = [[alert.sentence, _state(alert), f"{alert.p_value:.1e}", f"{alert.level:.1e}"] for alert in report.alerts]
    parts = [
        Section(alert.sentence, tables=[PageTable(["typical text"], [[text] for text in alert.texts])])
        for alert in report.alerts
        if alert.texts
    ]
    if not rows:
        return Section("Alerts", [note, "There were none."])
    table = PageTable(["what happened", "state", "p-value", "level"], rows, text_columns=["state"])
    return Section(
        "Alerts", [note], tables=[table], parts=[Section("Texts behind the alerts", parts=parts)] if parts else []
    )


def _state(alert: AlertReport) -> str:
    since = f"{alert.opened:%Y-%m-%d %H:%M}"
    return f"open since {since}" if alert.closed is None else f"{since} to {alert.closed:%Y-%m-%d %H:%M}"


def _withdrawn_section(report: MonitoringReport) -> list[Section]:
    rows = withdrawn_sentences(report)
    if not rows:
        return []
    note = (
        "The run before found these alerts. They are not there any more"
        f"{'' if report.is_new_model else ', although the classes are of the same model'}. The sentences are those "
        "of the run before. Alerts of topics that are not there any more are counted and not named."
    )
    return [Section("Withdrawn alerts", [note], tables=[PageTable(["alert", "reason"], rows, text_columns=["reason"])])]


def _model_section(report: MonitoringReport) -> list[Section]:
    if not report.gone_with_model and not report.found_with_model:
        return []
    rows = [[sentence, "seen by the model before only"] for sentence in report.gone_with_model]
    rows += [[sentence, "seen by the new model only"] for sentence in report.found_with_model]
    note = (
        "The classes are of another model than in the run before. The history was told again with it. What it sees "
        "differently in the past is listed here and is no news."
    )
    table = PageTable(["alert", "difference"], rows, text_columns=["difference"])
    return [Section("Another model", [note], tables=[table])]


def _trend_sections(
    report: MonitoringReport,
    histories: Sequence[TopicHistory],
    shares: ShareCorrection | None,
    settings: MonitoringSettings,
    *,
    is_multi_label: bool,
) -> list[Section]:
    alarmed = {alert.topic for alert in report.alerts}
    ordered = sorted(histories, key=lambda item: (item.topic not in alarmed, -item.counts_BS[:, -1].sum(), item.topic))
    bands = (
        "Lines are the shares of the classes in each bucket, corrected for the mistakes of the classifier, with their 95 % "
        "intervals as bands. Few rows make wide bands. "
        "The sentence of an alert gives the share of rows that the classifier named, which is not corrected, so it differs "
        "from the line. "
    )
    if is_multi_label:
        bands += (
            "A row can have several classes, or none; each is corrected by itself, so shares need not add up to 1. "
        )
    note = f"{'' if shares is None else bands}A red ring marks a bucket in which an alert is open."
    hidden = [f"{MAX_TOPICS} of {counted(len(ordered), 'topic')} are drawn."] if len(ordered) > MAX_TOPICS else []
    pictures = [picture for history in ordered[:MAX_TOPICS] for picture in _topic_pictures(history, shares, settings)]
    return [Section("Trends", [note, *hidden], pictures=pictures)] if pictures else []


def _topic_pictures(
    history: TopicHistory, shares: ShareCorrection | None, settings: MonitoringSettings
) -> list[Picture]:
    first = max(0, len(history.buckets) - MAX_BUCKETS)
    places = np.arange(first, len(history.buckets))
    volume = _volume_picture(history, places, settings)
    return [volume] if shares is None else [_share_picture(history, shares, places, settings), volume]


def _share_picture(
    history: TopicHistory, shares: ShareCorrection, places: np.ndarray, settings: MonitoringSettings
) -> Picture:
    """Draw the shares of the largest classes; a bucket without rows is a gap."""
    figure, axes = new_axes(3.0, x=_time_label(settings), y="share of the rows")
    num_classes = len(history.series) - 1
    estimates = np.full((len(places), 3, num_classes), np.nan)
    for row, at in enumerate(places.tolist()):
        if history.counts_BS[at, -1]:
            estimates[row] = shares.estimate(history.counts_BS[at, :-1], int(history.counts_BS[at, -1]))
    times = _numbers(history, places.tolist())
    largest = np.argsort(-history.counts_BS[:, :-1].sum(axis=0), kind="stable")[:MAX_CLASSES]
    for number, place in enumerate(np.sort(largest).tolist()):
        name, color = history.series[place], SERIES[number % len(SERIES)]
        axes.plot(times, estimates[:, 0, place], ".-", color=color, linewidth=1.2, markersize=3, label=plain(name))
        axes.fill_between(times, estimates[:, 1, place], estimates[:, 2, place], color=color, alpha=0.15, linewidth=0)
        _mark(axes, times, estimates[:, 0, place], [history.is_open[name][at] for at in places.tolist()])
    axes.set_ylim(0, 1)
    _finish(axes, times, settings)
    legend_below(figure)
    hidden = f" The {MAX_CLASSES} largest of {num_classes} classes." if num_classes > MAX_CLASSES else ""
    return as_picture(figure, history.topic, f"Shares of the classes in each bucket.{hidden}")


def _volume_picture(history: TopicHistory, places: np.ndarray, settings: MonitoringSettings) -> Picture:
    figure, axes = new_axes(3.0, x=_time_label(settings), y=f"rows in {settings.bucket}")
    times, counts = _numbers(history, places.tolist()), history.counts_BS[places, -1].astype(np.float64)
    axes.plot(times, counts, ".-", color=GREY, linewidth=1.2, markersize=3, label="rows")
    if counts.max() >= settings.min_volume:
        axes.axhline(settings.min_volume, color=ORANGE, linestyle="--", linewidth=1, label="least rows for a test")
    _mark(axes, times, counts, [history.is_open[VOLUME][at] for at in places.tolist()])
    axes.set_ylim(bottom=0)
    _finish(axes, times, settings)
    legend_below(figure)
    below = "" if counts.max() >= settings.min_volume else f" All have fewer than {settings.min_volume:,} (min_volume)."
    return as_picture(figure, f"{history.topic}: volume", f"Rows of each bucket.{below}")


def _mark(axes: Axes, times: np.ndarray, values: np.ndarray, is_open: list[bool]) -> None:
    """Draw a red ring where an alert is open."""
    marked = np.flatnonzero(is_open)
    if len(marked):
        label = None if "alert is open" in axes.get_legend_handles_labels()[1] else "alert is open"
        axes.plot(
            times[marked], values[marked], "o", color=RED, markersize=6, fillstyle="none", clip_on=False, label=label
        )


def _time_label(settings: MonitoringSettings) -> str:
    return f"begin of the bucket ({settings.time_zone})"


def _numbers(history: TopicHistory, places: Sequence[int]) -> np.ndarray:
    """Return the begin of buckets as matplotlib's days."""
    return np.array([history.buckets[at].timestamp() / DAY_SECONDS for at in places])


def _finish(axes: Axes, times: np.ndarray, settings: MonitoringSettings) -> None:
    axes.xaxis_date()
    axes.set_xlim(times[0], max(times[-1], times[0] + 1 / 24))
    date_axis(axes, settings.time_zone)
