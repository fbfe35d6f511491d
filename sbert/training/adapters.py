"""Parameter-efficient training through peft, merged into the weights before anything is saved.

LoRA and AdaLoRA add low-rank updates to linear layers. They are merged into the weights exactly. Prefix tuning adds learned
keys and values to every layer. No weight can hold them, and a sentence-transformers folder could not reproduce the vectors,
so it is refused. Prompt tuning puts learned vectors before every text. They become words of the vocabulary, and the
tokenizer puts these words before every text (`sbert.training.prompt_tuning`).
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import TrainingError
from sbert.training.prompt_tuning import virtual_token_ids
from sbert.training.settings import AdapterKind, AdapterSettings

__all__ = ["adapt", "merge_adapter", "orthogonality", "update_ranks"]

ORTHOGONALITY_WEIGHT = 0.5


def adapt(encoder: SentenceEncoder, settings: AdapterSettings, num_steps: int) -> None:
    """Put adapters into the transformer and freeze the rest. The encoder is changed in place.

    Raises:
        TrainingError: for prefix tuning, or when no layer has a name that `target_modules` gives.
    """
    if settings.kind is AdapterKind.NONE:
        return
    if settings.kind is AdapterKind.PREFIX:
        raise TrainingError(
            "prefix tuning learns keys and values that no weight of the encoder can hold, so the saved model would give "
            "other vectors: use adapter lora, adalora or prompt"
        )
    import peft

    targets = list(settings.target_modules) or _linear_names(encoder.transformer)
    common: dict[str, Any] = {"target_modules": targets, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    config: Any
    if settings.kind is AdapterKind.PROMPT:
        transformer: Any = encoder.transformer
        words = transformer.get_input_embeddings()
        name = next(name for name, module in transformer.named_modules() if module is words)
        config = peft.TrainableTokensConfig(
            token_indices=virtual_token_ids(encoder.hf_tokenizer), target_modules=[name], init_weights=True
        )
    elif settings.kind is AdapterKind.LORA:
        config = peft.LoraConfig(r=settings.rank, **common)
    else:
        config = peft.AdaLoraConfig(
            target_r=settings.rank,
            init_r=settings.rank + settings.rank // 2 + 1,
            tinit=num_steps // 10,
            tfinal=num_steps // 4,
            deltaT=max(1, num_steps // 100),
            total_step=num_steps,
            **common,
        )
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5 for a property by its old name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            encoder.transformer = peft.get_peft_model(encoder.transformer, config)
    except ValueError as error:
        detail = " ".join(str(error).split())[:300]
        raise TrainingError(f"adapter {settings.kind} cannot be put into the encoder: {detail}") from error


def merge_adapter(encoder: SentenceEncoder) -> None:
    """Add the updates of the adapters to the weights and remove the adapters. The encoder is changed in place."""
    import peft

    if isinstance(encoder.transformer, peft.PeftModel):
        merged: Any = encoder.transformer
        encoder.transformer = merged.merge_and_unload()


def update_ranks(encoder: SentenceEncoder, step: int) -> None:
    """Let AdaLoRA redistribute ranks. Call it between an optimizer step and the clearing of the gradients."""
    import peft

    if isinstance(encoder.transformer, peft.PeftModel) and encoder.transformer.peft_type is peft.PeftType.ADALORA:
        tuner: Any = encoder.transformer.base_model
        tuner.update_and_allocate(step)


def orthogonality(encoder: SentenceEncoder) -> Tensor | None:
    """Return AdaLoRA's penalty: mean over its matrices of |P Pᵀ - I| (Zhang et al. 2023, AdaLoRA, equation 4); else None."""
    import peft

    if (
        not isinstance(encoder.transformer, peft.PeftModel)
        or encoder.transformer.peft_type is not peft.PeftType.ADALORA
    ):
        return None
    distances = []
    for name, parameter in encoder.transformer.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = parameter @ parameter.T if "lora_A" in name else parameter.T @ parameter
            distances.append((product - torch.eye(len(product), device=product.device)).norm())
    return ORTHOGONALITY_WEIGHT * torch.stack(distances).mean()


def _linear_names(transformer: nn.Module) -> list[str]:
    return [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith("pooler.")
    ]
