"""Tombstones: they keep an erased row from coming back while the raw text still has it.

A tombstone is a keyed hash, so that the record of an erased row does not name the row. A plain hash would not do:
ids are often few and easy to list (customer numbers, mail addresses), and anyone could hash them all and compare. The key
is random, one for each table, and lies in ``_erased/key``. Receipts hold hashes only, so a person with a receipt but without
the key cannot test a guess. A person who can read the key can read the table, with all ids that were not erased.

A refresh rejects a row that has a tombstone, with the reason ``erased``, and keeps nothing of it. Tombstones are no part of
a split's fingerprint: an erasure rewrites the shards that hold its rows under the fingerprint that they have, so the next
refresh builds nothing. Splits that were built before a tombstone and not published yet are resumed only if none of their
rows has one.
"""

import datetime as dt
import hashlib
import secrets
from collections.abc import Callable, Iterable
from typing import Self

import polars as pl
import polars_hash as plh
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import MissingError, TableError
from sbert.storage.conditional_put import create_bytes
from sbert.storage.files import delete, join, list_names, normalize_uri, read_bytes, write_bytes

__all__ = [
    "ERASE",
    "ERASED_FOLDER",
    "KeyedHash",
    "TombstoneFile",
    "Tombstones",
    "delete_tombstones",
    "read_tombstone_files",
    "request_of",
    "write_tombstones",
]

ERASE = "erase"
"""Operation of an erasure in leases and commits."""
ERASED_FOLDER = "_erased"
KEY_NAME = "key"
TOMBSTONES_FOLDER = f"{ERASED_FOLDER}/tombstones"
KEY_BYTES = 32
HASH_CHARACTERS = 32
SEPARATOR = "\x1f"


class TombstoneFile(BaseModel):
    """The tombstones of one erasure: keyed hashes, 32 hexadecimal digits each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    erasure: str = Field(description="The erasure that wrote them.")
    created: dt.datetime
    is_finished: bool = Field(default=False, description="Whether the erasure wrote its receipt.")
    request: str = Field(description="Hash of the request, by which a repeated request finds the file.")
    ids: frozenset[str] = Field(default=frozenset(), description="Ids that are erased in every source.")
    pairs: frozenset[str] = Field(default=frozenset(), description="Pairs of source and id.")
    texts: frozenset[str] = Field(
        default=frozenset(),
        description="Pairs of source and text hash, of rows whose id is made of object and row number.",
    )
    sources: frozenset[str] = Field(default=frozenset(), description="Sources of the pairs and of the texts.")

    @property
    def hashes(self) -> frozenset[str]:
        """All tombstones."""
        return self.ids | self.pairs | self.texts


class KeyedHash:
    """Hashes keys of rows with the secret key of a table."""

    def __init__(self, secret: str) -> None:
        """Hash with `secret`."""
        self._secret = secret

    @classmethod
    def of_table(cls, table_uri: str) -> Self:
        """Read the table's key, and make it if there is none."""
        uri = join(normalize_uri(table_uri), ERASED_FOLDER, KEY_NAME)
        try:
            return cls(read_bytes(uri).decode())
        except MissingError:
            create_bytes(uri, secrets.token_hex(KEY_BYTES).encode())  # of two processes that try, one succeeds
            return cls(read_bytes(uri).decode())

    def ids(self, ids: pl.Series) -> pl.Series:
        """Hash ids that are erased in every source."""
        return self._hash("id", ids)

    def sources(self, sources: pl.Series) -> pl.Series:
        """Hash sources."""
        return self._hash("source", sources)

    def pairs(self, sources: pl.Series, ids: pl.Series) -> pl.Series:
        """Hash pairs of source and id."""
        return self._hash("pair", sources, ids)

    def texts(self, sources: pl.Series, text_hashes: pl.Series) -> pl.Series:
        """Hash pairs of source and text hash."""
        return self._hash("text", sources, text_hashes.bin.encode("hex"))

    def _hash(self, kind: str, *parts: pl.Series) -> pl.Series:
        """Return BLAKE3 of key, kind and parts, each part but the last with its length in front; null stays null."""
        frame = pl.DataFrame([part.alias(str(number)) for number, part in enumerate(parts)])
        named = [pl.lit(self._secret), pl.lit(kind)]
        for number in range(len(parts)):
            named += [pl.col(str(number)).str.len_bytes().cast(pl.String), pl.col(str(number))]
        frame = frame.select(pl.concat_str(named, separator=SEPARATOR).alias("value"))
        digest = plh.col("value").chash.blake3().str.slice(0, HASH_CHARACTERS)
        return frame.select(pl.when(pl.col("value").is_null()).then(None).otherwise(digest).alias("hash")).to_series()


