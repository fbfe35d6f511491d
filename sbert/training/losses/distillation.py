"""The objective that keeps a student's vectors near a teacher's vectors.

Legend of shapes: B texts in a batch, D values in a vector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DistillationLoss"]


class DistillationLoss(nn.Module):
    """L = mean of (student - teacher)² over values + mean of (cosine of students - cosine of teachers)² over pairs.

    The first term copies vectors; it is left out when the dims differ. The second copies which texts of the batch are near
    each other.
    Sources: Reimers and Gurevych 2020, Making Monolingual Sentence Embeddings Multilingual, section 2, equation 1; Tung and
    Mori 2019, Similarity-Preserving Knowledge Distillation, section 3.2 (there with inner products scaled by rows).
    """

    def forward(self, vectors: list[Tensor], teachers: list[Tensor]) -> Tensor:
        """Return the mean loss of all columns of texts: student's and teacher's vectors, shape (B, D) each."""
        return torch.stack([self._column(*pair) for pair in zip(vectors, teachers, strict=True)]).mean()

    def _column(self, student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
        student_unit = functional.normalize(student_BD, dim=1)
        teacher_unit = functional.normalize(teacher_BD, dim=1)
        loss = functional.mse_loss(student_unit @ student_unit.T, teacher_unit @ teacher_unit.T)
        if student_BD.shape == teacher_BD.shape:
            loss = loss + functional.mse_loss(student_BD, teacher_BD)
        return loss
