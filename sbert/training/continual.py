"""Learn new labels without losing old skills, by replay and weight averaging. Distillation is part of the objective."""

import numpy as np
import polars as pl
import torch

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.labels.label_set import LabelSet

__all__ = ["average_with", "mix_rows"]


def mix_rows(labels: LabelSet, known_objects: frozenset[str], replay_share: float, seed: int) -> pl.DataFrame:
    """Return the new train rows and a sample of earlier rows, which make `replay_share` of all (Rolnick et al. 2019).

    With a share of 0 there are no earlier rows. When no row is new, all train rows are returned.
    """
    new = labels.new_rows(known_objects)
    if new.height in {0, labels.train.height}:
        return labels.train
    earlier = labels.train.filter(pl.col("object").is_in(sorted(known_objects)))
    wanted = min(earlier.height, round(new.height * replay_share / (1 - replay_share)))
    replayed = np.random.default_rng(seed).permutation(earlier.height)[:wanted]
    return pl.concat([new, earlier[np.sort(replayed)]])


def average_with(base: str, encoder: SentenceEncoder, weight: float) -> None:
    """Set each weight to weight x trained + (1 - weight) x base (Wortsman et al. 2022, WiSE-FT, section 3, equation 1).

    Args:
        base: the encoder that training began with.
        encoder: the trained encoder, changed in place.
        weight: share of the trained weights, 0 … 1.
    """
    before = SentenceEncoder.from_pretrained(
        base, device=encoder.device, compute_dtype=ComputeDtype.FLOAT32
    ).state_dict()
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(before[name], 1 - weight)
