"""Rows that can have several classes: each class is a series of its own, and a row counts once in the volume."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sbert.apply.classification.job import ClassificationJob, HeadName
from sbert.apply.classification.multi_label_calibration import count_decisions, thresholds
from sbert.apply.classification.multi_label_head import MultiLabelHead, MultiLabelRecord
from sbert.apply.classification.settings import HeadKind
from sbert.apply.monitoring.alerts import VOLUME, walk_topic
from sbert.apply.monitoring.run import monitor
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.monitoring.shares import CorrectedListShares
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.errors import SettingsError, TableError
from tests.support.made_tables import DIM, encoder_info, make_version, unit_vector

SETTINGS = MonitoringSettings(time_column="at", bucket="1h", min_volume=10, min_history=3, text_column="kind")
NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
HEAD = "m" * 32


def is_bad(number: int) -> bool:
    return unit_vector(number)[0] < 0


def is_loud(number: int) -> bool:
    return unit_vector(number)[1] < 0


def chosen(wanted: Callable[[int], bool], first: int, count: int) -> list[int]:
    """Return numbers of one hour whose vectors have a property; every fifth has no time and is left out."""
    found = [number for number in range(first, first + 60) if number % 5 != 4 and wanted(number)]
    assert len(found) >= count, len(found)
    return found[:count]


def hours(shares: list[float], per_hour: int = 20) -> dict[str, int]:
    """Return rows: of each hour a share is bad, whether loud or not."""
    rows = {}
    for hour, share in enumerate(shares):
        bad, first = round(share * per_hour), 60 * hour + 1
        numbers = chosen(is_bad, first, min(bad, 18)) + chosen(lambda number: not is_bad(number), first, per_hour - bad)
        rows |= {str(number): number for number in numbers}
    return rows


def classify(table: str, classes: Path, *, decisions: bool = True) -> None:
    """Store a head that calls a vector bad or loud by the signs of its first values, and give lists to all rows."""
    weights = np.zeros((DIM, 2), np.float32)
    weights[0, 0] = weights[1, 1] = -100
    MultiLabelHead(
        record=MultiLabelRecord(
            fingerprint=HEAD, encoder_fingerprint=encoder_info(0).fingerprint, labels_fingerprint="l", task="",
            kind=HeadKind.LINEAR, strength=1.0, classes=["bad", "loud"], num_rows=200, chosen=[], slopes=[1.0, 1.0],
            offsets=[0.0, 0.0], thresholds=[0.5, 0.5], possible_scores=[0.5, 0.5], list_slope=1.0, list_offset=0.0,
            abstain_below=0.0, decisions=[[95, 5, 5, 95], [90, 10, 4, 96]],
        ),
        mean_D=np.zeros(DIM, np.float32), landmarks_LD=np.zeros((0, DIM), np.float32), gamma=1.0, weights_FC=weights,
        bias_C=np.zeros(2, np.float32),
    ).save(str(classes))  # fmt: skip
    if not decisions:
        file = classes / "_heads" / HEAD / "multi_label_head.json"
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "decisions"}))
    name = HeadName(task="", fingerprint=HEAD, is_multi_label=True)
    derive(ClassificationJob(heads=(name,), heads_uri=str(classes)), table, str(classes))


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, Path, Path]:
    return str(tmp_path / "table"), tmp_path / "classes", tmp_path / "opinion"


CALM = [0.2, 0.25, 0.2, 0.15, 0.2, 0.25, 0.2, 0.2, 0.15, 0.25]


def test_a_class_that_rises_is_an_alert_and_a_row_counts_once_in_the_volume(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    rows = hours([*CALM, 0.9])
    make_version(table, {"a": rows})
    classify(table, classes)
    report = monitor(str(classes), str(out), SETTINGS, now=NOW)
    (alert,) = report.new_alerts
    assert alert.series == "bad"
    assert alert.share == 0.9
    assert alert.num_rows == 20
    assert alert.texts  # of rows whose list holds the class
    cells = DerivedTable.open(str(out)).scan().collect()
    assert isinstance(cells, pl.DataFrame)
    counts = dict(cells.group_by("series").agg(pl.col("count").sum()).iter_rows())
    assert counts == {
        "bad": sum(map(is_bad, rows.values())),
        "loud": sum(map(is_loud, rows.values())),
        VOLUME: len(rows),
    }
    last = cells.filter(pl.col("bucket") == cells["bucket"].max())
    assert set(last["num_rows"]) == {20}
    assert last.filter(pl.col("series") != VOLUME)["share"].sum() > 1  # many are bad and loud
    assert (cells["share_low"] <= cells["share"]).all()
    assert (cells["share"] <= cells["share_high"]).all()
    page = Path(report.page_uri).read_text()
    assert "each is corrected by itself, so shares need not add up to 1" in page
    again = monitor(str(classes), str(out), SETTINGS, now=NOW)
    assert (again.version, again.new_alerts) == (report.version, [])


def test_rows_without_a_class_are_part_of_the_volume(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    neither = {str(n): n for n in range(1, 600) if n % 5 != 4 and not is_bad(n) and not is_loud(n)}
    make_version(table, {"a": neither})
    classify(table, classes)
    report = monitor(str(classes), str(out), SETTINGS, now=NOW)
    cells = DerivedTable.open(str(out)).scan().collect()
    assert isinstance(cells, pl.DataFrame)
    assert cells.filter(pl.col("series") == VOLUME)["count"].sum() == len(neither) == report.num_rows
    assert cells.filter(pl.col("series") != VOLUME)["count"].sum() == 0


def test_a_head_that_does_not_know_its_mistakes_is_refused_with_a_remedy(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    make_version(table, {"a": hours(CALM)})
    classify(table, classes, decisions=False)
    with pytest.raises(TableError, match=r"the task \(none\) is of an earlier release.*with another head.seed"):
        monitor(str(classes), str(out), SETTINGS, now=NOW)
    assert not out.exists()


def test_a_series_that_is_none_of_the_classes_is_refused(places: tuple[str, Path, Path]) -> None:
    table, classes, out = places
    make_version(table, {"a": hours(CALM)})
    classify(table, classes)
    settings = SETTINGS.model_copy(update={"series": ("good",)})
    with pytest.raises(SettingsError, match="series names 'good', but the series are bad, loud, volume"):
        monitor(str(classes), str(out), settings, now=NOW)


def test_shares_of_lists_are_corrected_class_by_class_with_intervals_that_hold() -> None:
    recall, false, truth = np.array([0.8, 0.9]), np.array([0.1, 0.02]), np.array([0.6, 0.1])
    random = np.random.default_rng(0)
    inside = np.zeros(2)
    for seed in range(200):
        has, has_not = random.binomial(300, recall), random.binomial(300, false)
        decisions_C4 = np.stack([has, 300 - has, has_not, 300 - has_not], axis=1)
        named = random.binomial(400, truth * recall + (1 - truth) * false)
        value, low, high = CorrectedListShares(decisions_C4, seed).estimate(named, 400)
        assert (low <= value).all()
        assert (value <= high).all()
        inside += (low <= truth) & (truth <= high)
    assert (inside / 200 > 0.9).all()
    exact = CorrectedListShares(np.array([[8_000, 2_000, 1_000, 9_000]]))
    np.testing.assert_allclose(exact.estimate(np.array([5_200]), 10_000)[0], [0.6], atol=0.01)  # 0.6 x 0.8 + 0.4 x 0.1


def test_a_class_that_is_given_at_random_could_have_every_share() -> None:
    value, low, high = CorrectedListShares(np.array([[30, 70, 300, 700]])).estimate(np.array([30]), 100)
    assert value == pytest.approx([0.3])
    assert high - low > 0.9


def test_by_chance_no_class_alerts_more_often_than_was_accepted() -> None:
    """Two classes that go together, with shares that never change; 24 months of days."""
    settings = MonitoringSettings(time_column="at", bucket="1d", false_alerts=0.3)
    first, num_days, num_alerts = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 60, 0
    buckets = [first + dt.timedelta(days=day) for day in range(num_days)]
    for seed in range(12):
        random = np.random.default_rng(seed)
        rows: list[tuple[dt.datetime, str | None, int]] = []
        for bucket in buckets:
            bad = random.random(150) < 0.3
            loud = np.where(random.random(150) < 0.8, bad, random.random(150) < 0.3)
            rows += [(bucket, None, 150), (bucket, "bad", int(bad.sum())), (bucket, "loud", int(loud.sum()))]
        cells = pl.DataFrame(rows, schema=["bucket", "label", "count"], orient="row")
        history = walk_topic("t", cells, buckets, ["bad", "loud"], settings, is_multi_label=True)
        assert (history.counts_BS[:, -1] == 150).all()
        num_alerts += len(history.alerts)
    assert num_alerts <= 14  # 7.2 are accepted in 24 months; more than 14 have a probability below 1 %


def test_decisions_are_counted_with_thresholds_of_other_rows() -> None:
    """Scores without meaning: the best threshold of the same rows looks better than it is."""
    random = np.random.default_rng(0)
    probabilities_NC, truth_NC = random.random((60, 1)), random.random((60, 1)) < 0.3
    same = thresholds(probabilities_NC, truth_NC, 2)[0]
    named = probabilities_NC >= same
    (counts,) = count_decisions(probabilities_NC, truth_NC, 2, num_folds=10, seed=0)
    assert sum(counts) == 60
    assert counts[0] + counts[1] == truth_NC.sum()
    assert 2 * counts[0] / (2 * counts[0] + counts[1] + counts[2]) < 2 * (named & truth_NC).sum() / (
        named.sum() + truth_NC.sum()
    )
