"""Fitted models that lie beside the output that they make: heads, taggers, relators, rankers, topics.

A model is two files: ``OUT/FOLDER/FINGERPRINT/NAME.safetensors`` holds its tensors, and ``NAME.json`` its record. The record
is written last, so a model that can be found is whole.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from pydantic import BaseModel

from sbert.errors import MissingError, TableError
from sbert.storage.files import join, read_bytes, write_bytes
from sbert.table.delta import Table

__all__ = ["FittedModels", "Tensors"]

Tensors = Mapping[str, npt.NDArray[Any]]


class _Record(Protocol):
    @property
    def encoder_fingerprint(self) -> str: ...


class _Model(Protocol):
    @property
    def record(self) -> _Record: ...


Model = TypeVar("Model", bound=_Model)


@dataclass(frozen=True)
class FittedModels(Generic[Model]):
    """The models of one kind, each in a folder beside the output that it makes."""

    name: str
    """Name of the kind in messages and of the files, such as tagger."""
    folder: str
    """Folder of all models of an output, such as ``_taggers``."""
    remedy: str
    """Remedy for messages when a model is not there."""
    build: Callable[[bytes, Tensors], Model]
    """Makes a model from its record, as JSON, and its tensors; raises ValueError or KeyError if they do not fit."""

    def save(self, out_uri: str, fingerprint: str, record: BaseModel, tensors: Tensors) -> None:
        """Write a model beside an output."""
        folder = join(out_uri, self.folder, fingerprint)
        content = safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
        write_bytes(join(folder, f"{self.name}.safetensors"), content)
        write_bytes(join(folder, f"{self.name}.json"), record.model_dump_json(indent=1).encode())

    def find(self, out_uri: str, fingerprint: str) -> Model | None:
        """Read a model that lies beside an output; None when there is none of this fingerprint.

        Raises:
            TableError: its files are damaged, or an earlier release made them and this one cannot read them.
        """
        folder = join(out_uri, self.folder, fingerprint)
        try:
            record = read_bytes(join(folder, f"{self.name}.json"))
            return self.build(record, safetensors.numpy.load(read_bytes(join(folder, f"{self.name}.safetensors"))))
        except MissingError:
            return None
        except (ValueError, KeyError, safetensors.SafetensorError) as error:
            raise TableError(
                f"{folder}: the files of the {self.name} are damaged ({error}): remove this folder, then run again to fit a "
                f"new {self.name}"
            ) from error

    def load(self, out_uri: str, fingerprint: str, table: Table) -> Model:
        """Read the model that makes an output.

        Raises:
            TableError: it is not there, it is damaged, or it was fitted on the vectors of another encoder.
        """
        model = self.find(out_uri, fingerprint)
        if model is None:
            raise TableError(f"{out_uri}: the {self.name} {fingerprint} is not in {self.folder}/: {self.remedy}")
        encoder = model.record.encoder_fingerprint
        if encoder != table.encoder.fingerprint:
            raise TableError(
                f"{out_uri}: the {self.name} {fingerprint} was fitted on the encoder {encoder[:12]}, but the table has "
                f"{table.encoder.fingerprint[:12]}: {self.remedy}"
            )
        return model
