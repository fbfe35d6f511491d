"""Encoder and objective as one module, for `transformers.Trainer`.

Legend of shapes: B rows of a batch, C columns of texts, S = B x C sequences, L tokens, D values in a vector.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.training.adapters import orthogonality
from sbert.training.distributed import gather, gather_with_gradient, is_distributed
from sbert.training.losses.distillation import DistillationLoss
from sbert.training.losses.matryoshka import MatryoshkaLoss
from sbert.training.losses.rehearsal import RehearsalLoss
from sbert.training.losses.tsdae import TsdaeLoss

__all__ = ["TrainingModule"]

FUSED_ATTENTION_FROM = 192
"""Least tokens of a sequence at which fused attention trains faster on a CPU in bfloat16. Its backward pass is slow there:
for 1,024 tokens in sequences of 16, 64, 128 and 256 it takes 49, 27, 29 and 20 ms, plain attention 5, 9, 15 and 27 ms."""


class TrainingModule(nn.Module):
    """Compute the loss of a batch.

    Gradient caching (Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size, section 3) computes all vectors of a
    batch part by part without keeping activations, then the loss, and then goes through the parts again to pass on the
    gradients of the vectors. Activation checkpointing of each part does the same within autograd, with the same random
    numbers of dropout. Memory holds the activations of one part, and the gradients are those of the whole batch.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        loss: nn.Module,
        *,
        bf16: bool = False,
        cache_gradients: bool = False,
        distill_weight: float = 0.0,
        rehearsal_weight: float = 0.0,
    ) -> None:
        """Set up.

        Args:
            encoder: the encoder that is trained.
            loss: one of `sbert.training.losses`.
            bf16: compute the transformer in bfloat16; weights, pooling and loss stay float32.
            cache_gradients: keep only the activations of one part of the batch.
            distill_weight: weight of the distance to the teachers' vectors, which is added to the objective.
            rehearsal_weight: weight of the lost margins of made rows, which is added to the objective.
        """
        super().__init__()
        self.encoder = encoder
        self.loss = loss
        self._distils = isinstance(loss.inner if isinstance(loss, MatryoshkaLoss) else loss, DistillationLoss)
        self.distillation, self.rehearsal = DistillationLoss(), RehearsalLoss()
        self.bf16, self.cache_gradients = bf16, cache_gradients
        self.distill_weight, self.rehearsal_weight = distill_weight, rehearsal_weight

    def forward(
        self,
        input_ids: Sequence[Tensor],
        attention_mask: Sequence[Tensor | None],
        places: Tensor,
        num_columns: int,
        labels: Tensor | None = None,
        teachers: Tensor | None = None,
        num_prompt_tokens: Sequence[Tensor] | None = None,
        rehearsal: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Return the loss of B rows.

        Args:
            input_ids: token ids of the parts of the batch, shape (texts of the part, L) each.
            attention_mask: their masks; None where nothing is padded.
            places: where each sequence, column after column, is found among those of all parts, shape (S,).
            num_columns: C.
            labels: scores or class numbers, shape (B,); for ranking text numbers, shape (B, C); for TSDAE target ids (B, L).
            teachers: a teacher's vectors, shape (C, B, D).
            num_prompt_tokens: tokens of each text that belong to its prompt, shape (texts of the part,) for each part; None
                when no text has a prompt.
            rehearsal: the same arguments for made rows whose margins are kept (`sbert.training.rehearsal`).
        """
        loss = self._objective(
            self._columns(input_ids, attention_mask, places, num_columns, num_prompt_tokens), labels, teachers
        )
        if rehearsal is not None:
            made = {name: value for name, value in rehearsal.items() if name != "teachers"}
            loss = loss + self.rehearsal_weight * self.rehearsal(self._columns(**made), list(rehearsal["teachers"]))
        penalty = orthogonality(self.encoder)
        return loss if penalty is None else loss + penalty

    def _columns(
        self,
        input_ids: Sequence[Tensor],
        attention_mask: Sequence[Tensor | None],
        places: Tensor,
        num_columns: int,
        num_prompt_tokens: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Return the vectors of each column of texts, shape (B, D)."""
        prompts: Sequence[Tensor | int] = [0] * len(input_ids) if num_prompt_tokens is None else num_prompt_tokens
        with torch.autocast(places.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            parts = [self._vectors(*part) for part in zip(input_ids, attention_mask, prompts, strict=True)]
        return list(torch.cat(parts).float()[places].chunk(num_columns))

    def _objective(self, vectors: list[Tensor], labels: Tensor | None, teachers: Tensor | None) -> Tensor:
        """Return the objective's loss of the rows of all processes."""
        if isinstance(self.loss, TsdaeLoss):
            with torch.autocast(vectors[0].device.type, dtype=torch.bfloat16, enabled=self.bf16):
                return self.loss(vectors, labels)  # type: ignore[no-any-return]
        if is_distributed():
            vectors = [gather_with_gradient(column_BD) for column_BD in vectors]
            labels = None if labels is None else gather(labels)
            teachers = None if teachers is None else torch.stack([gather(column_BD) for column_BD in teachers])
        if self._distils:
            assert teachers is not None
            loss: Tensor = self.loss(vectors, list(teachers))
        else:
            loss = self.loss(vectors, labels)
            if teachers is not None and self.distill_weight:
                loss = loss + self.distill_weight * self.distillation(vectors, list(teachers))
        return loss

    def _vectors(self, ids_BL: Tensor, mask_BL: Tensor | None, num_prompt_tokens: Tensor | int) -> Tensor:
        if self.cache_gradients and torch.is_grad_enabled():
            vectors_BD: Tensor = checkpoint(self._encode, ids_BL, mask_BL, num_prompt_tokens, use_reentrant=False)
            return vectors_BD
        return self._encode(ids_BL, mask_BL, num_prompt_tokens)

    def _encode(self, ids_BL: Tensor, mask_BL: Tensor | None, num_prompt_tokens: Tensor | int) -> Tensor:
        with self._attention(ids_BL):
            return self.encoder(ids_BL, mask_BL, num_prompt_tokens)  # type: ignore[no-any-return]

    def _attention(self, ids_BL: Tensor) -> AbstractContextManager[None]:
        if self.bf16 and ids_BL.device.type == "cpu" and ids_BL.shape[1] < FUSED_ATTENTION_FROM:
            return sdpa_kernel(SDPBackend.MATH)
        return nullcontext()
