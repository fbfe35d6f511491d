"""The columns of a collection in PostgreSQL: their types, options and order."""

from sbert.sync.destinations.base import KEY_COLUMNS, Collection
from sbert.sync.destinations.postgres_binary import ColumnType, column_type

__all__ = ["FULL_TYPE_NAMES", "collection_types", "column_options", "copy_types"]

FULL_TYPE_NAMES = {"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone"}
"""Types that PostgreSQL shows under another name."""


def column_options(name: str) -> str:
    """Return the options of a column in SQL: keys are compared by their bytes, which is fastest."""
    collation = ' COLLATE "C"' if name in KEY_COLUMNS else ""
    return collation + (" NOT NULL" if name in {*KEY_COLUMNS, "text_hash", "embedding"} else "")


def collection_types(collection: Collection) -> list[tuple[str, ColumnType]]:
    """Return the PostgreSQL type of every column."""
    return [
        (item.name, column_type(item.type, vector_dim=collection.dim if item.name == "embedding" else None))
        for item in collection.schema
    ]


def copy_types(collection: Collection) -> list[tuple[str, ColumnType]]:
    """Return the columns in the order in which COPY sends them: the vector first."""
    return sorted(collection_types(collection), key=lambda item: not item[1].dim)
