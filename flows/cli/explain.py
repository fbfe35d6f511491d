"""``sbert explain``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, check_location
from flows.cli.output import answering, out
from flows.cli.text_tables import Column, print_rows


@command(Panel.APPLICATIONS, example='sbert explain "I lost my password" "How do I reset my login?" --output why.html')
def explain(
    left: Annotated[str, typer.Argument(metavar="TEXT", help="A text.")],
    right: Annotated[str, typer.Argument(metavar="TEXT", help="Another text.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Encoder: folder, model registry, s3:// URI or Hugging Face id.",
            show_default="the packaged one",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="TABLE_URI", help="Use the encoder of this table.", callback=check_location),
    ] = None,
    is_query: Annotated[bool, typer.Option("--query", help="The first text is a query, the second a row.")] = False,
    through_layers: Annotated[
        bool, typer.Option("--through-layers", help="Follow words through all layers; takes a hundred times as long.")
    ] = False,
    num: Annotated[int, typer.Option("-n", "--num", min=1, max=1_000, metavar="N", help="Pairs to print.")] = 10,
    output: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="HTML file to write as well, local or s3://.", callback=check_location),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why two texts are near: the part of each pair of words in the cosine, and what the vectors overlook."""
    if model is not None and table is not None:
        raise typer.BadParameter("--model and --table both name an encoder: give one of them")
    with answering(as_json=as_json) as answer:
        from sbert.encoder.model_location import DEFAULT_MODEL
        from sbert.encoder.side import Side
        from sbert.explanation.explain import Explainer
        from sbert.explanation.settings import ExplanationSettings, Method
        from sbert.table.delta import Table

        settings = ExplanationSettings(method=Method.THROUGH_LAYERS if through_layers else Method.LAST_LAYER)
        if table is not None:
            explainer = Explainer.of_table(Table.open(table), settings)
        else:
            explainer = Explainer.of_model(model or DEFAULT_MODEL, settings)
        sides = (Side.QUERY if is_query else Side.DOCUMENT, Side.DOCUMENT)
        explanation = explainer.explain(left, right, sides=sides)
        if output is not None:
            from sbert.explanation.page import explanation_page
            from sbert.storage.files import normalize_uri, write_bytes

            output = normalize_uri(output)
            write_bytes(output, explanation_page(explanation).encode())
        pairs = [pair.model_dump(mode="json") for pair in explanation.pairs[:num]]
        answer.print({**explanation.model_dump(mode="json"), "pairs": pairs, "output": output}, _show_explanation)


def _show_explanation(explanation: dict[str, Any]) -> None:
    rest = explanation["parts"][-1][-1]
    print_rows(
        f"cosine {explanation['cosine']:.4f} by {explanation['model']} ({explanation['method']}); the parts add up to it "
        f"but for {explanation['error']:.1e}",
        (Column("part", is_number=True), Column("left", is_lead=True), Column("right", is_lead=True)),
        [(f"{pair['part']:+.4f}", pair["left"], pair["right"]) for pair in explanation["pairs"]],
    )
    of_words = sum(word["part"] for word in explanation["left"]["words"])
    out.print(
        f"words of the left text {of_words:+.4f}, its rest {explanation['left']['rest']:+.4f}; both rests alone {rest:+.4f}",
        style="dim",
        markup=False,
    )
    for side in ("left", "right"):
        if explanation[side]["truncated"]:
            out.print(f"the {side} text is longer than the encoder reads: its end counts for nothing", style="yellow")
    for warning in explanation["warnings"]:
        out.print(f"warning: the vectors overlook a difference: {warning['message']}", style="yellow", markup=False)
    if explanation["output"]:
        out.print(f"wrote {explanation['output']}", markup=False)
