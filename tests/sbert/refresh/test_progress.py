"""Rates, expected rows and time left."""

import time

import pytest

from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.progress import Progress, ProgressMeter, WorkCounter, WorkDone, describe_seconds
from sbert.refresh.stages import Stage
from tests.sbert.refresh.test_scheduling import planned


def shown(splits: list[PlannedSplit], num_rows_estimated: int | None, done: WorkDone) -> Progress:
    """Return the progress that a meter reports."""
    reported: list[Progress] = []
    ProgressMeter(Stage.ENCODING, splits, num_rows_estimated, reported.append).show(done)
    return reported[0]


def test_before_the_first_split_is_finished_the_estimate_of_the_plan_counts() -> None:
    progress = shown(planned(100, 300), 80, WorkDone(num_rows=20))
    assert progress.num_rows_expected == 80
    assert progress.share == pytest.approx(0.25)


def test_finished_splits_tell_how_many_rows_the_others_hold() -> None:
    done = WorkDone(num_splits=1, num_rows=70, num_bytes_finished=100, num_rows_finished=50)
    progress = shown(planned(100, 300), 80, done)
    assert progress.num_rows_expected == 200  # 50 rows in 100 of 400 bytes
    assert progress.share == pytest.approx(0.35)


def test_without_an_estimate_no_time_left_is_shown() -> None:
    progress = shown(planned(100), None, WorkDone(num_rows=70))
    assert progress.share is None
    assert progress.seconds_left is None
    assert "left" not in progress.describe()


def test_the_time_to_load_the_encoder_is_shown_and_is_no_time_of_encoding() -> None:
    reported: list[Progress] = []
    meter = ProgressMeter(Stage.ENCODING, planned(100), 10, reported.append)
    with meter.loading_encoder():
        time.sleep(0.5)
    meter.show(WorkDone(num_rows=1))
    loading, encoding = reported
    assert loading.describe() == "loading encoder"
    assert encoding.seconds < 0.5


def test_the_share_reaches_one_only_when_every_split_is_done() -> None:
    assert shown(planned(100), 10, WorkDone(num_rows=70)).share == pytest.approx(0.99)
    finished = WorkDone(num_splits=1, num_rows=70, num_bytes_finished=100, num_rows_finished=70)
    assert shown(planned(100), 10, finished).share == 1


def test_one_line_says_rows_splits_rates_and_time_left() -> None:
    progress = Progress(
        stage=Stage.ENCODING,
        num_splits=4,
        num_splits_done=1,
        num_rows_done=1_000,
        num_tokens_done=50_000,
        num_rows_expected=4_000,
        seconds=10,
    )
    assert progress.describe() == (
        "encoding, 30 s left: 1,000 of about 4,000 rows, 1 of 4 splits, 100 rows/s, 5,000 tokens/s"
    )
    assert Progress(stage=Stage.ENCODING, num_splits=4, seconds=10).describe() == "encoding: 0 rows, 0 of 4 splits"
    assert Progress(stage=Stage.LOADING_ENCODER).describe() == "loading encoder"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7_620, "2 h 07 min")])
def test_durations_are_in_units_a_person_reads(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text


def test_a_split_that_is_read_again_is_not_counted_twice() -> None:
    counter = WorkCounter()
    counter.begin("a")
    counter.add("a", num_rows=10, num_tokens=99)
    counter.begin("a")
    counter.add("a", num_rows=4)
    counter.add("b", num_rows=1)
    counter.abandon("b")
    assert counter.done() == WorkDone(num_rows=4, num_tokens=99)
    counter.reset()
    assert counter.done() == WorkDone()
