"""``sbert suggest``."""

from typing import Annotated, Any

import typer
from rich.table import Table as TextTable

from flows.cli.common import Json, TableUri, app, cell, errors, out, print_result, read_settings
from sbert.suggest.suggestion_kinds import SuggestionKind


@app.command()
def suggest(
    table_uri: TableUri,
    labels_out: Annotated[
        str, typer.Argument(metavar="LABELS_OUT", help="File to write, .jsonl, .csv or .parquet, local or s3://.")
    ],
    num: Annotated[int, typer.Option("-n", min=1, help="How many texts or pairs.")] = 100,
    kind: Annotated[SuggestionKind, typer.Option(help="What is to be labelled.")] = SuggestionKind.CLASSES,
    models_uri: Annotated[
        str | None, typer.Option("--models", help="Model registry: its candidate is asked for disagreement.")
    ] = None,
    candidate: Annotated[
        str | None, typer.Option(help="Version to compare with production. [newest that is not production]")
    ] = None,
    labels_uri: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="Labels there are: what is uncertain, what need not be asked; how they are read is `labels` in --settings.",
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of TABLE that keeps the text. [text]")] = None,
    settings: Annotated[str | None, typer.Option(help="All other settings, as a JSON object or @file.json.")] = None,
    as_json: Json = False,
) -> None:
    """Write the texts or pairs of TABLE whose labels would teach most, as labels to be filled in."""
    with errors(as_json):
        from sbert.encoder.sentence_encoder import SentenceEncoder
        from sbert.index.exact_search import load_table_encoder
        from sbert.suggest.settings import SuggestSettings
        from sbert.suggest.suggest import candidate_model, check_target, load_labelled, write_suggestions
        from sbert.suggest.suggest import suggest as choose
        from sbert.table.delta import Table

        check_target(labels_out)
        chosen = read_settings(settings, SuggestSettings).model_copy(update={"kind": kind})
        if text_column is not None:
            chosen = chosen.model_copy(update={"text_column": text_column})
        table = Table.open(table_uri)
        other = candidate_model(models_uri, candidate)
        labels, labelled = load_labelled(labels_uri, chosen) if labels_uri else (None, None)
        found = choose(
            table,
            num,
            encoder=load_table_encoder(table),
            candidate=SentenceEncoder.from_pretrained(other) if other else None,
            labels=labels,
            labelled=labelled,
            settings=chosen,
        )
        write_suggestions(found.rows, labels_out)
        result = {
            "table_uri": table.uri,
            "labels_out": labels_out,
            "num_rows": found.rows.height,
            "num_pool": found.num_pool,
            "criteria": list(found.criteria),
            "candidate": other,
            "rows": found.rows.head(10).to_dicts(),
        }
        print_result(result, as_json, _show_suggestions)


def _show_suggestions(result: dict[str, Any]) -> None:
    title = f"{result['num_rows']:,} from {result['num_pool']:,} texts → {result['labels_out']}"
    table = TextTable(title=title, title_justify="left")
    names = [name for name in ("text", "sentence1", "sentence2") if name in (result["rows"] or [{}])[0]]
    for name in names:
        table.add_column(name, overflow="ellipsis", max_width=70, no_wrap=True)
    for row in result["rows"]:
        table.add_row(*(cell(row[name]) for name in names))
    out.print(table)
