"""A small corpus in two states, and helpers to compare tables."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from sbert.storage.files import delete, filesystem, join, list_names, strip_protocol, write_bytes
from sbert.table.delta import Table
from sbert.table.split_records import SPLITS_FOLDER
from tests.support.tiny_models import WORDS

SETTINGS: dict[str, Any] = {
    "splits": {"pack_below_bytes": 900, "split_bytes": 3_000, "pack_objects": 4},
    "reading": {"block_rows": 16},
    "shards": {"shard_rows": 40, "row_group_rows": 8},
    "source": {"keep_columns": ["kind"]},
    "deletion_limit": {"max_drop_share": 1},
}
"""Settings with packs, whole objects and slices, several blocks per split and several shards per split."""
VECTOR_TOLERANCE = 1e-5

Objects = dict[str, list[dict[str, Any]]]


def text(number: int) -> str:
    """Return a different text for each number."""
    return " ".join(WORDS[(number * 7 + at * at) % len(WORDS)] for at in range(3 + number % 9)) + f" {number}"


def rows(first: int, count: int) -> list[dict[str, Any]]:
    """Return `count` rows; their texts are those of the numbers from `first`."""
    return [
        {"id": f"row {n}", "text": text(n), "kind": "even" if n % 2 == 0 else "odd"}
        for n in range(first, first + count)
    ]


def first_state() -> Objects:
    """Return five objects of usual size, a large one that is read in slices, and four tiny ones that share a pack."""
    objects = {f"day-{day}.jsonl": rows(30 * day, 30) for day in range(5)}
    objects["large.jsonl"] = rows(500, 120)
    objects |= {f"tiny-{number}.jsonl": rows(200 + 4 * number, 4) for number in range(4)}
    objects["day-4.jsonl"] += [{**row, "id": f"again {row['id']}"} for row in rows(0, 5)]  # texts of another object
    objects["day-0.jsonl"].append({"id": "empty", "text": "  ", "kind": "odd"})
    return objects


def second_state() -> Objects:
    """Return the corpus with changed, deleted, new and renamed objects."""
    objects = first_state()
    objects["day-0.jsonl"][3]["text"] = "a new text for an old row"
    objects["day-1.jsonl"] = rows(700, 25) + rows(30, 5)
    del objects["day-2.jsonl"]
    objects["moved.jsonl"] = objects.pop("day-3.jsonl")
    objects["large.jsonl"] = objects["large.jsonl"][:60] + rows(900, 3) + objects["large.jsonl"][60:]
    objects["new.jsonl"] = rows(300, 40)
    objects["tiny-4.jsonl"] = rows(700, 3)
    return objects


def write_objects(raw_uri: str, objects: Objects) -> None:
    """Make a folder contain exactly these objects; objects that do not change are not written."""
    fs = filesystem(raw_uri)
    present = list_names(raw_uri)
    delete(join(raw_uri, name) for name in present if name not in objects)
    for name, lines in objects.items():
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        uri = join(raw_uri, name)
        if name not in present or fs.cat_file(strip_protocol(uri)) != content:
            write_bytes(uri, content)


def copy_folder(from_uri: str, to_uri: str) -> None:
    """Copy all files of a table."""
    fs = filesystem(from_uri)
    source, target = strip_protocol(from_uri), strip_protocol(to_uri)
    for path in fs.find(source):
        fs.pipe_file(target + path[len(source) :], fs.cat_file(path)) if "://" in to_uri else fs.cp_file(
            path, target + path[len(source) :]
        )


def contents(table_uri: str, version: int | None = None) -> pl.DataFrame:
    """Return the rows of a table, ordered by key."""
    return Table.open(table_uri, version).scan().collect().sort("source", "id")


def assert_same(table: pl.DataFrame, expected: pl.DataFrame, tolerance: float = VECTOR_TOLERANCE) -> None:
    """Check that two tables are equal row for row and vector for vector."""
    assert table.columns == expected.columns
    rest = [name for name in table.columns if name not in {"embedding", "scale"}]
    assert table.select(rest).equals(expected.select(rest))
    np.testing.assert_allclose(matrix(table), matrix(expected), atol=tolerance, rtol=0)


def matrix(table: pl.DataFrame) -> np.ndarray:
    """Return the vectors as a float32 matrix; quantized vectors are scaled back."""
    values = np.array(table["embedding"].to_list(), dtype=np.float32)
    return values * table["scale"].to_numpy()[:, None] if "scale" in table.columns else values


def records(table_uri: str) -> set[str]:
    """Return the fingerprints of the splits with a completion record, read without the library."""
    return {
        name.removesuffix(".json")
        for name in list_names(join(table_uri, SPLITS_FOLDER))
        if name.endswith(".json") and not name.startswith(".")
    }


def texts_of_splits(table_uri: str) -> dict[str, set[bytes]]:
    """Return the hashes of the texts of each split of a table."""
    table = Table.open(table_uri)
    hashes: dict[str, set[bytes]] = {}
    for shard in table.shards():
        uri = table.shard_uri(shard.name)
        with filesystem(uri).open(strip_protocol(uri)) as file:
            hashes.setdefault(shard.fingerprint, set()).update(
                pl.read_parquet(file, columns=["text_hash"])["text_hash"]
            )
    return hashes


def union(sets: Iterable[set[bytes]]) -> set[bytes]:
    """Return the union of the sets."""
    return set().union(*sets)
