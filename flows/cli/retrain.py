"""``sbert retrain``."""

import sys
from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import EngineName, Json, LabelsUri, ModelsUri, SettingsJson, parse_engine
from flows.cli.output import answering, out
from flows.cli.prefect_server import loading_flow
from flows.cli.settings_json import load_settings
from flows.cli.text_tables import Column, print_properties, print_rows
from sbert.counted import counted


@command(Panel.MODELS, example="sbert retrain s3://bucket/labels s3://bucket/models")
def retrain(
    labels_uri: LabelsUri,
    models_uri: ModelsUri,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Model to begin with: folder, s3:// URI or Hugging Face id.",
            show_default="production, in an empty registry the packaged one",
        ),
    ] = None,
    settings: SettingsJson = None,
    search: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=1_000,
            help="Try N training settings on dev rows and judge the best; `search` of --settings has time limit and values.",
            show_default="no search",
        ),
    ] = 0,
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="Trials of a search at the same time, with ray or dask.")
    ] = 1,
    engine: Annotated[
        str,
        typer.Option(
            metavar=f"{'|'.join(EngineName)}|JSON",
            help="Engine that runs the trials of a search: its name, or a JSON object of its settings.",
        ),
    ] = "local",
    force: Annotated[
        bool,
        typer.Option("--force", help="Train on all train rows, also when these labels were decided on before."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune the encoder on LABELS, compare it with production in MODELS, and promote it only if it is better.

    Exit status is 0 when the candidate was promoted or refused, 1 when no decision was possible.
    """
    with answering(as_json=as_json) as answer:
        with loading_flow():
            from flows.retrain import retrain_on_labels
            from sbert.retrain.settings import RetrainSettings

            parsed = load_settings(settings, RetrainSettings)
            workers = parse_engine(engine)
        report = retrain_on_labels(
            labels_uri=labels_uri,
            models_uri=models_uri,
            base=base,
            force=force,
            search=search,
            settings=parsed,
            concurrency=concurrency,
            engine=workers,
        )
        shown = report.model_dump(mode="json")
        if report.awaits_approval and not as_json and sys.stdin.isatty():
            shown |= _ask(report.candidate or "", shown, models_uri)
        answer.print(shown, _show_retrain)


def _ask(candidate: str, report: dict[str, Any], models_uri: str) -> dict[str, Any]:
    """Ask at the terminal whether a candidate that passed becomes production; return the changed fields."""
    from flows.cli.models import decide

    out.print(f"{candidate} passed: {report['reason']}\nreport: {report['report_uri']}", markup=False)
    approved = typer.confirm(f"Make {candidate} production in place of {report['previous']}?", default=False)
    name = typer.prompt("Your name")
    reason = typer.prompt("Reason")
    decided = decide(models_uri, candidate, approved=approved, name=name, reason=reason)
    names = ("promoted", "version", "model_uri", "reason", "approval", "awaits_approval")
    return {key: decided[key] for key in names}


def _show_retrain(report: dict[str, Any]) -> None:
    verdict = (
        "promoted" if report["promoted"] else "waits for approval" if report["awaits_approval"] else "not promoted"
    )
    candidate = "nothing new" if report["decided_before"] else report["candidate"] or "no new model"
    primary = report["decision"]["primary"]
    regression_sets = report["decision"]["regression_sets"]
    properties = (
        ("reason", report["reason"]),
        ("production", f"{report['previous']} → {report['version']}"),
        (
            report["primary_metric"],
            f"{report['before']:.4f} → {report['after']:.4f} on {counted(primary['num_rows'], 'row')}, gain "
            f"{primary['gain']:+.4f} [{primary['low']:+.4f}, {primary['high']:+.4f}]",
        ),
        *(
            (
                f"regression set {item['set_name']}",
                f"{item['metric']} {item['before']:.4f} → {item['after']:.4f}, accepted drop {item['tolerance']:g}",
            )
            for item in regression_sets
        ),
        *(
            (
                item["set_name"].replace(":", " "),
                f"{item['metric']} {item['before']:.4f} → {item['after']:.4f}, gain {item['gain']:+.4f} "
                f"[{item['low']:+.4f}, {item['high']:+.4f}]",
            )
            for item in report["decision"]["robustness"]
        ),
        *(("warning", warning) for warning in report["decision"]["warnings"]),
        ("labels", ", ".join(f"{count:,} {kind}" for kind, count in report["labels"]["counts"].items())),
        ("training", f"{report['stop_reason']} after {counted(report['num_steps'], 'step')}"),
        *(("note", note) for note in report["training_notes"]),
        ("report", report["report_uri"] or ""),
        ("seconds", f"{report['seconds']:,.1f}"),
    )
    print_properties(f"{candidate} · {verdict}", properties)
    if report["trials"]:
        _show_trials(report["trials"])
    if report["awaits_approval"]:
        out.print(
            f"decide with: sbert models MODELS_URI approve {report['candidate']} --name NAME --reason REASON (or refuse)",
            markup=False,
        )
    if report["run_url"]:
        out.print(f"Prefect run: {report['run_url']}", markup=False)


def _show_trials(trials: list[dict[str, Any]]) -> None:
    """Print the trials of a search, the best first."""
    from sbert.training.result import Trial

    ranked = sorted(trials, key=lambda trial: (trial["outcome"] != "completed", -(trial["dev"] or 0.0)))
    rows = [
        (
            f"{trial['number']}{' (best)' if trial['is_best'] else ''}",
            "" if trial["dev"] is None else f"{trial['dev']:.4f}",
            trial["outcome"],
            f"{trial['seconds']:,.1f}",
            Trial(**trial).settings_text(),
        )
        for trial in ranked
    ]
    columns = [
        Column("trial", is_lead=True),
        Column("dev", is_number=True, is_lead=True),
        Column("outcome", is_lead=True),
        Column("seconds", is_number=True),
        Column("settings"),
    ]
    print_rows("Trials on dev rows", columns, rows)
