"""The record of the texts that an encoder learned from: hashes of 16 bytes each, beside the model, and no text.

Whoever calibrates a classifier on an encoder needs texts that the encoder has not learned from, since the vectors of the
others are better than those of new texts. An erasure needs the record, too: it lists the models that had seen a text. The
file is ``learned_texts.safetensors``, with a checksum. It also holds the texts that the base and the bases before it learned
from, as far as these have such a record.

>>> seen = LearnedTexts.of(labelled=pl.Series(["the card is lost"]))
>>> seen.has_labelled(pl.Series(["the  card is lost", "where is it?"])).to_list()
[True, False]
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import safetensors
from safetensors.numpy import load, save

from sbert.errors import MissingError, ModelError
from sbert.rows.cleaning import CleaningSettings, clean_texts, hash_texts
from sbert.storage.files import join, read_bytes

__all__ = ["LEARNED_TEXTS_NAME", "LearnedTexts", "copy_learned_texts"]

LEARNED_TEXTS_NAME = "learned_texts.safetensors"
CHECKSUM = "sha256"
HASH_BYTES = 16
NO_HASHES = pl.Series(dtype=pl.Binary)


@dataclass(frozen=True)
class LearnedTexts:
    """Hashes of texts, sorted, by what an encoder did with the texts.

    A text has the hash that a table gives it (`hash_texts`): as the labels spell it, and as the default cleaning leaves it.
    """

    labelled: pl.Series
    """Texts whose labels, partners or scores changed the weights."""
    unlabelled: pl.Series
    """Texts that changed the weights without anything that people said about them."""
    chosen_on: pl.Series
    """Texts of dev rows, which chose the checkpoint and changed no weight."""

    @classmethod
    def of(
        cls, labelled: pl.Series = NO_HASHES, unlabelled: pl.Series = NO_HASHES, chosen_on: pl.Series = NO_HASHES
    ) -> Self:
        """Return the record of texts."""
        return cls(_hashes(labelled), _hashes(unlabelled), _hashes(chosen_on))

    def joined(self, other: Self) -> Self:
        """Return the texts of both records."""
        return type(self)(
            **{each.name: _distinct(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)}
        )

    def has_labelled(self, texts: pl.Series) -> pl.Series:
        """Return whether each text taught the encoder what people said about it."""
        return _is_among(texts, self.labelled)

    def has_chosen(self, texts: pl.Series) -> pl.Series:
        """Return whether each text chose the checkpoint."""
        return _is_among(texts, self.chosen_on)

    def num_seen(self, hashes: pl.Series) -> int:
        """Return how many of some different hashes of texts stand in the record, whatever was done with the texts."""
        everything = _distinct(self.labelled, self.unlabelled, self.chosen_on)
        return int(hashes.is_in(everything.implode()).sum())

    @property
    def checksum(self) -> str:
        """Hash of the content (64 hex digits)."""
        return _checksum(self._tensors()).hex()

    def write(self, folder: Path) -> None:
        """Write the record into a model folder."""
        tensors = self._tensors()
        content = save(tensors | {CHECKSUM: np.frombuffer(_checksum(tensors), np.uint8)})
        (folder / LEARNED_TEXTS_NAME).write_bytes(content)

    @classmethod
    def read(cls, folder: str) -> Self | None:
        """Return the record of a model folder, local or in object storage; None when there is none.

        Raises:
            ModelError: the file is damaged.
            StorageError: storage refuses.
        """
        uri = join(folder, LEARNED_TEXTS_NAME)
        try:
            tensors = load(read_bytes(uri))
            if tensors.pop(CHECKSUM).tobytes() != _checksum(tensors):
                raise ValueError("its checksum is another")
            return cls(**{each.name: _series(tensors[each.name]) for each in fields(cls)})
        except MissingError:
            return None
        except (ValueError, KeyError, safetensors.SafetensorError) as error:
            raise ModelError(
                f"{uri}: the record of the texts that the encoder learned from is damaged ({error}): copy it again from "
                "where the model came from, or remove it; without it, nobody knows which texts the encoder has not seen"
            ) from error

    def _tensors(self) -> dict[str, npt.NDArray[Any]]:
        return {each.name: _matrix(getattr(self, each.name)) for each in fields(self)}


def copy_learned_texts(base: Path, folder: Path) -> None:
    """Copy the record of one model folder into another; do nothing where there is none."""
    if (base / LEARNED_TEXTS_NAME).is_file():
        shutil.copyfile(base / LEARNED_TEXTS_NAME, folder / LEARNED_TEXTS_NAME)


def _cleaned(texts: pl.Series) -> pl.Series:
    return clean_texts(texts.cast(pl.String), CleaningSettings())


def _hashes(texts: pl.Series) -> pl.Series:
    """Return the hashes of texts in both spellings."""
    texts = texts.drop_nulls().unique()
    if texts.is_empty():
        return NO_HASHES
    return _distinct(hash_texts(texts), hash_texts(_cleaned(texts)))


def _distinct(*parts: pl.Series) -> pl.Series:
    return pl.concat([part.alias("hash") for part in parts]).unique().sort()


def _is_among(texts: pl.Series, hashes: pl.Series) -> pl.Series:
    known = hashes.implode()
    return hash_texts(texts).is_in(known) | hash_texts(_cleaned(texts)).is_in(known)


def _matrix(hashes: pl.Series) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)


def _series(matrix: npt.NDArray[Any]) -> pl.Series:
    if matrix.ndim != 2 or matrix.shape[1] != HASH_BYTES or matrix.dtype != np.uint8:
        raise ValueError(f"hashes have the shape {matrix.shape} of {matrix.dtype}, not (any, {HASH_BYTES}) of uint8")
    return pl.Series("hash", [row.tobytes() for row in matrix], dtype=pl.Binary)


def _checksum(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}|{tensors[name].shape}|".encode())
        digest.update(tensors[name].tobytes())
    return digest.digest()
