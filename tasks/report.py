"""Show a run in the Prefect UI: progress while it goes, tables when it is done."""

from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_UI_URL

from sbert.report import RefreshReport

__all__ = ["open_progress", "report_refresh", "run_url", "show_progress"]

LOCAL_UI_URL = "http://127.0.0.1:4200"


def open_progress(description: str) -> UUID:
    """Begin a progress artifact of the current flow run."""
    created = create_progress_artifact(progress=0.0, description=description)
    assert isinstance(created, UUID)
    return created


def show_progress(artifact: UUID, share: float, description: str) -> None:
    """Update a progress artifact; `share` is between 0 and 1."""
    update_progress_artifact(artifact, progress=round(100 * share, 1), description=description)


def run_url(run_id: str) -> str:
    """Give the address of a flow run in the UI; without a configured server the one that `make ui` starts."""
    base = PREFECT_UI_URL.value() or LOCAL_UI_URL
    return f"{base.rstrip('/')}/runs/flow-run/{run_id}"


@task(name="report refresh", cache_policy=NO_CACHE)
def report_refresh(report: RefreshReport) -> None:
    """Leave the run's counts, rates and rejects as a Markdown artifact."""
    create_markdown_artifact(key="refresh-report", markdown=report_markdown(report), description=report.table_uri)


def report_markdown(report: RefreshReport) -> str:
    """Give a report as Markdown tables; text from the source is escaped."""
    rate = report.num_rows_read / report.seconds if report.seconds else 0.0
    sections = [
        f"# {'Plan for' if report.dry_run else 'Refresh of'} `{_cell(report.table_uri)}`",
        _table(
            ("", ""),
            [
                ("source", f"`{_cell(report.raw_uri)}` ({report.num_objects:,} objects)"),
                ("table version", str(report.version)),
                (
                    "encoder",
                    f"`{_cell(report.encoder)}` (dim {report.dim}, {report.encoder_fingerprint[:12]})",
                ),
                ("precision", report.precision.value),
                *([("recall@10 against float32", report.recall_note)] if report.recall_note else []),
                ("seconds", f"{report.seconds:,.1f}"),
                ("rows per second", f"{rate:,.0f}"),
            ],
        ),
        "## Rows",
        _table(
            ("rows", "count"),
            [
                ("read", f"{report.num_rows_read:,}"),
                ("encoded", f"{report.num_rows_encoded:,} ({report.num_texts_encoded:,} distinct texts)"),
                ("carried over", f"{report.num_rows_carried:,}"),
                ("rejected", f"{report.num_rows_rejected:,}"),
                ("truncated", f"{report.num_rows_truncated:,}"),
                ("in the table now", "" if report.num_rows is None else f"{report.num_rows:,}"),
            ],
        ),
        "## Splits",
        _table(
            ("splits", "count"),
            [
                ("built", f"{report.num_splits_built:,}"),
                ("resumed", f"{report.num_splits_resumed:,}"),
                ("kept", f"{report.num_splits_kept:,}"),
                ("dropped", f"{report.num_splits_dropped:,}"),
            ],
        ),
    ]
    if report.estimate is not None and (report.dry_run or report.num_bytes_read):
        sections += ["## Estimate and truth", _table(("estimate", "truth"), _estimate_rows(report))]
    if report.rejects_by_reason:
        rejects = [(reason, f"{count:,}") for reason, count in report.rejects_by_reason.items()]
        sections += ["## Rejected rows by reason", _table(("reason", "rows"), rejects)]
    if report.broken_objects:
        broken = [(_cell(uri), _cell(why)) for uri, why in report.broken_objects.items()]
        sections += ["## Objects that could not be read", _table(("object", "why"), broken)]
    return "\n\n".join(sections)


def _estimate_rows(report: RefreshReport) -> list[tuple[str, str]]:
    estimate = report.estimate
    assert estimate is not None
    pairs: list[tuple[str, float | None, float]] = [
        ("bytes to read", estimate.num_bytes, report.num_bytes_read),
        ("rows to read", estimate.num_rows, report.num_rows_read),
        ("tokens to encode, at most", estimate.num_tokens, report.num_tokens_encoded),
        *(
            (f"seconds to {stage}", estimate.seconds.get(stage), report.stage_seconds.get(stage, 0.0))
            for stage in ("plan", "build", "publish")
        ),
    ]
    return [
        (
            f"{name}: {'not known yet' if expected is None else f'{expected:,.6g}'}",
            "" if report.dry_run else f"{actual:,.6g}",
        )
        for name, expected, actual in pairs
    ]


def _table(header: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [
        f"| {header[0]} | {header[1]} |",
        "| --- | ---: |",
        *(f"| {left} | {right} |" for left, right in rows),
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Make text safe inside a Markdown table and inside HTML."""
    for raw, escaped in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "&#124;"),
        ("`", "&#96;"),
        ("\n", " "),
    ):
        text = text.replace(raw, escaped)
    return text
