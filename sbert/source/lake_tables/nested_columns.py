"""Columns of structs and lists in the files of a table, brought to the form that the table's schema has.

A file may have other names inside a struct than the table (column mapping, fields renamed in Iceberg), and lack fields
that were added later. Such a field is null in the rows of the file, as a column is.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["FIELD_ID", "STORED_NAME", "file_names", "in_table_form", "with_file_names"]

FIELD_ID = b"PARQUET:field_id"
"""Metadata key of the id of a field, in the schemas of files as pyarrow gives them, and of tables that go by ids."""
STORED_NAME = b"stored_name"
"""Metadata key of the name that a field has in the files, where it is another one."""


def with_file_names(field: pa.Field, *, name_key: bytes | None = None, id_key: bytes | None = None) -> pa.Field:
    """Return a field of a table whose metadata tells, at every depth, how it is found in the files.

    Args:
        field: the field; its metadata and that of its inner fields is replaced.
        name_key: metadata key under which it has the name in the files, where the table goes by such names.
        id_key: metadata key under which it has the id in the files, where the table goes by ids.
    """
    metadata = field.metadata or {}
    told = {key: metadata[given] for key, given in ((STORED_NAME, name_key), (FIELD_ID, id_key)) if given in metadata}
    inner = [with_file_names(other, name_key=name_key, id_key=id_key) for other in _inner_fields(field.type)]
    return pa.field(field.name, _with_inner_fields(field.type, inner), metadata=told or None)


def file_names(field: pa.Field) -> dict[str, str]:
    """Return how the inner fields of a column are found in the files, by their path, where this is not by name."""
    names: dict[str, str] = {}
    for inner in _inner_fields(field.type):
        told = inner.metadata or {}
        if told:
            names[inner.name] = told.get(STORED_NAME, told.get(FIELD_ID, b"")).decode()
        names |= {f"{inner.name}.{path}": name for path, name in file_names(inner).items()}
    return names


def in_table_form(array: pa.Array, want: pa.Field) -> pa.Array:
    """Return a column of a file with the fields of the table's schema; values keep the types that the file has.

    Structs, and lists of structs, are taken apart at every depth. Any other value stays as it is.
    """
    kind = array.type
    if pa.types.is_struct(kind) and pa.types.is_struct(want.type):
        parts = dict(zip((kind.field(at) for at in range(kind.num_fields)), array.flatten(), strict=True))
        columns = []
        for inner in _inner_fields(want.type):
            match = _field_in(list(parts), inner)
            columns.append(pa.nulls(len(array), inner.type) if match is None else in_table_form(parts[match], inner))
        fields = [
            pa.field(inner.name, column.type) for inner, column in zip(_inner_fields(want.type), columns, strict=True)
        ]
        return pa.StructArray.from_arrays(columns, fields=fields, mask=array.is_null())
    if _is_list(kind) and _is_list(want.type):
        values = in_table_form(array.flatten(), want.type.value_field)
        lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
        return pa.LargeListArray.from_arrays(offsets, values, mask=array.is_null())
    return array


def _field_in(fields: list[pa.Field], want: pa.Field) -> pa.Field | None:
    """Return the field of a file that a field of the table is stored as: by id where both have ids, else by name."""
    told = want.metadata or {}
    by_id = {field.metadata[FIELD_ID]: field for field in fields if field.metadata and FIELD_ID in field.metadata}
    if by_id and FIELD_ID in told:
        return by_id.get(told[FIELD_ID])
    name = told.get(STORED_NAME, want.name.encode()).decode()
    return next((field for field in fields if field.name == name), None)


def _inner_fields(kind: pa.DataType) -> Iterator[pa.Field]:
    if pa.types.is_struct(kind):
        yield from (kind.field(at) for at in range(kind.num_fields))
    elif _is_list(kind):
        yield kind.value_field


def _with_inner_fields(kind: pa.DataType, fields: list[pa.Field]) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct(fields)
    return pa.large_list(fields[0]) if _is_list(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
