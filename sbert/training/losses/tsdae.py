"""TSDAE: learn vectors from which a decoder can restore a text after most of its words were deleted.

Legend of shapes: B texts in a batch, L tokens, H hidden size, V vocabulary.
"""

import copy
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import TrainingError

__all__ = ["TsdaeLoss"]


class TsdaeLoss(nn.Module):
    """L = - sum over tokens t of log P(x_t | x_<t, vector of the damaged text), mean over the batch's tokens.

    The decoder sees only the vector of the text, through cross-attention to this one key. It shares the encoder's weights,
    except for the cross-attention and the output layer. Source: Wang et al. 2021, TSDAE, section 3, equation 1
    and "deletion, ratio 0.6".
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        """Build the decoder for an encoder.

        Raises:
            TrainingError: when the encoder's architecture has no decoder, or its vectors do not have the hidden size.
        """
        super().__init__()
        config: Any = copy.deepcopy(encoder.transformer.config)
        if encoder.dim != config.hidden_size:
            raise TrainingError(
                f"TSDAE needs vectors of the transformer's hidden size {config.hidden_size}, but the encoder has vectors of "
                f"{encoder.dim}: use an encoder without dense layers and with one pooling"
            )
        self.pad_id = int(config.pad_token_id or 0)
        self.decoder = _decoder(config)
        base = self.decoder.base_model
        missing = _tie(encoder.transformer, base)
        logging.getLogger(__name__).info("TSDAE: %d decoder weights start random (cross-attention, output)", missing)

    def forward(self, vectors: list[Tensor], target_ids_BL: Tensor) -> Tensor:
        """Return the loss of the vectors of B damaged texts; `target_ids_BL` are the whole texts, padded."""
        logits_BLV = self.decoder(
            input_ids=target_ids_BL[:, :-1],
            encoder_hidden_states=vectors[0][:, None],
            encoder_attention_mask=torch.ones_like(target_ids_BL[:, :1]),
            use_cache=False,
        ).logits
        return functional.cross_entropy(
            logits_BLV.flatten(0, 1).float(), target_ids_BL[:, 1:].flatten(), ignore_index=self.pad_id
        )


def _decoder(config: Any) -> Any:
    import transformers

    config.is_decoder = True
    config.add_cross_attention = True
    kind = type(config)
    if kind not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING or not hasattr(config, "add_cross_attention"):
        raise TrainingError(
            f"TSDAE needs an architecture with a decoder (BERT, RoBERTa, …), but {kind.__name__} has none: choose "
            "another encoder or objective"
        )
    return transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]


def _tie(encoder: nn.Module, decoder: nn.Module) -> int:
    """Share the encoder's parameters with the decoder where both have one of the same name; return the number of others."""
    own = dict(encoder.named_parameters())
    missing = 0
    for name, parameter in list(decoder.named_parameters()):
        twin = own.get(name)
        if twin is None or twin.shape != parameter.shape:
            missing += 1
            continue
        holder, _, attribute = name.rpartition(".")
        setattr(decoder.get_submodule(holder), attribute, twin)
    return missing
