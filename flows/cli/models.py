"""``sbert models``: list the versions of a registry, compare two, go back to an earlier one."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as TextTable

from flows.cli.app import Panel, command
from flows.cli.options import Json, ModelsUri
from flows.cli.output import answering, cell, out
from flows.cli.text_tables import Column, print_rows
from sbert.errors import SettingsError

if TYPE_CHECKING:
    from sbert.registry.store import Registry
    from sbert.registry.version_record import VersionRecord


class ModelsAction(StrEnum):
    """Actions of `sbert models` on a registry."""

    LIST = "list"
    COMPARE = "compare"
    ROLLBACK = "rollback"
    APPROVE = "approve"
    REFUSE = "refuse"


@command(Panel.MODELS, example="sbert models s3://bucket/models compare v0001 v0002")
def models(
    models_uri: ModelsUri,
    action: Annotated[
        ModelsAction, typer.Argument(metavar="ACTION", help="Action on the registry.")
    ] = ModelsAction.LIST,
    versions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VERSION",
            help="compare: two versions. rollback: the version to go back to. approve, refuse: the version that waits.",
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="rollback: the version to go back to.", show_default="the one before"),
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="approve, refuse: who decides.")] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="approve, refuse: why.")] = "",
    as_json: Json = False,
) -> None:
    """List the versions of a model registry, compare two, go back to an earlier one, or decide about one that waits."""
    with answering(as_json=as_json) as answer:
        from sbert.registry.store import Registry

        registry, named = Registry(models_uri), versions or []
        registry.check()
        if action is ModelsAction.COMPARE:
            if len(named) != 2:
                raise SettingsError(f"compare needs two versions, but got {len(named)}: name two, such as v0001 v0002")
            compared = compare_versions(registry.version(named[0]), registry.version(named[1]))
            answer.print({"models_uri": registry.uri, **compared}, _show_comparison)
        elif action in {ModelsAction.APPROVE, ModelsAction.REFUSE}:
            if len(named) != 1 or not name.strip() or not reason.strip():
                raise SettingsError(
                    f"{action} needs one version, --name and --reason, for example: {action} v0002 --name Ada "
                    "--reason 'its errors are harmless'"
                )
            report = decide(registry.uri, named[0], approved=action is ModelsAction.APPROVE, name=name, reason=reason)
            answer.print(report, lambda done: out.print(done["reason"], markup=False))
        elif action is ModelsAction.ROLLBACK:
            if len(named) > 1 or (named and version):
                raise SettingsError("rollback takes one version: name it once")
            pointer = registry.rollback(version or (named[0] if named else None))
            answer.print(
                {"models_uri": registry.uri, **pointer.model_dump(mode="json")},
                lambda moved: out.print(f"production: {moved['previous']} → {moved['version']}", markup=False),
            )
        else:
            if named:
                raise SettingsError(f"list takes no versions: leave out {', '.join(named)}")
            answer.print(_listing(registry), _show_listing)


def decide(models_uri: str, version: str, *, approved: bool, name: str, reason: str) -> dict[str, Any]:
    """Approve or refuse a version that waits, and tell a Prefect server where there is one; return the report."""
    from sbert.registry.approval import made_now
    from sbert.retrain.late_decision import decide_version

    report = decide_version(models_uri, version, made_now(approved=approved, name=name, reason=reason))
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is not None:
        from tasks.announce_decision import announce_decision

        announce_decision.fn(models_uri, report)
    return report.model_dump(mode="json")


def _listing(registry: "Registry") -> dict[str, Any]:
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


def _line(record: "VersionRecord", production: str | None) -> dict[str, Any]:
    decision = record.decision or {}
    primary = decision.get("primary") or {}
    return {
        "version": record.version,
        "production": record.version == production,
        "accepted": record.was_accepted,
        "awaits_approval": record.awaits_approval,
        "approval": record.approval.model_dump(mode="json") if record.approval else None,
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


def compare_versions(left: "VersionRecord", right: "VersionRecord") -> dict[str, Any]:
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


def _sets(record: "VersionRecord") -> dict[str, Any]:
    return dict((record.after or {}).get("sets", {}))


def _show_listing(listing: dict[str, Any]) -> None:
    out.print(listing["models_uri"], style="italic", markup=False)
    if not listing["versions"]:
        out.print("no versions yet: the first retraining makes one")
    table = TextTable.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for line in listing["versions"]:
        state = "production" if line["production"] else "accepted" if line["accepted"] else "refused"
        state = "waits for approval" if line["awaits_approval"] else state
        details = [state if line["weights"] else f"{state}, no weights", line["created_at"][:16].replace("T", " ")]
        if line["metric"] is not None:
            details.append(f"{line['metric']} {line['before']:.4f} → {line['after']:.4f}")
        details.append(line["encoder_fingerprint"][:12])
        table.add_row(cell(line["version"]), cell(" · ".join(details)))
        table.add_row("", cell(line["reason"]), style="dim")
        if line["approval"] is not None:
            said = "approved" if line["approval"]["approved"] else "refused"
            table.add_row("", cell(f"{said} by {line['approval']['name']}: {line['approval']['reason']}"), style="dim")
    out.print(table)


def _show_comparison(comparison: dict[str, Any]) -> None:
    sides = (comparison["left"], comparison["right"])
    columns = [
        Column("set", is_lead=True),
        Column("metric", is_lead=True),
        *(Column(version, is_number=True) for version in sides),
        Column("same rows"),
    ]
    rows = [
        [
            line["set"],
            line["metric"],
            *("" if line[side] is None else f"{line[side]:.4f}" for side in ("left", "right")),
            "yes" if line["same_rows"] else "no",
        ]
        for line in comparison["metrics"]
    ]
    print_rows(" and ".join(sides), columns, rows)
