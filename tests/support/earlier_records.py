"""Records of derived tables as earlier releases left them."""

from collections.abc import Callable
from typing import Any

from sbert.derived.derived_table import DerivedTable, commit_derived

__all__ = ["record_settings"]


def record_settings(out_uri: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Commit a version of a derived table with other recorded settings and nothing else; return the version."""
    table = DerivedTable.open(out_uri)
    info = table.info.model_copy(update={"settings": change(table.info.settings)})
    return commit_derived(table.uri, table, schema=table.schema, add=[], drop=[], info=info, counts={})
