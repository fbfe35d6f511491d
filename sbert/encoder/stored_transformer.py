"""A transformer and a tokenizer made from stored facts, without transformers. They can be encoded with, not trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import nn

from sbert.counted import counted
from sbert.encoder.load_record import LoadRecord
from sbert.errors import ModelError

__all__ = ["StoredTokenizer", "StoredTransformer", "load_stored"]


class StoredTransformer(nn.Module):
    """The weights of a transformer under the names that transformers gives them, with its config. It computes nothing."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        for name, tensor in tensors.items():
            *path, leaf = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))

    def forward(self, *_: object, **__: object) -> NoReturn:
        """Refuse to compute.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            "this encoder was loaded for encoding alone: use SentenceEncoder.from_pretrained to train it or to call it"
        )


@dataclass(frozen=True)
class StoredTokenizer:
    """The part of a tokenizer of transformers that `SentenceEncoder` needs."""

    backend_tokenizer: Tokenizer
    pad_token_id: int | None
    model_max_length: int


def load_stored(folder: Path, record: LoadRecord) -> tuple[StoredTransformer, StoredTokenizer]:
    """Load a transformer in float32 and its tokenizer as a record describes them.

    Raises:
        ModelError: when a weight that the record names is not in the folder.
    """
    tokenizer = StoredTokenizer(Tokenizer.from_str(record.tokenizer), record.pad_token_id, record.model_max_length)
    return StoredTransformer(record.config, _read_tensors(folder, record)), tokenizer


def _read_tensors(folder: Path, record: LoadRecord) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    wanted = {name: name for name in record.tensor_names}
    wanted |= {f"{record.name_prefix}.{name}": name for name in record.tensor_names}
    try:
        for path in _weight_files(folder):
            with safe_open(path, framework="pt") as file:
                for stored in file.keys():  # noqa: SIM118  (not a dictionary)
                    if stored in wanted:
                        tensors[wanted[stored]] = file.get_tensor(stored).to(torch.float32)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder}: the weights cannot be read: {error}") from error
    missing = [name for name in record.tensor_names if name not in tensors]
    if missing:
        raise ModelError(
            f"{folder}: {counted(len(missing), 'weight')} not in the file (first: {missing[0]}): save the model again"
        )
    return tensors


def _weight_files(folder: Path) -> list[Path]:
    """Return the files of weights that transformers would read: one file, or the files of an index."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return [folder / "model.safetensors"]
    return [folder / name for name in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))]
