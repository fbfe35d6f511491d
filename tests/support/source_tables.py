"""Tables of Delta Lake as other engines write them: with deletion vectors, column mapping, features of the protocol.

delta-rs does not write these, so the log's actions are written here.
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

__all__ = ["actions_of", "append_actions", "mapped_table", "mark_deleted", "write_table"]

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
Action = dict[str, Any]


def write_table(path: Path, rows: dict[str, Sequence[object]], **options: Any) -> Path:
    """Write a version of a table with delta-rs; each distinct partition is a file."""
    write_deltalake(str(path), pl.DataFrame(rows).to_arrow(), **options)
    return path


def actions_of(table: Path, kind: str) -> list[Action]:
    """Return the actions of one kind in the order of the log."""
    lines = [line for file in sorted((table / "_delta_log").glob("*.json")) for line in file.read_text().splitlines()]
    return [action[kind] for action in map(json.loads, lines) if kind in action]


def append_actions(table: Path, *actions: Action) -> None:
    """Write the log's next commit."""
    log = table / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    path = log / f"{len(list(log.glob('*.json'))):020d}.json"
    path.write_text("".join(json.dumps(action) + "\n" for action in ({"commitInfo": {"timestamp": 1}}, *actions)))


def protocol(*features: str, reader: int = 3) -> Action:
    """Return the action that sets the protocol."""
    names = {"readerFeatures": list(features), "writerFeatures": list(features)} if features else {}
    return {"protocol": {"minReaderVersion": reader, "minWriterVersion": 7 if features else 5, **names}}


def mark_deleted(table: Path, deleted: Sequence[int]) -> None:
    """Mark rows of the table's only file as deleted, counted from 0, by a deletion vector in the log."""
    file = DeltaTable(str(table)).file_uris()[0].rsplit("/", 1)[-1]
    add = next(add for add in actions_of(table, "add") if add["path"] == file)
    data = _bitmap(deleted)
    vector = {
        "storageType": "i",
        "pathOrInlineDv": _z85(data),
        "sizeInBytes": len(data),
        "cardinality": len(deleted),
    }
    remove = {"remove": {"path": file, "deletionTimestamp": 1, "dataChange": True}}
    append_actions(table, protocol("deletionVectors"), remove, {"add": {**add, "deletionVector": vector}})


def _bitmap(rows: Sequence[int]) -> bytes:
    """Return a RoaringBitmapArray of small numbers: one bitmap with one array container."""
    values = sorted(rows)
    roaring = struct.pack("<IIHHI", 12346, 1, 0, len(values) - 1, 16) + struct.pack(f"<{len(values)}H", *values)
    return struct.pack("<IQI", 1681511377, 1, 0) + roaring


def _z85(data: bytes) -> str:
    data += b"\0" * (-len(data) % 4)
    numbers = [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]
    return "".join(Z85[number // 85**place % 85] for number in numbers for place in (4, 3, 2, 1, 0))


def mapped_table(path: Path, mode: str) -> Path:
    """Write a table whose columns text, n and lang (of the partition) have other names in the file."""
    (path / "aB").mkdir(parents=True)
    ids = {"text": 1, "n": 2, "lang": 3}
    fields = [
        pa.field(f"col-{number}", kind, metadata={"PARQUET:field_id": str(number)})
        for number, kind in ((1, pa.string()), (2, pa.int64()))
    ]
    pq.write_table(pa.table([["a", "b"], [1, 2]], schema=pa.schema(fields)), path / "aB/f.parquet")
    schema = {
        "type": "struct",
        "fields": [
            {
                "name": name,
                "type": "long" if name == "n" else "string",
                "nullable": True,
                "metadata": {
                    "delta.columnMapping.id": number,
                    "delta.columnMapping.physicalName": f"col-{number}" if mode == "name" else f"else-{number}",
                },
            }
            for name, number in ids.items()
        ],
    }
    metadata = {
        "id": "mapped",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps(schema),
        "partitionColumns": ["lang"],
        "configuration": {"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": "3"},
        "createdTime": 1,
    }
    partition = "col-3" if mode == "name" else "else-3"
    add = {
        "path": "aB/f.parquet",
        "partitionValues": {partition: "en"},
        "size": (path / "aB/f.parquet").stat().st_size,
        "modificationTime": 1,
        "dataChange": True,
        "stats": json.dumps({"numRecords": 2}),
    }
    append_actions(path, protocol(reader=2), {"metaData": metadata}, {"add": add})
    return path
