"""What people are told: each alert once, and the first one of a topic after a person agreed."""

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sbert.apply.monitoring.report import AlertReport
from sbert.apply.monitoring.settings import FirstAlert
from sbert.apply.monitoring.told_alerts import (
    News,
    Told,
    decide_alerts,
    found_alerts,
    gone_alerts,
    news,
    read_told,
    write_told,
)
from sbert.errors import TableError
from sbert.registry.approval import made_now

FIRST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def alert(topic: str, day: int, *, is_open: bool = True) -> AlertReport:
    opened = FIRST + dt.timedelta(days=day)
    return AlertReport(
        key=f"{topic}|bad|{opened.isoformat()}", topic=topic, series="bad", sentence=f"{topic} {day}", opened=opened,
        closed=None if is_open else opened + dt.timedelta(days=1), peak=opened, share=0.9, num_rows=20, expected=0.2,
        p_value=1e-9, level=1e-3, texts=[],
    )  # fmt: skip


def run(out: Path, alerts: list[AlertReport], first_alert: FirstAlert = FirstAlert.ASK) -> News:
    told_before = read_told(str(out))
    outcome = news(alerts, told_before, first_alert, is_told_anew=False, closes_after=dt.timedelta(days=2))
    write_told(
        str(out),
        Told(
            model="m",
            last_bucket=FIRST,
            sentences={item.key: item.sentence for item in alerts},
            topics=outcome.topics,
            waiting=[item.key for item in outcome.waiting],
            decisions=told_before.decisions if told_before else {},
        ),
    )
    return outcome


def test_the_first_alert_of_a_topic_waits_and_later_ones_do_not(tmp_path: Path) -> None:
    shoes = alert("shoes", 1)
    outcome = run(tmp_path, [shoes])
    assert outcome.told == []
    assert outcome.waiting == [shoes]
    assert run(tmp_path, [shoes]).waiting == [shoes]  # nobody decided: it waits on
    decision = made_now(approved=True, name="Ada", reason="it is real")
    assert decide_alerts(str(tmp_path), [shoes], ["shoes"], decision) == [shoes]
    again, hats = alert("shoes", 5), alert("hats", 5)
    outcome = run(tmp_path, [shoes, again, hats])
    assert outcome.told == [again]
    assert outcome.waiting == [hats]
    told = read_told(str(tmp_path))
    assert told is not None
    assert told.decisions[shoes.key].sentence() == "approved by Ada: it is real"
    assert run(tmp_path, [shoes, again, hats]).told == []


@pytest.mark.parametrize(("approved", "topics"), [(False, ["shoes"]), (True, [])])
def test_a_refused_alert_is_not_told_and_the_next_one_waits_again(
    tmp_path: Path, approved: bool, topics: list[str]
) -> None:
    shoes, later = alert("shoes", 1), alert("shoes", 5)
    run(tmp_path, [shoes])
    decision = made_now(approved=approved, name="Ada", reason="a joke")
    assert decide_alerts(str(tmp_path), [shoes], topics, decision) == []
    assert (
        decide_alerts(str(tmp_path), [shoes], ["shoes"], made_now(approved=True, name="", reason="")) == []
    )  # too late
    outcome = run(tmp_path, [shoes, later])
    assert outcome.told == []
    assert outcome.waiting == [later]
    told = read_told(str(tmp_path))
    assert told is not None
    assert not told.decisions[shoes.key].approved


def test_without_asking_all_are_told_also_those_that_waited(tmp_path: Path) -> None:
    shoes = alert("shoes", 1)
    run(tmp_path, [shoes])
    outcome = run(tmp_path, [shoes], FirstAlert.AUTOMATIC)
    assert outcome.told == [shoes]
    assert outcome.waiting == []
    assert outcome.topics == ["shoes"]


def test_another_model_that_sees_an_open_event_begin_later_does_not_tell_it_again() -> None:
    was_open, later, next_one, other = alert("shoes", 0), alert("shoes", 1), alert("shoes", 3), alert("hats", 1)
    before = Told(model="m", last_bucket=FIRST, sentences={was_open.key: "told"}, open_keys=[was_open.key])

    def told(before: Told, *, is_told_anew: bool) -> list[AlertReport]:
        alerts, closes_after = [later, next_one, other], dt.timedelta(days=2)
        return news(alerts, before, FirstAlert.AUTOMATIC, is_told_anew=is_told_anew, closes_after=closes_after).told

    assert told(before, is_told_anew=True) == [next_one, other]
    assert told(before, is_told_anew=False) == [later, next_one, other]
    closed = before.model_copy(update={"open_keys": []})
    assert told(closed, is_told_anew=True) == [later, next_one, other]


def test_another_model_tells_an_event_after_one_that_it_saw_end() -> None:
    """Calm buckets before the switch count, so the open alert can end sooner than `close_after` buckets after it."""
    was_open, next_one = alert("shoes", -1), alert("shoes", 1)
    before = Told(model="m", last_bucket=FIRST, sentences={was_open.key: "told"}, open_keys=[was_open.key])

    def told(*earlier: AlertReport) -> list[AlertReport]:
        closes_after = dt.timedelta(days=2)
        alerts = [next_one, *earlier]
        return news(alerts, before, FirstAlert.AUTOMATIC, is_told_anew=True, closes_after=closes_after).told

    assert told(alert("shoes", 0, is_open=False)) == [next_one]
    assert told(alert("hats", 0, is_open=False)) == []
    assert told(alert("shoes", -5, is_open=False)) == []  # that one ended before the open event began


