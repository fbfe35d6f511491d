"""Surges are found, chance is not, and an alert opens once and closes."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
import scipy.stats

from sbert.apply.monitoring.alerts import VOLUME, TopicHistory, opening_level, walk_topic
from sbert.apply.monitoring.settings import MonitoringSettings
from sbert.apply.monitoring.shares import CorrectedShares
from sbert.apply.monitoring.surges import clump_share, share_surprise, volume_surprise

CLASSES = ["bad", "good"]
SETTINGS = MonitoringSettings(time_column="at", bucket="1d")
FIRST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def walk(bad: list[int], totals: list[int], settings: MonitoringSettings = SETTINGS) -> TopicHistory:
    buckets = [FIRST + dt.timedelta(days=day) for day in range(len(totals))]
    rows = [
        (bucket, label, count)
        for bucket, of_bad, total in zip(buckets, bad, totals, strict=True)
        for label, count in (("bad", of_bad), ("good", total - of_bad))
        if count
    ]
    cells = pl.DataFrame(rows, schema=["bucket", "label", "count"], orient="row")
    return walk_topic("shoes", cells, buckets, CLASSES, settings)


def made_days(seed: int, num_days: int = 40, share: float = 0.3) -> tuple[list[int], list[int]]:
    random = np.random.default_rng(seed)
    totals = random.poisson(60, num_days)
    return random.binomial(totals, share).tolist(), totals.tolist()


def test_a_surge_opens_one_alert_in_its_first_bucket_and_closes_after_calm_ones() -> None:
    bad, totals = made_days(0)
    for day in (30, 31):
        bad[day] = round(0.65 * totals[day])
    history = walk(bad, totals)
    (alert,) = [alert for alert in history.alerts if alert.series == "bad"]
    assert alert.opened == FIRST + dt.timedelta(days=30)
    assert alert.peak in {FIRST + dt.timedelta(days=30), FIRST + dt.timedelta(days=31)}
    assert alert.closed == FIRST + dt.timedelta(days=33)  # two calm buckets
    assert alert.expected.value == pytest.approx(0.3, abs=0.05)
    assert history.is_open["bad"][30:34] == [True, True, True, False]
    assert "shoes: 6" in alert.sentence()
    assert "are bad" in alert.sentence()
    assert [alert for alert in history.alerts if alert.series == "good"] == []


def test_chance_alone_opens_no_more_alerts_than_accepted() -> None:
    alerts = sum(len(walk(*made_days(seed, 64)).alerts) for seed in range(15))  # 15 topics, 60 days each are tested
    accepted = SETTINGS.false_alerts * 2 * 15
    assert scipy.stats.poisson.sf(alerts - 1, accepted) > 0.01


def test_buckets_that_always_differed_more_than_chance_are_not_surprising() -> None:
    random = np.random.default_rng(3)
    totals = [400] * 50
    shares = random.beta(6, 14, 50)  # mean 0.3, standard deviation 0.1
    bad = [int(400 * share) for share in shares]
    assert walk(bad, totals).alerts == []


def test_a_rise_of_the_volume_is_an_alert_of_its_own() -> None:
    bad, totals = made_days(1)
    totals[35], bad[35] = 240, 72
    (alert,) = walk(bad, totals).alerts
    assert alert.series == VOLUME
    assert alert.opened.day == 5
    assert alert.total == 240
    assert "240 rows" in alert.sentence()


def test_a_few_rows_are_no_alert_whatever_they_say() -> None:
    bad, totals = made_days(2)
    bad[35], totals[35] = 9, 9
    assert walk(bad, totals).alerts == []


def test_a_new_level_is_an_alert_for_a_while_and_then_the_level() -> None:
    settings = SETTINGS.model_copy(update={"half_life": 5.0})
    low, totals = made_days(4, 30)
    high, more = made_days(7, 60, share=0.7)
    history = walk(low + high, totals + more, settings)
    (alert,) = [alert for alert in history.alerts if alert.series == "bad"]
    assert alert.closed == alert.opened + dt.timedelta(days=10)
    assert history.expected["bad"][-1] is not None
    assert history.expected["bad"][-1].value == pytest.approx(0.7, abs=0.08)


def test_nothing_is_tested_before_there_is_a_history() -> None:
    history = walk([30, 0, 30, 0, 30], [30] * 5)
    assert history.expected["bad"][:4] == [None] * 4
    assert history.expected["bad"][4] is not None


def test_days_without_rows_are_calm() -> None:
    bad, totals = made_days(6)
    bad[30] = round(0.7 * totals[30])
    for day in (31, 32):
        bad[day] = totals[day] = 0
    opened = FIRST + dt.timedelta(days=30)
    (alert,) = [alert for alert in walk(bad, totals).alerts if (alert.series, alert.opened) == ("bad", opened)]
    assert alert.closed == FIRST + dt.timedelta(days=32)


def test_the_level_accepts_the_promised_number_of_chance_alerts() -> None:
    hourly = SETTINGS.model_copy(update={"bucket": "6h"})
    assert opening_level(hourly, 4) == pytest.approx(0.3 / (4 * 120))


def test_without_overdispersion_the_surprise_is_nearly_binomial() -> None:
    counts, totals = np.full(500, 30), np.full(500, 100)
    surprise = share_surprise(45, 100, counts, totals, np.ones(500))
    mid = float(scipy.stats.binom.sf(45, 100, 0.3) + scipy.stats.binom.pmf(45, 100, 0.3) / 2)
    assert surprise.p_value == pytest.approx(mid, rel=0.1)
    assert volume_surprise(130, np.random.default_rng(0).poisson(100, 500), np.ones(500)).p_value == pytest.approx(
        float(scipy.stats.poisson.sf(129, 100)), rel=0.5
    )


@pytest.mark.parametrize("count", [0, 3, 30, 77, 100])
def test_tails_are_those_of_scipy(count: int) -> None:
    counts, totals = np.array([20, 45, 31, 24]), np.array([100, 100, 100, 100])
    surprise = share_surprise(count, 100, counts, totals, np.ones(4))
    mean = 120.5 / 401
    spread = mean * (1 - mean)
    correlation = float(((counts - 100 * mean) ** 2 - 100 * spread).sum() / (spread * 4 * 100 * 99))
    extra = correlation + 4 * 100 * (1 + correlation * 99) / 401**2
    law = scipy.stats.betabinom(100, mean * (1 / extra - 1), (1 - mean) * (1 / extra - 1))
    assert surprise.p_value == pytest.approx(float(law.sf(count) + law.pmf(count) / 2), rel=1e-6)


def test_the_tail_of_a_volume_is_that_of_scipy() -> None:
    totals = np.array([10, 30, 18, 25, 12, 40])
    mean, variance = float(totals.mean()), float(totals.var(ddof=1))
    excess = (variance * (1 + 1 / 6) - mean) / mean**2
    for total in (0, 1, 22, 60, 200):
        expected = float(scipy.stats.nbinom.sf(total - 1, 1 / excess, 1 / (1 + mean * excess)))
        assert volume_surprise(total, totals, np.ones(6)).p_value == pytest.approx(expected, rel=1e-9)


def test_a_clump_of_overlapping_looks_counts_once() -> None:
    random = np.random.default_rng(0)
    length, level = 6, 0.002
    sums = np.convolve(random.normal(size=1_000_000), np.ones(length), "valid") / np.sqrt(length)
    high = sums > scipy.stats.norm.isf(level)
    begun = (high[1:] & ~high[:-1]).sum() / high.sum()
    assert clump_share(level, length) == pytest.approx(float(begun), rel=0.15)
    assert clump_share(level, 1) == 1


def test_spans_that_drift_together_are_not_surprising() -> None:
    totals = [100] * 48
    shares = [0.2 if day // 4 % 2 else 0.4 for day in range(48)]  # four days low, four days high
    bad = [round(100 * share) for share in shares]
    together = SETTINGS.model_copy(update={"windows": (1, 4)})
    assert [alert for alert in walk(bad, totals, together).alerts if alert.series == "bad"][1:] == []


def test_only_the_series_that_are_named_make_alerts_and_share_the_budget() -> None:
    bad, totals = made_days(1)
    totals[35], bad[35] = 240, 72  # the volume rises
    bad[38] = round(0.7 * totals[38])
    watched = SETTINGS.model_copy(update={"series": ("bad",)})
    history = walk(bad, totals, watched)
    assert {alert.series for alert in history.alerts} == {"bad"}
    assert history.levels == {"bad": pytest.approx(0.3 / 30), "good": None, VOLUME: None}
    assert walk(bad, totals).levels == dict.fromkeys(["bad", "good", VOLUME], pytest.approx(0.3 / 90))
    assert history.expected[VOLUME][-1] is not None


def test_shares_are_corrected_for_what_the_head_confuses() -> None:
    confusion = np.array([[80, 20], [30, 70]])
    truth = np.array([0.6, 0.4])
    named = np.round(10_000 * truth @ (confusion / 100)).astype(int)
    estimates = CorrectedShares(confusion)
    value, low, high = estimates.estimate(named)
    np.testing.assert_allclose(value, truth, atol=0.01)
    assert (low < value).all()
    assert (value < high).all()
    few_low, few_high = estimates.estimate(named // 200)[1:]
    assert (few_high - few_low > high - low).all()
    np.testing.assert_array_equal(estimates.estimate(named)[1], low)  # the same, whatever was asked before


def test_a_rise_that_two_buckets_share_is_found_when_they_are_looked_at_together() -> None:
    totals = [40] * 40
    bad = [12 + at % 3 - 1 for at in range(40)]
    bad[35] = bad[36] = 20  # 0.5 where 0.3 is expected: in either alone not beyond the level
    alone = SETTINGS.model_copy(update={"false_alerts": 0.1})
    together = alone.model_copy(update={"windows": (1, 2)})
    assert [alert for alert in walk(bad, totals, alone).alerts if alert.series == "bad"] == []
    (alert,) = [alert for alert in walk(bad, totals, together).alerts if alert.series == "bad"]
    assert alert.count == 40
    assert alert.total == 80
    assert alert.peak - alert.since == dt.timedelta(days=1)
