"""Make Prefect's deployment file from `tables.yaml`, which describes each table.

    python deployments/table_deployments.py                    # writes prefect.yaml beside tables.yaml
    python deployments/table_deployments.py --tables /etc/sbert/tables.yaml --output /tmp/prefect.yaml
    python deployments/table_deployments.py --kubernetes deployments/kubernetes.yaml   # for a Kubernetes work pool
    cd deployments && prefect --no-prompt deploy --all

Prefect's file has no loops, so it is generated. The table `default` has deployments with plain names (`nightly-refresh`);
those of any other table end in its name (`nightly-refresh-tickets`). Values such as `{{ $SBERT_RAW_URI }}` are filled in by
`prefect deploy` from its environment.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, this folder alone is on the path

from deployments.applications import VARIABLE, Schedule, application_of
from deployments.kubernetes_jobs import on_kubernetes, pool_template, read_kubernetes
from deployments.tables_file import TableEntry, TablesFile, read_tables, spelled
from sbert.errors import SbertError

__all__ = ["prefect_file"]

HERE = Path(__file__).resolve().parent
DEFAULT_TABLE = "default"
"""Table whose deployments have plain names."""
HEADER = """\
# Made by `python table_deployments.py` from tables.yaml: edit that file, not this one. For stock commands in this folder:
#
#   prefect work-pool create sbert --type process
#   prefect --no-prompt deploy --all
#   prefect automation create --from-file automations.yaml
#   prefect worker start --pool sbert
#
# Credentials come from the environment of the worker, never from here. Workers need this package installed and nothing else:
# entrypoints are modules, no code is pulled.
"""
KUBERNETES_HEADER = """\
# Made by `python table_deployments.py --kubernetes kubernetes.yaml` from tables.yaml and kubernetes.yaml: edit those files,
# not this one. kubernetes.md says how to use it.
"""


def prefect_file(tables: TablesFile) -> dict[str, Any]:
    """Return the content of Prefect's deployment file."""
    is_alone = len(tables.tables) == 1
    deployments = [
        deployment for name, entry in tables.tables.items() for deployment in _deployments(name, entry, is_alone)
    ]
    return {"name": "sbert", "prefect-version": "3.8.8", "pull": [], "deployments": deployments}


def _deployments(table_name: str, entry: TableEntry, is_alone: bool) -> list[dict[str, Any]]:
    """Return the deployments of a table.

    Events of the only table are matched whatever their location; those of several tables by their own location.
    """
    settings = entry.refresh_settings()
    place: dict[str, Any] = {"raw_uri": spelled(entry.raw), "table_uri": spelled(entry.table)}
    if settings:
        place["settings"] = settings
    made = [
        _deployment(
            table_name, entry, "nightly-refresh", "flows.refresh.refresh_embeddings", "nightly",
            "Bring the table up to date with the raw text, every night.", place, schedule=entry.nightly,
        ),
        _deployment(
            table_name, entry, "backfill", "flows.backfill.backfill_embeddings", "backfill",
            "Redo a part of the table on purpose; fill in the form.", place,
        ),
        _deployment(
            table_name, entry, "upkeep", "flows.upkeep.upkeep_table", "weekly",
            "Merge small shards, remove files that no version within the retention needs, check every row.",
            {"table_uri": place["table_uri"]}, schedule=entry.upkeep,
        ),
        _deployment(
            table_name, entry, "erase", "flows.erase.erase_rows", "erase",
            "Erase rows for good, here and in everything that follows the table; fill in the form.",
            _erase_places(entry),
        ),
    ]  # fmt: skip
    if entry.models is not None:
        models = spelled(entry.models)
        # The registry, not the version: of two promotions in a row the later one counts.
        made.append(
            _deployment(
                table_name, entry, "reembed-on-promotion", "flows.refresh.refresh_embeddings", "promotion",
                "Re-embed the table with the promoted model and switch it in one commit.", {**place, "model": models},
                trigger=_trigger("model promoted", "sbert.model.promoted", "sbert.registry", None if is_alone else models,
                                 {"model": "{{ event.payload.models_uri }}"}),
            )
        )  # fmt: skip
    if entry.models is not None and entry.labels is not None:
        labels = spelled(entry.labels)
        learning = {"labels_uri": labels, "models_uri": models}
        made.append(
            _deployment(
                table_name, entry, "watch-labels", "flows.watch_labels.watch_labels", "labels",
                "Look for new labels; emit sbert.labels.arrived once for each new set.",
                {**learning, "min_new_rows": entry.min_new_labels}, schedule=entry.watch_labels,
            )
        )  # fmt: skip
        retrain = {"settings": entry.retrain_settings} if entry.retrain_settings else {}
        made.append(
            _deployment(
                table_name, entry, "retrain-on-labels", "flows.retrain.retrain_on_labels", "training",
                "Fine-tune when labels have arrived; promote the model only if it is better.", {**learning, **retrain},
                trigger=_trigger("labels arrived", "sbert.labels.arrived", "sbert.labels", None if is_alone else labels,
                                 {name: f"{{{{ event.payload.{name} }}}}" for name in learning}),
            )
        )  # fmt: skip
    return [*made, *_followers(table_name, entry, is_alone)]


