"""``sbert suggest``."""

from typing import Annotated, Any

import typer
from rich.table import Table as TextTable

from flows.cli.app import Panel, command
from flows.cli.options import Json, SettingsJson, TableUri, TextColumn, check_location
from flows.cli.output import answering, cell, out
from flows.cli.settings_json import load_settings
from sbert.counted import counted
from sbert.suggest.suggestion_kinds import SuggestionKind

NUM_SHOWN = 10
"""Rows of the file that are shown."""
MAX_COLUMN = 70
BORDER = 4
"""Columns of the lines and spaces around one column of the table."""


@command(Panel.MODELS, example="sbert suggest s3://bucket/table labels.jsonl -n 200 --labels s3://bucket/labels")
def suggest(
    table_uri: TableUri,
    labels_out: Annotated[
        str,
        typer.Argument(
            metavar="LABELS_OUT",
            callback=check_location,
            help="File to write: .jsonl, .csv or .parquet, local or s3://.",
        ),
    ],
    num: Annotated[int, typer.Option("-n", "--num", min=1, metavar="N", help="Texts or pairs to suggest.")] = 100,
    kind: Annotated[SuggestionKind, typer.Option(help="Kind of labels to collect.")] = SuggestionKind.CLASSES,
    models_uri: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="MODELS_URI",
            callback=check_location,
            help="Model registry: texts on which its candidate and production disagree come first.",
        ),
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Version to compare with production.", show_default="newest that is not production"
        ),
    ] = None,
    labels_uri: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="LABELS_URI",
            callback=check_location,
            help="Labels that exist: labelled texts are left out, uncertain ones come first.",
        ),
    ] = None,
    predictions_uri: Annotated[
        str | None,
        typer.Option(
            "--predictions",
            metavar="OUT",
            callback=check_location,
            help="Output of `sbert classify` for TABLE: texts on which it abstains come first, then unsure ones.",
        ),
    ] = None,
    text_column: TextColumn = None,
    settings: SettingsJson = None,
    as_json: Json = False,
) -> None:
    """Write the texts or pairs of TABLE that are worth labelling next, as a file to fill in."""
    with answering(as_json=as_json) as answer:
        from sbert.suggest.run import suggest_labels
        from sbert.suggest.settings import SuggestSettings

        parsed = load_settings(settings, SuggestSettings).model_copy(update={"kind": kind})
        if text_column is not None:
            parsed = parsed.model_copy(update={"text_column": text_column})
        report = suggest_labels(
            table_uri,
            labels_out,
            num,
            models_uri=models_uri,
            candidate=candidate,
            labels_uri=labels_uri,
            predictions_uri=predictions_uri,
            settings=parsed,
        )
        result = report.model_dump() | {"rows": report.rows.head(NUM_SHOWN).to_dicts()}
        answer.print(result, _show_suggestions)


def _show_suggestions(result: dict[str, Any]) -> None:
    title = f"{result['num_rows']:,} from {counted(result['num_pool'], 'text')} → {result['labels_out']}"
    table = TextTable(title=title, title_justify="left")
    names = [name for name in ("text", "sentence1", "sentence2") if name in (result["rows"] or [{}])[0]]
    width = max(10, min(MAX_COLUMN, out.width // max(1, len(names)) - BORDER))
    for name in names:
        table.add_column(name, overflow="ellipsis", max_width=width, no_wrap=True)
    for row in result["rows"]:
        table.add_row(*(cell(row[name]) for name in names))
    out.print(table)
    if result["note"]:
        out.print(result["note"], markup=False)
