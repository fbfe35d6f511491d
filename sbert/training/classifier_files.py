"""The files of a classifier that was trained together with its encoder. They lie in the folder of the encoder's model.

``classifier.json`` names the classes, and ``classifier.safetensors`` holds a weight for each value of the vector and a bias.
This module reads them without the encoder and without torch.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import load, save

from sbert.errors import MissingError, ModelError
from sbert.storage.files import join, read_bytes

__all__ = ["NAMES_FILE", "WEIGHTS", "ClassifierFiles", "copy_classifier"]

WEIGHTS, NAMES_FILE = "classifier.safetensors", "classifier.json"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClassifierFiles:
    """A softmax classifier: the scores are vectors x weightᵀ + bias.

    Shapes: weight (C, D), bias (C,), for C classes and vectors of D values.
    """

    classes: tuple[str, ...]
    weight_CD: Floats
    bias_C: Floats

    @property
    def fingerprint(self) -> str:
        """Hash of classes and weights (64 hex digits)."""
        digest = hashlib.sha256(json.dumps([*self.classes, *self.weight_CD.shape]).encode())
        for tensor in (self.weight_CD, self.bias_C):
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def write(self, folder: Path) -> None:
        """Write the files into a model folder."""
        tensors = {"weight": np.ascontiguousarray(self.weight_CD), "bias": np.ascontiguousarray(self.bias_C)}
        (folder / WEIGHTS).write_bytes(save(tensors))
        names = json.dumps({"classes": list(self.classes)}, ensure_ascii=False)
        (folder / NAMES_FILE).write_text(names, encoding="utf-8")

    @classmethod
    def read(cls, folder: str) -> Self | None:
        """Return the classifier of a model folder, local or in object storage; None when there is none.

        Raises:
            ModelError: one of its files is damaged or missing.
            StorageError: storage refuses.
        """
        try:
            names = read_bytes(join(folder, NAMES_FILE))
        except MissingError:
            return None
        try:
            tensors = load(read_bytes(join(folder, WEIGHTS)))
            found = cls(tuple(json.loads(names)["classes"]), tensors["weight"], tensors["bias"])
            shapes = (found.weight_CD.ndim, len(found.weight_CD), found.bias_C.shape)
            if shapes != (2, len(found.classes), (len(found.classes),)):
                raise ValueError(
                    f"{len(found.classes)} classes have weights of shape {found.weight_CD.shape} and biases of shape "
                    f"{found.bias_C.shape}"
                )
        except (MissingError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ModelError(
                f"{folder}: the classifier beside the encoder is damaged ({error}): copy {NAMES_FILE} and {WEIGHTS} again "
                "from where the model came from, or remove both"
            ) from error
        return found


def copy_classifier(base: Path, folder: Path) -> None:
    """Copy the classifier of one model folder into another; do nothing where there is none."""
    if (base / NAMES_FILE).is_file():
        for name in (WEIGHTS, NAMES_FILE):
            shutil.copyfile(base / name, folder / name)
