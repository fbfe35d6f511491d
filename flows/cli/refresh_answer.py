"""Settings of the commands that build a table, and the report that they print."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from flows.cli.output import Output, err, out
from flows.cli.settings_json import load_settings
from flows.cli.text_tables import print_properties
from sbert.counted import counted
from sbert.errors import IncompleteError, MassDeletionError

if TYPE_CHECKING:
    from sbert.refresh.job import RefreshSettings
    from sbert.refresh.refresh_report import RefreshReport

__all__ = ["print_report", "read_job_settings"]


def read_job_settings(
    settings: str | None,
    text_column: str | None,
    id_column: str | None,
    keep_columns: str | None,
    keep_no_columns: bool,
    passages: str | None,
) -> "RefreshSettings":
    """Return the settings of ``--settings``, completed by the values of other options."""
    from sbert.refresh.job import RefreshSettings

    kept = [name.strip() for name in keep_columns.split(",") if name.strip()] if keep_columns else None
    named = load_settings(settings, RefreshSettings).with_source(
        text_column=text_column,
        id_column=id_column,
        keep_columns=kept,
        passages={"of": str(passages)} if passages is not None else None,
    )
    if not keep_no_columns:
        return named
    return RefreshSettings.model_validate({**named.model_dump(exclude_unset=True), "keep_no_columns": True})


def print_report(run: Callable[[], "RefreshReport"], answer: Output) -> None:
    """Run a flow and print its report, also when objects could not be read or the deletion limit stopped the run."""
    stopped: IncompleteError | MassDeletionError | None = None
    try:
        report: Any = run()
    except (IncompleteError, MassDeletionError) as error:
        stopped, report = error, error.report
    result = report.model_dump(mode="json")
    if isinstance(stopped, MassDeletionError):
        result = {"error": {"kind": type(stopped).__name__, "message": str(stopped)}, "plan": result}
    answer.print(result, lambda shown: _show_refresh(shown.get("plan", shown), report))
    if stopped is not None:
        err.print(f"error: {stopped}", style="red", markup=False)
        raise typer.Exit(1)


def _show_refresh(report: dict[str, Any], whole: "RefreshReport") -> None:
    published = "nothing published" if whole.version is None else f"version {whole.version}"
    title = "plan" if whole.dry_run else published
    rows: list[tuple[str, str]] = [
        ("encoder", f"{whole.encoder} (dim {whole.dim}, {whole.precision.value})"),
        ("source objects", f"{whole.num_objects:,}"),
    ]
    if whole.selection is not None:
        rows.append(("objects chosen", f"{whole.num_objects_chosen:,}"))
    rows += [
        ("splits to build" if whole.dry_run else "splits built", f"{whole.num_splits_built:,}"),
        *((f"  {reason.value}", f"{number:,}") for reason, number in whole.splits_by_reason.items()),
        ("splits resumed", f"{whole.num_splits_resumed:,}"),
        ("splits kept", f"{whole.num_splits_kept:,}"),
        *([("splits taken apart, rows copied", f"{whole.num_splits_copied:,}")] if whole.num_splits_copied else []),
        ("splits dropped", f"{whole.num_splits_dropped:,}"),
    ]
    if whole.num_objects_lost:
        rows.append(
            ("objects no longer there", f"{whole.num_objects_lost:,} with {counted(whole.num_rows_lost, 'row')}")
        )
    rows += [(f"changes {item.name}", f"{item.shown_before} → {item.shown_after}") for item in whole.changes]
    rows += [("told by looking", f"{said} ({number:,})") for said, number in whole.formats.items()]
    if not whole.dry_run:
        rows += _row_counts(whole)
    rows += _estimate_rows(whole)
    print_properties(f"{whole.table_uri} · {title}", rows, justify="right")
    if report["run_url"]:
        out.print(f"Prefect run: {report['run_url']}", markup=False)


def _row_counts(report: "RefreshReport") -> list[tuple[str, str]]:
    rows = [("documents read", f"{report.num_documents_read:,}")] if report.num_documents_read else []
    if report.num_documents_read > report.num_documents_written:
        rows.append(
            ("  without a passage in the table", f"{report.num_documents_read - report.num_documents_written:,}")
        )
    rows += [
        ("rows read", f"{report.num_rows_read:,}"),
        ("rows encoded", f"{report.num_rows_encoded:,}"),
        ("distinct texts encoded", f"{report.num_texts_encoded:,}"),
        ("rows carried over", f"{report.num_rows_carried:,}"),
        ("rows truncated", f"{report.num_rows_truncated:,}"),
        ("rows rejected", f"{report.num_rows_rejected:,}"),
        *((f"  {reason}", f"{count:,}") for reason, count in report.rejects_by_reason.items()),
        *((f"null, value does not fit {name}", f"{count:,}") for name, count in report.misfits_by_column.items()),
    ]
    if report.recall_note:
        rows.append(("recall@10 against float32", report.recall_note))
    rows += [("rows in the table", f"{report.num_rows:,}"), ("seconds", f"{report.seconds:,.1f}")]
    if report.texts_per_second and report.tokens_per_second:
        speed = f"{report.texts_per_second:,.0f} texts/s, {report.tokens_per_second:,.0f} tokens/s"
        rows.append(("encoding", speed))
    return rows


def _estimate_rows(report: "RefreshReport") -> list[tuple[str, str]]:
    """Show the estimate, after a run beside the actual number."""
    if report.dry_run:
        return [(f"estimate: {figure.name}", figure.shown_expected) for figure in report.estimate_and_actual()]
    return [
        (figure.name, f"estimate {figure.shown_expected}, actual {figure.shown_actual}")
        for figure in report.estimate_and_actual()
    ]