def _erase_places(entry: TableEntry) -> dict[str, Any]:
    """Return where an erasure has to look: everything that the entry names."""
    places: dict[str, Any] = {"table_uri": spelled(entry.table)}
    if entry.destinations:
        places["destinations"] = {item.location: item.credentials for item in entry.destinations.values()}
    derived = [
        spelled(application.out)
        for name, application in entry.applications.items()
        if application_of(name, application).is_table
    ]
    if derived:
        places["derived"] = derived
    for name, value in (("labels_uri", entry.labels), ("models_uri", entry.models)):
        if value is not None:
            places[name] = spelled(value)
    return places


def _followers(table_name: str, entry: TableEntry, is_alone: bool) -> list[dict[str, Any]]:
    """Return the deployments that start when the table has a new version."""
    table = spelled(entry.table)
    # The location of a single table may be a variable that only the server knows: then any table starts the followers.
    is_any = is_alone and VARIABLE in table
    trigger = _trigger("table published", "sbert.table.published", "sbert.table", None if is_any else table, {})
    made = []
    for name, destination in entry.destinations.items():
        place = {"table_uri": table, "destination": destination.location, "credentials": destination.credentials}
        made.append(
            _deployment(
                table_name, entry, f"sync-on-publish-{name}", "flows.sync_destination.sync_destination", "sync",
                f"Bring {name} to each new version of the table.", place, schedule=destination.sync,
                trigger={**trigger, "name": f"{trigger['name']}: sync {name}"},
            )
        )  # fmt: skip
        made.append(
            _deployment(
                table_name, entry, f"reconcile-{name}", "flows.reconcile_destination.reconcile_destination", "reconcile",
                f"Compare every row of {name} with the table; fail when they differ.", place,
                schedule=destination.reconcile,
            )
        )  # fmt: skip
    if entry.index:
        index_settings = {"settings": entry.index_settings} if entry.index_settings else {}
        made.append(
            _deployment(
                table_name, entry, "index-on-publish", "flows.index_table.index_embeddings", "index",
                "Keep the index for search up to date, and measure its recall.",
                {"table_uri": table, **index_settings}, trigger={**trigger, "name": f"{trigger['name']}: index"},
            )
        )  # fmt: skip
    if entry.words:
        made.append(
            _deployment(
                table_name, entry, "words-on-publish", "flows.index_words.index_table_words", "index",
                "Keep the index for search by words up to date.", {"table_uri": table},
                trigger={**trigger, "name": f"{trigger['name']}: words"},
            )
        )  # fmt: skip
    return [*made, *_applications(table_name, entry, trigger)]