def test_late_rows_that_make_an_open_event_begin_earlier_tell_nothing(tmp_path: Path) -> None:
    run(tmp_path, [alert("shoes", 2)], FirstAlert.AUTOMATIC)
    before = read_told(str(tmp_path))
    assert before is not None
    with_open = before.model_copy(update={"open_keys": [alert("shoes", 2).key]})
    earlier = [alert("shoes", 1)]

    def told(record: Told, alerts: list[AlertReport]) -> list[AlertReport]:
        closes_after = dt.timedelta(days=2)
        return news(alerts, record, FirstAlert.AUTOMATIC, is_told_anew=False, closes_after=closes_after).told

    assert told(with_open, earlier) == []
    assert told(before, earlier) == earlier  # no alert was open
    assert told(with_open, [alert("shoes", 1, is_open=False)]) != []  # it ends before that event
    assert gone_alerts(earlier, with_open, {"shoes"}) == ([], 0)
    assert gone_alerts([alert("shoes", 1, is_open=False)], with_open, {"shoes"}) == (["shoes 2"], 0)
    assert found_alerts(earlier, with_open.model_copy(update={"last_bucket": earlier[0].opened})) == []


def test_an_alert_that_waits_goes_on_waiting_when_late_rows_make_it_begin_earlier(tmp_path: Path) -> None:
    assert run(tmp_path, [alert("shoes", 2)]).waiting == [alert("shoes", 2)]
    before = read_told(str(tmp_path))
    assert before is not None
    write_told(str(tmp_path), before.model_copy(update={"open_keys": [alert("shoes", 2).key]}))
    assert run(tmp_path, [alert("shoes", 1)]).waiting == [alert("shoes", 1)]


def test_another_time_zone_makes_no_other_alert() -> None:
    known = alert("shoes", 1)
    opened = known.opened.astimezone(ZoneInfo("Asia/Tokyo"))
    same = known.model_copy(update={"opened": opened, "key": f"shoes|bad|{opened.isoformat()}"})
    assert same.key != known.key
    before = Told(model="m", last_bucket=known.opened, sentences={known.key: "told"})
    assert gone_alerts([same], before, {"shoes"}) == ([], 0)
    assert found_alerts([same], before) == []
    for is_told_anew in (False, True):
        outcome = news(
            [same], before, FirstAlert.AUTOMATIC, is_told_anew=is_told_anew, closes_after=dt.timedelta(days=2)
        )
        assert outcome.told == []


def test_a_topic_is_found_where_topic_or_class_contain_the_sign_of_the_key() -> None:
    key = f"shoes|a|b|{FIRST.isoformat()}"
    decision = made_now(approved=True, name="Ada", reason="it is real")
    earlier = Told(model="m", last_bucket=FIRST, sentences={key: "shoes: x"}, decisions={key: decision})
    assert gone_alerts([], earlier, {"shoes", "hats"}) == (["shoes: x"], 0)
    assert gone_alerts([], earlier, {"hats"}) == ([], 1)
    assert "shoes" in earlier.known_topics
    assert set(earlier.without_gone_topics({"shoes"}).decisions) == {key}
    assert earlier.without_gone_topics({"hats"}).decisions == {}
    erased = earlier.model_copy(update={"alert_topics": {key: "shoes|a"}})  # the record names the topic, which is gone
    assert gone_alerts([], erased, {"shoes"}) == ([], 1)
    left = erased.without_gone_topics({"shoes"})
    assert left.decisions == {}
    assert left.alert_topics == {}


def test_topics_of_an_earlier_record_are_known(tmp_path: Path) -> None:
    before = alert("shoes", 1, is_open=False)
    write_told(str(tmp_path), Told(model="m", last_bucket=FIRST, sentences={before.key: "told"}))
    later = alert("shoes", 5)
    assert run(tmp_path, [before, later]).told == [later]


def test_topics_that_are_gone_leave_nothing_behind() -> None:
    shoes, hats = alert("shoes", 1), alert("hats", 1)
    decision = made_now(approved=True, name="Ada", reason="it is real")
    told = Told(
        model="m",
        last_bucket=FIRST,
        sentences={hats.key: hats.sentence},
        topics=["hats", "shoes"],
        decisions={shoes.key: decision, hats.key: decision},
    )
    left = told.without_gone_topics({"hats"})
    assert "shoes" not in left.model_dump_json()
    assert left.topics == ["hats"]
    assert set(left.decisions) == {hats.key}


def test_a_decision_needs_a_record(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no record of alerts"):
        decide_alerts(str(tmp_path), [], [], made_now(approved=True, name="", reason=""))


def test_a_record_that_cannot_be_read_says_what_its_removal_does(tmp_path: Path) -> None:
    shoes = alert("shoes", 1)
    run(tmp_path, [shoes], FirstAlert.AUTOMATIC)
    record = tmp_path / "_reports" / "alerts.json"
    record.write_bytes(b"\xff")
    with pytest.raises(TableError, match="remove this file; the next run then reports every open alert again"):
        run(tmp_path, [shoes], FirstAlert.AUTOMATIC)
    record.unlink()
    assert run(tmp_path, [shoes], FirstAlert.AUTOMATIC).told == [shoes]
