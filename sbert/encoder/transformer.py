"""Load a Hugging Face encoder and its fast tokenizer, whole and safely, in float32."""

import importlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sbert.errors import ModelError

__all__ = ["import_libraries", "load_transformer", "position_limit"]
OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"})


def position_limit(config: Any) -> int | None:
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 1:
        return None
    # RoBERTa's kin number positions from the padding id on, so that many positions are never used.
    offset = (config.pad_token_id or 0) + 1 if config.model_type in OFFSET_POSITIONS else 0
    return int(positions) - offset


def import_libraries() -> None:
    """Import what `load_transformer` will: it takes seconds, which a caller who has to wait for something else can use."""
    importlib.import_module("transformers.modeling_utils")
    importlib.import_module("transformers.models.bert.modeling_bert")
    importlib.import_module("transformers.tokenization_utils_tokenizers")


def load_transformer(folder: Path) -> tuple[nn.Module, Any]:
    """Load a Hugging Face encoder in float32 and its fast tokenizer.

    Raises:
        ModelError: when weights are missing or unsafe, or there is no fast tokenizer.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, use_fast=True, local_files_only=True, trust_remote_code=False
            )
            transformer, info = transformers.AutoModel.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"{folder}: cannot be loaded as an encoder: {' '.join(str(error).split())[:500]}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{folder}: has no fast tokenizer (tokenizer.json): convert it with transformers and save it")
    missing = sorted(key for key in info["missing_keys"] if "pooler." not in key and "position_ids" not in key)
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} weights are not in the file and would be random (first: {missing[0]}): "
            "the folder does not fit its config.json"
        )
    return transformer, tokenizer
