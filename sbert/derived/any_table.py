"""Upkeep of a table of either kind: an embeddings table, or a table derived from one.

People name a folder and need not know which kind it holds.
"""

from sbert.derived.derived_table import DerivedTable
from sbert.derived.rollback import DerivedRollback, roll_back_derived
from sbert.derived.verify import verify_derived
from sbert.errors import DerivedTableError
from sbert.table.delta import Table
from sbert.table.rollback import Rollback, roll_back
from sbert.table.vacuum import Vacuum, vacuum_table
from sbert.table.verify import Verification, verify_table

__all__ = ["open_any", "roll_back_any", "vacuum_any", "verify_any"]


def open_any(uri: str, version: int | None = None) -> Table | DerivedTable:
    """Open the newest version of a table of either kind, or version `version`.

    Raises:
        NotATableError: there is no table at `uri`, or no such version.
    """
    try:
        return Table.open(uri, version)
    except DerivedTableError:
        return DerivedTable.open(uri, version)


def roll_back_any(uri: str, version: int | None = None) -> Rollback | DerivedRollback:
    """Restore an earlier version, by default the version before."""
    return roll_back_derived(uri, version) if _is_derived(uri) else roll_back(uri, version)


def vacuum_any(uri: str, *, retention_hours: float, apply: bool = False) -> Vacuum:
    """Find files that no version within the retention needs; with `apply` remove them."""
    return vacuum_table(uri, retention_hours=retention_hours, apply=apply, open_table=open_any)


def verify_any(uri: str, version: int | None = None) -> Verification:
    """Read and check every row."""
    return verify_derived(uri, version) if _is_derived(uri) else verify_table(uri, version)


def _is_derived(uri: str) -> bool:
    return isinstance(open_any(uri), DerivedTable)
