"""``sbert doctor``."""

from typing import Annotated, Any

import typer
from rich.table import Table as TextTable

from flows.cli.app import Panel, command
from flows.cli.options import Json
from flows.cli.output import answering, out
from flows.cli.text_tables import print_properties


@command(Panel.MODELS, example="sbert doctor --model s3://bucket/models")
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

        diagnosis = diagnose(model or DEFAULT_MODEL, seconds=seconds)
        answer.print({**diagnosis.model_dump(mode="json"), "advice": diagnosis.advice}, _show_doctor)


def _show_doctor(diagnosis: dict[str, Any]) -> None:
    units = ", ".join(name for name, there in diagnosis["features"].items() if there) or "none"
    properties = (
        ("device", f"{diagnosis['device']} ({diagnosis['processor']})"),
        ("matrix units", units),
        ("processors allowed", diagnosis["num_cpus"]),
        ("threads", f"{diagnosis['num_threads']}, {diagnosis['num_batches_at_once']} batches at once"),
        ("tokens of a batch", f"{diagnosis['token_budget']:,}"),
        ("computes in", f"{diagnosis['compute_dtype']}: {diagnosis['dtype_reason']}"),
        ("path", f"{diagnosis['path']}: {diagnosis['reason']}"),
        ("compiled kernels", diagnosis["kernels"]),
    )
    print_properties(diagnosis["model"], properties)
    measured = TextTable(title="measured", title_justify="left")
    for name in ("path", "type", "tokens/s", "least cosine to float32", ""):
        measured.add_column(name, justify="right" if "s" in name and name != "type" else "left")
    for way in diagnosis["measured"]:
        measured.add_row(
            way["path"],
            way["compute_dtype"],
            f"{way['tokens_per_second']:,.0f}",
            f"{way['least_cosine']:.6f}",
            "chosen" if way["chosen"] else "",
        )
    out.print(measured)
    out.print(
        diagnosis["advice"] or "nothing that gives the same vectors was clearly faster than the choice", markup=False
    )