def _applications(table_name: str, entry: TableEntry, table_trigger: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the deployments of the jobs that keep an output of their own up to date."""
    made = []
    for name, asked in entry.applications.items():
        application = application_of(name, asked)
        trigger, after = table_trigger, None
        if asked.after is not None:
            after = spelled(entry.applications[asked.after].out)
            trigger = _trigger("output published", "sbert.derived.published", "sbert.derived", after, {})
        locations = application.locations(spelled(entry.table), after, spelled(asked.out))
        made.append(
            _deployment(
                table_name, entry, f"{name}-on-publish", application.entrypoint, name, application.description,
                {**locations, **asked.parameters}, schedule=asked.schedule,
                trigger={**trigger, "name": f"{trigger['name']}: {name}"},
            )
        )  # fmt: skip
        if application.is_table:
            made.append(
                _deployment(
                    table_name, entry, f"upkeep-{name}", "flows.upkeep.upkeep_table", "weekly",
                    f"Remove files of {name} that no version within the retention needs, check every row.",
                    {"table_uri": spelled(asked.out), "compact": False}, schedule=entry.upkeep,
                )
            )  # fmt: skip
    return made


def _deployment(
    table_name: str,
    entry: TableEntry,
    job: str,
    entrypoint: str,
    tag: str,
    description: str,
    parameters: dict[str, Any],
    *,
    schedule: Schedule | None = None,
    trigger: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one deployment as Prefect's file has it."""
    is_default = table_name == DEFAULT_TABLE
    name = job if is_default else f"{job}-{table_name}"
    deployment = {
        "name": name,
        "description": description if is_default else f"{table_name}: {description}",
        "entrypoint": entrypoint,
        "tags": ["sbert", tag, *([] if is_default else [table_name])],
        "work_pool": {
            "name": entry.work_pool,
            "job_variables": {
                "env": {
                    # A killed run is noticed by the heartbeat that it no longer sends (automations.yaml).
                    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
                    "PREFECT_LOGGING_EXTRA_LOGGERS": "sbert,flows,tasks",
                    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                    "DO_NOT_TRACK": "1",
                }
            },
        },
        # Of two runs the second waits. It then finds nothing left to do and ends at once.
        "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
        # The form shows an object that is JSON text; it has no field for a parsed one.
        "parameters": {
            name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
            for name, value in parameters.items()
        },
    }
    if schedule is not None:
        deployment["schedules"] = [schedule.entry(tag)]
    if trigger is not None:
        deployment["triggers"] = [{**trigger, "name": f"{trigger['name']}{'' if is_default else f' ({table_name})'}"}]
    return deployment


def _trigger(name: str, event: str, resource: str, location: str | None, parameters: dict[str, str]) -> dict[str, Any]:
    """Return the trigger of a deployment by an event about a location, or about any."""
    return {
        "type": "event",
        "name": f"sbert {name}",
        "enabled": True,
        "expect": [event],
        "match": {"prefect.resource.id": f"{resource}.{'*' if location is None else location}"},
        **({"parameters": parameters} if parameters else {}),
    }


class _PlainDumper(yaml.SafeDumper):
    """Writes equal values out each time, so that the file reads without jumps."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Use no aliases."""
        return True


def main() -> int:
    """Write Prefect's file, or print the mistake in `tables.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=HERE / "tables.yaml", help="file to read")
    parser.add_argument(
        "--output",
        type=Path,
        help="file to write (default: prefect.yaml here, with --kubernetes prefect.kubernetes.yaml)",
    )
    parser.add_argument(
        "--kubernetes",
        type=Path,
        help="file with image, service account and resources; the base job template of the pool is written beside it",
    )
    asked = parser.parse_args()
    try:
        content = prefect_file(read_tables(asked.tables))
        if asked.kubernetes is not None:
            content = on_kubernetes(content, read_kubernetes(asked.kubernetes))
            template = json.dumps(pool_template(), indent=1) + "\n"
            asked.kubernetes.with_suffix(".template.json").write_text(template, encoding="utf-8")
    except SbertError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    header, name = (
        (HEADER, "prefect.yaml") if asked.kubernetes is None else (KUBERNETES_HEADER, "prefect.kubernetes.yaml")
    )
    written = yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120)
    (asked.output or HERE / name).write_text(header + written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
