"""A run: what is made again, what is kept, and that it is the same as a full run."""

import datetime as dt
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sbert.apply.recommendation import job as job_module
from sbert.apply.recommendation.lists import make_list
from sbert.apply.recommendation.model import MODEL_FOLDER, find_models
from sbert.apply.recommendation.run import RecommendationReport, recommend
from sbert.apply.recommendation.settings import EventColumns, ListSettings, RankingSettings, RecommendationSettings
from sbert.derived.any_table import verify_any
from sbert.derived.derived_table import DerivedTable
from sbert.erase.run import erase
from sbert.errors import ColumnError, EmptySourceError, MissingError, NotATableError, SettingsError, TableError
from sbert.table.erased_keys import ErasedKeys
from tests.sbert.apply.recommendation.made_events import (
    HALF,
    NOW,
    event,
    item_rows,
    made_events,
    write_events,
    write_items,
)
from tests.support.made_tables import make_version

SETTINGS = RecommendationSettings(
    ranking=RankingSettings(num_factors=4, num_rounds=3), lists=ListSettings(k=5, num_new=1), refit_share=10
)
LATER = NOW + dt.timedelta(days=1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_items(tmp_path / "items", item_rows())
    write_events(tmp_path / "events", made_events())
    return tmp_path


def run(
    place: Path, out: str = "out", settings: RecommendationSettings = SETTINGS, now: dt.datetime = NOW
) -> RecommendationReport:
    return recommend(str(place / "items"), str(place / "events"), str(place / out), settings, now=now)


def lists(place: Path, out: str = "out") -> pl.DataFrame:
    return DerivedTable.open(str(place / out)).scan().collect().sort("user", "rank")


def assert_equal_to_a_full_run(place: Path) -> None:
    """Compare with a run into another folder, by the same model."""
    shutil.copytree(place / "out" / MODEL_FOLDER, place / "full" / MODEL_FOLDER)
    full = run(place, "full", now=LATER)
    assert full.refitted == ""
    assert full.num_users_computed == full.num_users
    left, right = lists(place), lists(place, "full")
    assert left.drop("score", "because").equals(right.drop("score", "because"))
    np.testing.assert_allclose(left["score"], right["score"], atol=2e-4)
    assert left["because"].list.first().struct.field("id").equals(right["because"].list.first().struct.field("id"))


def test_each_user_gets_unseen_items_with_a_reason_from_the_own_history(place: Path) -> None:
    report = run(place)
    assert report.num_users == 20
    assert report.num_events == 200
    assert report.num_rows == 100
    assert report.num_items_new == 2
    rows = lists(place)
    assert rows["rank"].to_list() == [1, 2, 3, 4, 5] * 20
    for (user,), of_user in rows.group_by("user"):
        taken = {row["item"] for row in made_events() if row["user"] == user}
        assert not taken & set(of_user["id"])
        assert {reason[0]["id"] for reason in of_user["because"]} <= taken
    first = rows.filter((pl.col("rank") == 1) & ~pl.col("is_new"))
    own = first.filter(pl.col("user").str.slice(1).cast(pl.Int64) % 2 == 1)
    assert (own["id"].cast(pl.Int64) < HALF).all()
    new = rows.filter("is_new")
    assert set(new.filter(pl.col("user") == "u01")["id"]) == {"00"}
    assert set(new.filter(pl.col("user") == "u02")["id"]) == {"39"}
    assert verify_any(str(place / "out")).findings == []


def test_a_second_run_does_nothing(place: Path) -> None:
    first = run(place)
    again = run(place, now=LATER)
    assert again.version == first.version
    assert again.num_shards_built == 0
    assert again.num_users_computed == 0
    assert again.refitted == ""
    assert again.num_shards_kept == first.num_shards_built


def test_only_users_with_new_events_are_computed_again(place: Path) -> None:
    run(place)
    write_events(place / "events", [event("u01", 12, 50), event("new", 3, 0)], "b")
    report = run(place, now=LATER)
    assert report.num_users == 21
    assert report.num_users_computed == 2
    assert report.refitted == ""
    assert report.num_shards_kept > 0
    new = lists(place).filter(pl.col("user") == "new")
    assert (new.filter(~pl.col("is_new"))["id"].cast(pl.Int64) < HALF).all()
    assert_equal_to_a_full_run(place)


def test_a_new_item_can_be_recommended_at_once_and_one_that_left_is_gone(place: Path) -> None:
    run(place)
    rows = item_rows()
    between = np.sum([vector for _, _, vector in rows[:HALF]], axis=0).tolist()
    write_items(place / "items", [*[row for row in rows if row[0] != "10"], ("99", "a new item", between)])
    report = run(place, now=LATER)
    assert 0 < report.num_users_computed <= 20
    recommended = lists(place)
    assert "10" not in set(recommended["id"])
    assert report.rejected == {"unknown item": sum(row["item"] == "10" for row in made_events())}
    assert "u01" in set(recommended.filter((pl.col("id") == "99") & pl.col("is_new"))["user"])
    assert_equal_to_a_full_run(place)


def test_after_an_erasure_a_check_asks_for_another_run_and_finds_nothing_after_it(place: Path) -> None:
    run(place)
    out = str(place / "out")
    num_rows = lists(place).filter(pl.col("id") == "10").height
    assert num_rows > 1
    erase(str(place / "items"), ErasedKeys(ids=["10"]), derived=[out])
    assert verify_any(out).findings == [
        f"an erasure took {num_rows} rows out of the parts after the job committed them: run the job recommendation again to "
        "restore them"
    ]
    run(place, now=LATER)
    assert "10" not in set(lists(place)["id"])
    assert verify_any(out).findings == []


def test_an_item_far_from_everyone_changes_no_list(place: Path) -> None:
    run(place)
    write_items(place / "items", [*item_rows(), ("99", "far from all", [-1.0, -1.0, 0.0, 0.0])])
    report = run(place, now=LATER)
    assert report.num_users_computed == 0
    assert_equal_to_a_full_run(place)


def test_a_user_without_events_any_more_has_no_list(place: Path) -> None:
    run(place)
    write_events(place / "events", [row for row in made_events() if row["user"] != "u05"])
    report = run(place, now=LATER)
    assert report.num_users == 19
    assert report.num_users_computed == 0
    assert "u05" not in set(lists(place)["user"])


def test_the_model_is_fitted_anew_when_it_is_old_or_settings_differ(place: Path) -> None:
    run(place)
    assert run(place, now=NOW + dt.timedelta(days=8)).refitted.startswith("it is 8.0 days old")
    other = SETTINGS.model_copy(update={"ranking": RankingSettings(num_factors=3, num_rounds=3)})
    report = run(place, settings=other, now=NOW + dt.timedelta(days=9))
    assert report.refitted == "other settings"
    assert report.num_users_computed == 20
    assert len(find_models(str(place / "out"))) == 2
    small = other.model_copy(update={"refit_share": 0.001})
    write_events(place / "events", [event("new", 3, 0)], "b")
    assert run(place, settings=small, now=NOW + dt.timedelta(days=9)).refitted == "there are 201 events, it knows 200"


def test_other_lists_need_no_fit(place: Path) -> None:
    run(place)
    other = SETTINGS.model_copy(update={"lists": ListSettings(k=3, num_new=0)})
    report = run(place, settings=other, now=LATER)
    assert report.refitted == ""
    assert report.num_rows == 60


def test_another_encoder_makes_everything_anew(tmp_path: Path) -> None:
    make_version(str(tmp_path / "items"), {"a": {f"{n:02}": n for n in range(40)}}, encoder_number=1)
    write_events(tmp_path / "events", made_events())
    run(tmp_path)
    make_version(str(tmp_path / "items"), {"a": {f"{n:02}": n for n in range(40)}}, encoder_number=2)
    report = run(tmp_path, now=LATER)
    assert report.refitted == "another encoder"
    assert report.num_users_computed == 20
    assert report.num_shards_kept == 0


def test_a_run_that_was_killed_is_resumed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def dying(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) > 12:
            raise KeyboardInterrupt
        return make_list(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(job_module, "make_list", dying)
    with pytest.raises(KeyboardInterrupt):
        run(place)
    monkeypatch.undo()
    report = run(place, now=LATER)
    assert report.refitted == ""
    assert report.num_shards_resumed > 0
    assert report.num_users_computed < 20
    assert_equal_to_a_full_run(place)


def test_a_single_user_gets_a_list_by_fixed_weights(tmp_path: Path) -> None:
    write_items(tmp_path / "items", item_rows())
    write_events(tmp_path / "events", [event("only", 3, 0)])
    report = run(tmp_path)
    assert report.num_users == 1
    assert report.num_later_events == 0
    assert report.num_rows == 5


def test_a_user_to_whom_items_were_only_shown_has_no_list(place: Path) -> None:
    write_events(place / "events", [event("idle", 3, 0, "impression")], "b")
    assert run(place).num_users == 21
    assert "idle" not in set(lists(place)["user"])


def test_bad_input_is_refused_before_anything_is_written(place: Path) -> None:
    wrong = SETTINGS.model_copy(update={"events": EventColumns(item="article")})
    with pytest.raises(ColumnError, match="no column 'article', the columns are: 'user', 'item'"):
        run(place, settings=wrong)
    write_events(place / "events", [event("u", "of another shop", 0)])
    with pytest.raises(EmptySourceError, match="1 rejected: unknown item"):
        run(place)
    with pytest.raises(MissingError):
        recommend(str(place / "items"), str(place / "nowhere"), str(place / "out"), SETTINGS)
    with pytest.raises(SettingsError, match="a folder of its own"):
        recommend(str(place / "items"), str(place / "events"), str(place / "items"), SETTINGS)
    with pytest.raises(NotATableError):
        recommend(str(place / "events"), str(place / "events"), str(place / "out"), SETTINGS)
    assert not (place / "out").exists()


def test_a_damaged_model_is_an_error_with_its_remedy(place: Path) -> None:
    run(place)
    (name,) = (place / "out" / MODEL_FOLDER).glob("*.safetensors")
    name.write_bytes(b"torn")
    with pytest.raises(TableError, match="remove both files"):
        run(place, now=LATER)