class Tombstones:
    """The tombstones of a table that are in force."""

    def __init__(self, files: Iterable[TombstoneFile] = (), hasher: KeyedHash | None = None) -> None:
        """Put the tombstones of erasures together."""
        tombstone_files = list(files)
        self._hasher = hasher
        self._ids = _implode(one.ids for one in tombstone_files)
        self._pairs = _implode(one.pairs for one in tombstone_files)
        self._texts = _implode(one.texts for one in tombstone_files)
        self._sources = frozenset[str]().union(*(one.sources for one in tombstone_files))
        everything = sorted(frozenset[str]().union(*(one.hashes for one in tombstone_files)))
        self.digest = hashlib.sha256("".join(everything).encode()).hexdigest()[:HASH_CHARACTERS] if everything else ""
        """Names the set of tombstones; empty when there are none."""

    @classmethod
    def load(cls, table_uri: str) -> Self:
        """Read the tombstones of a table: one listing where there are none."""
        files = read_tombstone_files(table_uri)
        return cls(files, KeyedHash.of_table(table_uri)) if files else cls()

    def __bool__(self) -> bool:
        return bool(self.digest)

    def of_keys(self, rows: pl.DataFrame) -> pl.Series:
        """Return the tombstone of each row by its ``source`` and ``id``, null for rows without one."""
        if self._hasher is None:
            return pl.Series("tombstone", [None] * rows.height, dtype=pl.String)
        by_id = self._matches(self._hasher.ids(rows["id"]), self._ids) if len(self._ids) else None
        by_pair = self._known_in_sources(rows, self._pairs, self._pair_hashes)
        return _first_of(rows.height, by_id, by_pair)

    def of_texts(self, rows: pl.DataFrame) -> pl.Series:
        """Return the tombstone of each row by its ``source`` and ``text_hash``, null for rows without one."""
        by_text = self._known_in_sources(rows, self._texts, self._text_hashes)
        return _first_of(rows.height, by_text)

    def of_rows(self, rows: pl.DataFrame) -> pl.Series:
        """Return the tombstone of each row by ``source``, ``id`` and ``text_hash``, null for rows without one."""
        return _first_of(rows.height, self.of_keys(rows), self.of_texts(rows))

    def _pair_hashes(self, rows: pl.DataFrame) -> pl.Series:
        assert self._hasher is not None
        return self._hasher.pairs(rows["source"], rows["id"])

    def _text_hashes(self, rows: pl.DataFrame) -> pl.Series:
        assert self._hasher is not None
        return self._hasher.texts(rows["source"], rows["text_hash"])

    def _known_in_sources(
        self, rows: pl.DataFrame, erased_hashes: pl.Series, hashes: Callable[[pl.DataFrame], pl.Series]
    ) -> pl.Series | None:
        """Look up rows of sources that have tombstones; other rows are not hashed."""
        if not len(erased_hashes) or self._hasher is None or not rows.height:
            return None
        names = rows["source"].unique()
        meant = names.filter(self._hasher.sources(names).is_in(pl.Series(sorted(self._sources)).implode()))
        places = rows.select(pl.col("source").is_in(meant.implode())).to_series().arg_true()
        if not len(places):
            return None
        matched = self._matches(hashes(rows[places]), erased_hashes)
        return pl.Series("tombstone", [None] * rows.height, dtype=pl.String).scatter(places, matched)

    @staticmethod
    def _matches(hashes: pl.Series, erased_hashes: pl.Series) -> pl.Series:
        frame = hashes.alias("hash").to_frame()
        return frame.select(pl.when(pl.col("hash").is_in(erased_hashes.implode())).then(pl.col("hash"))).to_series()


def request_of(hashed_keys: Iterable[str]) -> str:
    """Return the hash by which a repeated request is known; `hashed_keys` in order."""
    return hashlib.sha256("".join(hashed_keys).encode()).hexdigest()


def _implode(parts: Iterable[frozenset[str]]) -> pl.Series:
    return pl.Series(sorted(frozenset[str]().union(*parts)), dtype=pl.String)


def _first_of(num_rows: int, *candidates: pl.Series | None) -> pl.Series:
    """Return the first tombstone that was found for each row."""
    result = pl.Series("tombstone", [None] * num_rows, dtype=pl.String)
    for series in candidates:
        if series is not None:
            result = pl.DataFrame([result, series.alias("other")]).select(pl.coalesce("tombstone", "other")).to_series()
    return result


def _file_uri(table_uri: str, erasure: str) -> str:
    return join(normalize_uri(table_uri), TOMBSTONES_FOLDER, f"{erasure}.json")


def read_tombstone_files(table_uri: str) -> list[TombstoneFile]:
    """Return the tombstones of every erasure.

    Raises:
        TableError: a file cannot be read; a refresh that went on would bring erased rows back.
    """
    folder = join(normalize_uri(table_uri), TOMBSTONES_FOLDER)
    files = []
    for name in sorted(list_names(folder)):
        if not name.endswith(".json") or name.startswith("."):
            continue
        try:
            files.append(TombstoneFile.model_validate_json(read_bytes(join(folder, name))))
        except MissingError:
            continue  # lifted meanwhile
        except ValidationError as error:
            raise TableError(
                f"{folder}/{name}: these tombstones cannot be read, and without them erased rows would come back: restore "
                "the file"
            ) from error
    return files


def write_tombstones(table_uri: str, tombstones: TombstoneFile) -> None:
    """Write the tombstones of an erasure; they are in force for every refresh that is planned from now on."""
    content = tombstones.model_dump_json(indent=1)
    write_bytes(_file_uri(table_uri, tombstones.erasure), content.encode())


def delete_tombstones(table_uri: str, erasure: str) -> None:
    """Remove the tombstones of an erasure."""
    delete([_file_uri(table_uri, erasure)])
