"""``sbert models``: what is in a registry, how versions compare, and the way back."""

from typing import Annotated, Any, Literal

import typer
from rich.table import Table as TextTable

from flows.cli.common import Json, ModelsUri, app, cell, errors, out, print_result
from sbert.errors import SettingsError
from sbert.registry.store import Registry, VersionRecord


@app.command()
def models(
    models_uri: ModelsUri,
    action: Annotated[Literal["list", "compare", "rollback"], typer.Argument(help="What to do.")] = "list",
    versions: Annotated[
        list[str] | None, typer.Argument(help="compare: two versions; rollback: the version, else the one before.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="rollback: the version to go back to. [the one before]")] = None,
    as_json: Json = False,
) -> None:
    """List the versions of a model registry, compare two of them, or make an earlier one production again."""
    with errors(as_json):
        registry, named = Registry(models_uri), versions or []
        if action == "compare":
            if len(named) != 2:
                raise SettingsError(f"compare needs two versions, {len(named)} given: compare v0001 v0002")
            found = compare_versions(registry.version(named[0]), registry.version(named[1]))
            print_result({"models_uri": registry.uri, **found}, as_json, _show_comparison)
        elif action == "rollback":
            if len(named) > 1 or (named and version):
                raise SettingsError("rollback goes back to one version: name it once")
            pointer = registry.rollback(version or (named[0] if named else None))
            print_result(
                {"models_uri": registry.uri, **pointer.model_dump(mode="json")},
                as_json,
                lambda moved: out.print(f"production: {moved['previous']} → {moved['version']}", markup=False),
            )
        else:
            if named:
                raise SettingsError(f"list takes no versions, given are {', '.join(named)}")
            print_result(_listing(registry), as_json, _show_listing)


def _listing(registry: Registry) -> dict[str, Any]:
    production = registry.production()
    return {
        "models_uri": registry.uri,
        "production": production.version if production else None,
        "versions": [
            _line(record, production.version if production else None)
            | {"weights": registry.has_weights(record.version)}
            for record in registry.versions()
        ],
        "history": [pointer.model_dump(mode="json", exclude={"token"}) for pointer in registry.history()],
    }


def _line(record: VersionRecord, production: str | None) -> dict[str, Any]:
    decision = record.decision or {}
    primary = decision.get("primary") or {}
    return {
        "version": record.version,
        "production": record.version == production,
        "accepted": record.was_accepted,
        "created_at": record.created_at,
        "base": record.base,
        "encoder_fingerprint": record.encoder_fingerprint,
        "dim": record.dim,
        "metric": primary.get("metric"),
        "before": primary.get("before"),
        "after": primary.get("after"),
        "reason": "; ".join(decision.get("reasons", ["imported"])),
        "labels": record.labels.uri if record.labels else None,
    }


def compare_versions(left: VersionRecord, right: VersionRecord) -> dict[str, Any]:
    """Put the recorded metrics of two versions side by side; only values on the same frozen rows are comparable."""
    rows = []
    for name in sorted({*_sets(left), *_sets(right)}):
        ours, theirs = _sets(left).get(name, {}), _sets(right).get(name, {})
        same = ours.get("fingerprint") == theirs.get("fingerprint")
        for metric in dict.fromkeys([*ours.get("metrics", {}), *theirs.get("metrics", {})]):
            first = ours.get("metrics", {}).get(metric, {}).get("value")
            second = theirs.get("metrics", {}).get(metric, {}).get("value")
            rows.append({"set": name, "metric": metric, "left": first, "right": second, "same_rows": same})
    return {"left": left.version, "right": right.version, "metrics": rows}


def _sets(record: VersionRecord) -> dict[str, Any]:
    return dict((record.after or {}).get("sets", {}))


def _show_listing(found: dict[str, Any]) -> None:
    table = TextTable(title=found["models_uri"], title_justify="left")
    for name in ("version", "", "made (UTC)", "metric", "before", "after", "encoder", "why"):
        table.add_column(name, justify="right" if name in {"before", "after"} else "left", overflow="fold")
    for line in found["versions"]:
        mark = "production" if line["production"] else "" if line["accepted"] else "refused"
        mark += "" if line["weights"] else ", no weights"
        values = [f"{line[name]:.4f}" if line[name] is not None else "" for name in ("before", "after")]
        made = line["created_at"][:16].replace("T", " ")
        fingerprint = line["encoder_fingerprint"][:12]
        row = (line["version"], mark, made, line["metric"] or "", *values, fingerprint, line["reason"])
        table.add_row(*(cell(value) for value in row))
    out.print(table)


def _show_comparison(found: dict[str, Any]) -> None:
    table = TextTable(title=f"{found['left']} and {found['right']}", title_justify="left")
    for name in ("set", "metric", found["left"], found["right"], "same rows"):
        table.add_column(name, justify="left" if name in {"set", "metric"} else "right")
    for line in found["metrics"]:
        values = ["" if line[side] is None else f"{line[side]:.4f}" for side in ("left", "right")]
        table.add_row(cell(line["set"]), cell(line["metric"]), *values, "yes" if line["same_rows"] else "no")
    out.print(table)
