"""The history of a table over its runs, as one HTML file with its plots inside.

Reads `_runs/`, `_followers/` and the log of the table.
"""

from collections.abc import Sequence

from sbert.counted import counted
from sbert.errors import MissingError, NotATableError
from sbert.pages.page import PageTable, Section, render_page
from sbert.refresh.history_plots import Run, draw_plots, drift_of, is_backfill
from sbert.refresh.run_metrics import RUNS_FOLDER, read_runs
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table
from sbert.table.followers import followers_of

__all__ = ["history_page"]

RUNS_IN_TABLE = 50
COUNTS = {
    "version": "version",
    "num_rows_read": "rows read",
    "num_rows_encoded": "encoded",
    "num_rows_carried": "carried over",
    "num_rows_rejected": "rejected",
    "num_rows": "rows in the table",
}
"""Columns of the table of runs: name in the record, title."""


def history_page(table_uri: str, *, price_per_hour: float | None = None) -> str:
    """Return the page.

    Args:
        table_uri: the table.
        price_per_hour: what the machine costs, in any currency; without it cost is shown in machine hours.

    Raises:
        MissingError: when no run has left its metrics beside the table.
    """
    uri = normalize_uri(table_uri)
    runs: list[Run] = [run for run in read_runs(uri).to_dicts() if not run.get("dry_run")]
    if not runs:
        raise MissingError(f"{uri}: no run has left metrics in {RUNS_FOLDER}/ yet: run `sbert refresh` first", uri=uri)
    return render_page(f"History of {uri}", _properties(uri, runs), _sections(uri, runs, price_per_hour))


def _sections(uri: str, runs: Sequence[Run], price_per_hour: float | None) -> list[Section]:
    followers, rows = _follower_rows(uri), _table_rows(runs)
    consumers = Section(
        "Consumers",
        [
            "Vector stores and derived tables as they were when they last followed the table or were compared with it. "
            "Coverage is their rows divided by the rows of the newest version."
        ],
        tables=[_page_table(followers)],
    )
    trends = Section(
        "Trends",
        [
            "Runs stand side by side in the order in which they began; the axis shows their dates (UTC). "
            "↑ more is better, ↓ less is better."
        ],
        pictures=draw_plots(runs, price_per_hour),
    )
    hidden = [f"The newest {len(rows)} of {len(runs)} runs."] if len(rows) < len(runs) else []
    return [*([consumers] if followers else []), trends, Section("Runs", hidden, tables=[_page_table(rows)])]


def _page_table(rows: Sequence[dict[str, str]]) -> PageTable:
    columns = list(rows[0]) if rows else []
    return PageTable(columns, [list(row.values()) for row in rows], text_columns=["kind"])


def _properties(uri: str, runs: Sequence[Run]) -> dict[str, str]:
    last = runs[-1]
    first_day, last_day = (f"{run['started']:%-d %b %Y %H:%M}" for run in (runs[0], last))
    num_backfills = sum(map(is_backfill, runs))
    backfills = f", {counted(num_backfills, 'backfill')} among them" if num_backfills else ""
    return {
        "Table": uri,
        "Raw text": str(last.get("raw_uri") or ""),
        "Encoder": f"{last.get('encoder')} (dim {last.get('dim')}, {str(last.get('encoder_fingerprint'))[:12]})",
        "Version": str(last.get("version")),
        "Rows": f"{last.get('num_rows') or 0:,}",
        "Runs": f"{len(runs):,} from {first_day} to {last_day} UTC{backfills}",
    }


def _follower_rows(uri: str) -> list[dict[str, str]]:
    """Return a row of cells for each consumer of the table; the text of each cell stands under the column's title."""
    try:
        states = followers_of(Table.open(uri))
    except NotATableError:  # the table is gone, its history is still there
        return []
    return [
        {
            "consumer": state.name,
            "kind": state.kind,
            "version": f"{state.version}",
            "behind": state.describe_lag(),
            "rows": f"{state.num_rows:,}",
            "coverage": state.describe_coverage(),
            "age of newest rows": state.describe_age(),
            "last proof": state.describe_proof(),
        }
        for state in states
    ]


def _table_rows(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Return the newest runs first, with the text of each cell by the column's title."""
    rows = []
    for run, drift in list(zip(runs, drift_of(runs), strict=True))[: -RUNS_IN_TABLE - 1 : -1]:
        rows.append(
            {
                "started (UTC)": f"{run['started']:%Y-%m-%d %H:%M:%S}",
                "kind": "backfill" if is_backfill(run) else "refresh",
                **{title: "" if run.get(name) is None else f"{run[name]:,}" for name, title in COUNTS.items()},
                "seconds": "" if run.get("seconds") is None else f"{run['seconds']:,.1f}",
                "stability index": f"{drift.stability:.3f}" if drift else "",
            }
        )
    return rows
