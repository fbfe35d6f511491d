"""``sbert retrain``."""

from typing import Annotated, Any

import typer
from rich.table import Table as TextTable

from flows.cli.common import Json, ModelsUri, app, cell, errors, out, print_result, read_settings
from flows.cli.server import begin_server


@app.command()
def retrain(
    labels_uri: Annotated[
        str, typer.Argument(metavar="LABELS_URI", help="File, folder or glob of labels, local or s3://.")
    ],
    models_uri: ModelsUri,
    base: Annotated[
        str | None, typer.Option(help="Model to begin with: folder, s3:// URI or hub id. [production]")
    ] = None,
    settings: Annotated[str | None, typer.Option(help="All other settings, as a JSON object or @file.json.")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Train again, on all train rows, although these labels were decided on before."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune the encoder on LABELS, compare it with production in MODELS, promote it only if it is better.

    Exit status is 0 when the candidate was promoted or refused, 1 when that could not be decided.
    """
    with errors(as_json):
        wait_for_server = begin_server()
        from flows.retrain import retrain_encoder
        from sbert.retrain.settings import RetrainSettings

        parsed = read_settings(settings, RetrainSettings)
        wait_for_server()
        report = retrain_encoder(
            labels_uri=labels_uri,
            models_uri=models_uri,
            base=base,
            force=force,
            settings=parsed,
        )
        print_result(report.model_dump(mode="json"), as_json, _show_retrain)


def _show_retrain(report: dict[str, Any]) -> None:
    verdict = "promoted" if report["promoted"] else "not promoted"
    candidate = "nothing new" if report["decided_before"] else report["candidate"] or "no new model"
    table = TextTable(title=f"{candidate} · {verdict}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    primary = report["decision"]["primary"]
    regression_sets = report["decision"]["regression_sets"]
    for name, value in (
        ("reason", report["reason"]),
        ("production", f"{report['previous']} → {report['version']}"),
        (
            report["primary_metric"],
            f"{report['before']:.4f} → {report['after']:.4f} on {primary['num_rows']:,} rows, gain {primary['gain']:+.4f} "
            f"[{primary['low']:+.4f}, {primary['high']:+.4f}]",
        ),
        *(
            (
                f"regression set {item['set_name']}",
                f"{item['metric']} {item['before']:.4f} → {item['after']:.4f}, accepted drop {item['tolerance']:g}",
            )
            for item in regression_sets
        ),
        ("labels", ", ".join(f"{count:,} {kind}" for kind, count in report["labels"]["counts"].items())),
        ("training", f"{report['stop_reason']} after {report['num_steps']:,} steps"),
        ("report", report["report_uri"] or ""),
        ("seconds", f"{report['seconds']:,.1f}"),
    ):
        table.add_row(cell(name), cell(value))
    out.print(table)
    if report["run_url"]:
        out.print(f"Prefect run: {report['run_url']}", markup=False)
