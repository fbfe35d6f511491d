"""``sbert recommend``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.derived_answer import show_derived
from flows.cli.options import Concurrency, Explain, Json, OutUri, SettingsJson, check_location
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.APPLICATIONS, example="sbert recommend s3://bucket/items s3://bucket/events s3://bucket/lists")
def recommend(
    items_uri: Annotated[
        str,
        typer.Argument(
            metavar="ITEMS_URI", help="Folder of the items' table, local or s3://.", callback=check_location
        ),
    ],
    events_uri: Annotated[
        str,
        typer.Argument(
            metavar="EVENTS_URI",
            help="File, folder or glob of events (user, item, type, time), local or s3://.",
            callback=check_location,
        ),
    ],
    out_uri: OutUri,
    k: Annotated[
        int | None,
        typer.Option("-k", min=1, max=1_000, metavar="N", help="Items in the list of a user.", show_default="20"),
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Fit the model anew now, and make every list again.")] = False,
    explain: Explain = False,
    pairs_uri: Annotated[
        str | None,
        typer.Option(
            "--pairs-to",
            metavar="LABELS_URI",
            help="Folder of labels: pairs of items that users take in one session are added, for `sbert retrain`.",
            callback=check_location,
        ),
    ] = None,
    settings: SettingsJson = None,
    concurrency: Concurrency = 1,
    as_json: Json = False,
) -> None:
    """Write the items for each user of EVENTS to the table OUT, each with a reason; make only the lists that changed."""
    with answering(as_json=as_json) as answer:
        from flows.cli.settings_json import load_named
        from sbert.apply.recommendation.run import recommend as make_lists
        from sbert.apply.recommendation.settings import RecommendationSettings

        parsed = load_named(settings, RecommendationSettings, {"refit": refit or None})
        if k is not None:
            parsed = parsed.model_copy(update={"lists": parsed.lists.model_copy(update={"k": k})})
        report = make_lists(
            items_uri, events_uri, out_uri, parsed, explain=explain, pairs_uri=pairs_uri, concurrency=concurrency
        )
        answer.print(report.model_dump(mode="json"), _show)


def _show(report: dict[str, Any]) -> None:
    show_derived(report)
    out.print(
        f"  {counted(report['num_users'], 'user')}, {counted(report['num_users_computed'], 'list')} made in this run; "
        f"{counted(report['num_items'], 'item')}, {report['num_items_new']:,} of them new",
        markup=False,
    )
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report["rejected"].items()))
    out.print(
        f"  {counted(report['num_events'], 'event')}" + (f"; rejected: {reasons}" if reasons else ""), markup=False
    )
    if report["pairs_uri"]:
        where = f": {report['pairs_file']}" if report["pairs_file"] else f" for {report['pairs_uri']}"
        out.print(f"  {counted(report['num_pairs_new'], 'new pair')} of sessions{where}", markup=False)
    fitted = f"fitted in this run: {report['refitted']}" if report["refitted"] else f"of {report['fitted_at'][:16]}"
    number = report["num_later_events"]
    basis = f"weights fitted on {counted(number, 'later event')}" if number else "fixed weights, a guess"
    weights = ", ".join(f"{name} {weight:+.2f}" for name, weight in report["weights"].items())
    out.print(f"  model {fitted}; {basis}: {weights}", markup=False)
