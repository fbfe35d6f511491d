"""``sbert doctor``."""

from typing import Annotated, Any

import typer
from rich.table import Table as TextTable

from flows.cli.app import Panel, app, example
from flows.cli.options import Json
from flows.cli.output import answering, cell, out


@app.command(rich_help_panel=Panel.MODELS, epilog=example("sbert doctor --model s3://bucket/models"))
def doctor(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Encoder: folder, model registry, s3:// URI or Hugging Face id.",
            show_default="the packaged one",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, metavar="SECONDS", help="Time to measure for.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Print how an encoder will compute on this machine, why, and how fast each way is."""
    with answering(as_json=as_json) as answer:
        from sbert.encoder.doctor import diagnose
        from sbert.encoder.model_location import DEFAULT_MODEL

        found = diagnose(model or DEFAULT_MODEL, seconds=seconds)
        answer.print({**found.model_dump(mode="json"), "advice": found.advice}, _show_doctor)


def _show_doctor(found: dict[str, Any]) -> None:
    units = ", ".join(name for name, there in found["features"].items() if there) or "none"
    facts = TextTable(title=found["model"], title_justify="left", show_header=False)
    facts.add_column(style="bold")
    facts.add_column()
    for name, value in (
        ("device", f"{found['device']} ({found['processor']})"),
        ("matrix units", units),
        ("processors allowed", found["num_cpus"]),
        ("threads", f"{found['num_threads']}, {found['num_batches_at_once']} batches at once"),
        ("tokens of a batch", f"{found['token_budget']:,}"),
        ("computes in", f"{found['compute_dtype']}: {found['dtype_reason']}"),
        ("path", f"{found['path']}: {found['reason']}"),
        ("compiled kernels", found["kernels"]),
    ):
        facts.add_row(name, cell(value))
    out.print(facts)
    measured = TextTable(title="measured", title_justify="left")
    for name in ("path", "type", "tokens/s", "least cosine to float32", ""):
        measured.add_column(name, justify="right" if "s" in name and name != "type" else "left")
    for way in found["measured"]:
        measured.add_row(
            way["path"],
            way["compute_dtype"],
            f"{way['tokens_per_second']:,.0f}",
            f"{way['least_cosine']:.6f}",
            "chosen" if way["chosen"] else "",
        )
    out.print(measured)
    out.print(found["advice"] or "nothing that gives the same vectors was clearly faster than the choice", markup=False)
