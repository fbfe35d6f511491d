"""Load a Hugging Face encoder and its fast tokenizer, whole and safely, in float32."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from sbert.counted import counted
from sbert.errors import ModelError

__all__ = ["check_vocabulary", "load_transformer", "position_limit"]

OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"})
"""Architectures that number positions from the padding id on."""
ENCODER_HALVES = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}
"""Encoder-decoders whose encoder alone is loaded, as sentence-transformers does, with the class that loads it."""
OTHER_ENCODER_HALVES = frozenset(
    {
        "blenderbot", "blenderbot-small", "m2m_100", "marian", "moonshine", "pegasus", "pegasus_x", "prophetnet",
        "t5gemma", "t5gemma2", "udop", "whisper",
    }
)  # fmt: skip
"""Encoder-decoders that this library refuses; sentence-transformers loads their encoder alone."""


def position_limit(config: Any) -> int | None:
    """Return the largest number of tokens that an encoder has positions for; None if there is no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 1:
        return None
    # The positions up to the padding id are never used.
    offset = (config.pad_token_id or 0) + 1 if config.model_type in OFFSET_POSITIONS else 0
    return int(positions) - offset


def load_transformer(folder: Path) -> tuple[nn.Module, Any]:
    """Load a Hugging Face encoder in float32 and its fast tokenizer. Of a T5 only the encoder is loaded.

    Raises:
        ModelError: when weights are missing or unsafe, there is no fast tokenizer, or the tokenizer needs a treatment that
            this library does not give.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = transformers.AutoConfig.from_pretrained(folder, **options)
            load = _loader(folder, str(config.model_type))
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True, **options)
            transformer, info = load(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"{folder}: cannot be loaded as an encoder: {' '.join(str(error).split())[:500]}") from error
    _check_tokenizer(folder, tokenizer)
    missing = sorted(key for key in info["missing_keys"] if "pooler." not in key and "position_ids" not in key)
    if missing:
        raise ModelError(
            f"{folder}: {counted(len(missing), 'weight')} not in the file, which would be random (first: {missing[0]}): "
            "the folder does not fit its config.json"
        )
    return transformer, tokenizer


def _loader(folder: Path, model_type: str) -> Callable[..., Any]:
    """Return the function that loads an architecture, given the folder."""
    import transformers

    if model_type in OTHER_ENCODER_HALVES:
        raise ModelError(
            f"{folder}: {model_type} is an encoder-decoder; only the encoders of {', '.join(ENCODER_HALVES)} are read: "
            "save the encoder as a model of its own"
        )
    name = ENCODER_HALVES.get(model_type)
    return getattr(transformers, name).from_pretrained if name else transformers.AutoModel.from_pretrained


def _check_tokenizer(folder: Path, tokenizer: Any) -> None:
    """Check that a tokenizer is a fast one, and that texts can be truncated at their end and need no token types."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{folder}: has no fast tokenizer (tokenizer.json): convert it with transformers and save it")
    if getattr(tokenizer, "truncation_side", "right") != "right":
        raise ModelError(
            f"{folder}: the tokenizer truncates texts at their beginning (truncation_side in tokenizer_config.json), "
            "which is not supported: choose another model, or set it to right and accept other vectors of long texts"
        )
    if any(tokenizer.backend_tokenizer.encode("a").type_ids):
        raise ModelError(
            f"{folder}: the tokenizer gives token types other than 0, not supported here: choose another model"
        )


def check_vocabulary(tokenizer: Tokenizer, transformer: nn.Module, model: str) -> None:
    """Check that every token of a tokenizer has an embedding. More embeddings than tokens are fine: many are padded.

    Raises:
        ModelError: when a token has none; the message names both numbers.
    """
    find_embeddings: Callable[[], Any] | None = getattr(transformer, "get_input_embeddings", None)
    num_embeddings = getattr(find_embeddings() if find_embeddings is not None else None, "num_embeddings", None)
    if num_embeddings is None:
        return
    ids = np.fromiter(tokenizer.get_vocab(with_added_tokens=True).values(), dtype=np.int64)
    without = ids[ids >= num_embeddings]
    if len(without):
        first = int(without.min())
        raise ModelError(
            f"{model or 'the model'}: the tokenizer has {int(ids.max()) + 1} tokens, the embedding matrix {num_embeddings} "
            f"rows (the first token without one is {tokenizer.id_to_token(first)!r}): use the tokenizer that the model was "
            "trained with, or resize the embeddings and train"
        )
