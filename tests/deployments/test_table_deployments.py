"""`tables.yaml` becomes Prefect's deployment file: one set of deployments a table, none in another's way."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.table_deployments import HERE, prefect_file
from deployments.tables_file import read_tables
from sbert.errors import SettingsError
from sbert.storage.files import normalize_uri

TWO = """
tables:
  tickets:
    raw: /data/tickets/raw/
    table: /data/tickets/table
    labels: /data/tickets/labels
    models: /data/models
    text_column: body
    keep_columns: [kind, body]
    settings: {cleaning: {mask_emails: true}}
    nightly: {cron: "30 1 * * *", timezone: UTC}
    upkeep: null
  articles:
    raw: /data/articles/raw
    table: /data/articles/table
    models: /data/models
"""


def made(folder: Path, text: str) -> dict[str, dict[str, Any]]:
    """Return the deployments of a tables file, by name."""
    (folder / "tables.yaml").write_text(text)
    return {item["name"]: item for item in prefect_file(read_tables(folder / "tables.yaml"))["deployments"]}


def test_the_file_in_the_repository_is_the_one_made_from_the_tables() -> None:
    written = yaml.safe_load((HERE / "prefect.yaml").read_text())
    assert written == prefect_file(read_tables(HERE / "tables.yaml")), "run python deployments/table_deployments.py"


def test_two_tables_live_side_by_side(tmp_path: Path) -> None:
    deployments = made(tmp_path, TWO)
    assert set(deployments) == {
        "nightly-refresh-tickets", "backfill-tickets", "upkeep-tickets", "erase-tickets", "reembed-on-promotion-tickets",
        "watch-labels-tickets", "retrain-on-labels-tickets",
        "nightly-refresh-articles", "backfill-articles", "upkeep-articles", "erase-articles",
        "reembed-on-promotion-articles",
    }  # fmt: skip
    assert all(item["concurrency_limit"]["limit"] == 1 for item in deployments.values())
    assert deployments["nightly-refresh-tickets"]["schedules"] == [
        {"cron": "30 1 * * *", "timezone": "UTC", "slug": "nightly"}
    ]
    assert "schedules" not in deployments["upkeep-tickets"]


def test_columns_and_settings_of_a_table_go_to_every_job_that_builds_its_rows(tmp_path: Path) -> None:
    deployments = made(tmp_path, TWO)
    for job in ("nightly-refresh", "backfill", "reembed-on-promotion"):
        assert json.loads(deployments[f"{job}-tickets"]["parameters"]["settings"]) == {
            "cleaning": {"mask_emails": True},
            "source": {"text_column": "body", "keep_columns": ["kind", "body"]},
        }
        assert "settings" not in deployments[f"{job}-articles"]["parameters"]
    assert deployments["backfill-tickets"]["parameters"]["raw_uri"] == "/data/tickets/raw"


@pytest.mark.parametrize(
    ("table", "matched"), [("/data/table", "sbert.table./data/table"), ("{{ $SBERT_TABLE_URI }}", "sbert.table.*")]
)
def test_another_table_does_not_start_the_followers_of_a_single_table_whose_place_is_known(
    tmp_path: Path, table: str, matched: str
) -> None:
    deployments = made(
        tmp_path, json.dumps({"tables": {"default": {"raw": "/data/raw", "table": table, "index": True}}})
    )
    assert deployments["index-on-publish"]["triggers"][0]["match"] == {"prefect.resource.id": matched}


def test_an_event_starts_the_jobs_of_its_own_table_only(tmp_path: Path) -> None:
    deployments = made(tmp_path, TWO)
    match = {
        name: item["triggers"][0]["match"]["prefect.resource.id"]
        for name, item in deployments.items()
        if "triggers" in item
    }
    assert match == {
        "retrain-on-labels-tickets": "sbert.labels./data/tickets/labels",
        "reembed-on-promotion-tickets": "sbert.registry./data/models",
        "reembed-on-promotion-articles": "sbert.registry./data/models",  # both follow one registry
    }


ONE = "raw: a, table: b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tables: {}", "at least 1 item"),
        ("tables: {t: {raw: a}}", "tables.t.table: Field required"),
        (f"tables: {{t: {{{ONE}, keep_colums: [x]}}}}", "did you mean keep_columns"),
        (f"tables: {{t: {{{ONE}, labels: c}}}}", "labels are given without models"),
        (f"tables: {{t: {{{ONE}, settings: {{cleaning: {{min_char: 1}}}}}}}}", "cleaning.min_char: no such setting"),
        (f"tables: {{t: {{{ONE}, models: m, settings: {{model: x}}}}}}", "every night would undo the promotions"),
        (f"tables: {{t: {{{ONE}}}, u: {{raw: c, table: b/}}}}", "t and u have the same table"),
        (f"tables: {{'a b': {{{ONE}}}}}", "not a valid name of a table"),
        ("tables: [", "tables.yaml"),
        (f"tables: {{t: {{{ONE}, raw2: 's3://k:s@b'}}}}", "no such setting"),
    ],
)  # fmt: skip
def test_mistakes_are_named_by_table_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        made(tmp_path, text)


FOLLOWED = """
tables:
  tickets:
    raw: /data/tickets/raw
    table: /data/tickets/table
    applications: {neighbours: {out: /data/tickets/neighbours/, parameters: {k: 5}}}
    index: true
    words: true
    index_settings: {min_recall: 0.9}
    destinations:
      search: {location: "postgresql://db/app#public.tickets", credentials: app-db}
      lake: {location: "lancedb:/data/lance#tickets", reconcile: null}
  articles:
    raw: /data/articles/raw
    table: /data/articles/table
"""


def test_followers_start_when_their_table_has_a_new_version_and_once_a_day(tmp_path: Path) -> None:
    deployments = made(tmp_path, FOLLOWED)
    assert {name for name in deployments if "tickets" in name} == {
        "nightly-refresh-tickets", "backfill-tickets", "upkeep-tickets", "neighbours-on-publish-tickets", "upkeep-neighbours-tickets",
        "index-on-publish-tickets", "words-on-publish-tickets",
        "sync-on-publish-search-tickets", "sync-on-publish-lake-tickets", "reconcile-search-tickets",
        "reconcile-lake-tickets", "erase-tickets",
    }  # fmt: skip
    erasure = deployments["erase-tickets"]["parameters"]
    assert {**erasure, "destinations": json.loads(erasure["destinations"])} == {
        "table_uri": "/data/tickets/table",
        "destinations": {"postgresql://db/app#public.tickets": "app-db", "lancedb:/data/lance#tickets": ""},
        "derived": ["/data/tickets/neighbours"],
    }
    sync = deployments["sync-on-publish-search-tickets"]
    assert sync["parameters"] == {
        "table_uri": "/data/tickets/table",
        "destination": "postgresql://db/app#public.tickets",
        "credentials": "app-db",
    }
    (trigger,) = sync["triggers"]
    assert trigger["expect"] == ["sbert.table.published"]
    assert trigger["match"] == {"prefect.resource.id": "sbert.table./data/tickets/table"}
    assert sync["schedules"][0]["cron"] == "0 6 * * *"
    index = deployments["index-on-publish-tickets"]
    assert index["parameters"] == {"table_uri": "/data/tickets/table", "settings": '{"min_recall": 0.9}'}
    assert index["triggers"][0]["expect"] == ["sbert.table.published"]
    words = deployments["words-on-publish-tickets"]
    assert words["parameters"] == {"table_uri": "/data/tickets/table"}
    assert words["triggers"][0]["expect"] == ["sbert.table.published"]
    nearest = deployments["neighbours-on-publish-tickets"]
    assert nearest["entrypoint"] == "flows.neighbours.find_neighbours"
    assert nearest["parameters"] == {
        "table_uri": "/data/tickets/table",
        "out_uri": "/data/tickets/neighbours",
        "k": 5,
    }
    assert nearest["triggers"][0]["match"] == {"prefect.resource.id": "sbert.table./data/tickets/table"}
    assert deployments["upkeep-neighbours-tickets"]["parameters"] == {
        "table_uri": "/data/tickets/neighbours",
        "compact": False,
    }
    assert "triggers" not in deployments["reconcile-search-tickets"]
    assert "schedules" not in deployments["reconcile-lake-tickets"]
    names = [trigger["name"] for item in deployments.values() for trigger in item.get("triggers", ())]
    assert len(set(names)) == len(names)


def test_an_application_can_follow_the_output_of_another(tmp_path: Path) -> None:
    chain = "{first: {job: neighbours, out: /data/first}, second: {job: neighbours, out: /data/second, after: first}}"
    deployments = made(
        tmp_path, FOLLOWED.replace("{neighbours: {out: /data/tickets/neighbours/, parameters: {k: 5}}}", chain)
    )
    second = deployments["second-on-publish-tickets"]
    assert second["parameters"]["table_uri"] == "/data/first"
    (trigger,) = second["triggers"]
    assert trigger["expect"] == ["sbert.derived.published"]
    assert trigger["match"] == {"prefect.resource.id": "sbert.derived./data/first"}


def test_a_map_after_topics_draws_the_table_with_these_topics(tmp_path: Path) -> None:
    entry = "{topics: {out: /data/topics}, map: {out: /data/map.html, after: topics}}"
    drawn = made(tmp_path, f"tables: {{default: {{{ONE}, applications: {entry}}}}}")["map-on-publish"]
    assert drawn["parameters"] == {
        "table_uri": normalize_uri("b"),
        "topics_uri": "/data/topics",
        "output_uri": "/data/map.html",
    }
    (trigger,) = drawn["triggers"]
    assert trigger["match"] == {"prefect.resource.id": "sbert.derived./data/topics"}


def test_an_output_that_is_no_table_needs_no_upkeep_and_is_no_place_of_rows(tmp_path: Path) -> None:
    deployments = made(tmp_path, f"tables: {{default: {{{ONE}, applications: {{map: {{out: /data/map.html}}}}}}}}")
    assert deployments["map-on-publish"]["parameters"]["output_uri"] == "/data/map.html"
    assert "upkeep-map" not in deployments
    assert "derived" not in deployments["erase"]["parameters"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{best: {out: /o}}", "there is no application 'best': set job to one of .*neighbours"),
        ("{neighbours: {}}", "applications.neighbours.out: Field required"),
        ("{neighbours: {out: /o, after: topics}}", "after is topics, but this table has no such application"),
        (
            "{neighbours: {out: /o, parameters: {nearest: 5}}}",
            "neighbours has no parameter 'nearest' to set: choose from",
        ),
        ("{neighbours: {out: /o, parameters: {k: many}}}", "applications.neighbours.parameters: .*k: Input should be"),
    ],
)
def test_an_application_that_cannot_work_is_named(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        made(tmp_path, f"tables: {{t: {{{ONE}, applications: {entry}}}}}")


def test_a_destination_that_cannot_work_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tickets.*unknown store 'mongodb'"):
        made(tmp_path, FOLLOWED.replace("lancedb:", "mongodb:"))
    with pytest.raises(SettingsError, match="a password does not belong in a location"):
        made(tmp_path, FOLLOWED.replace("//db/app", "//user:secret@db/app"))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        read_tables(tmp_path / "nowhere.yaml")
