"""Fit a ranker: of two sentences of a document, the one with more ROUGE shall have the higher score.

The wording comes first. The networks learn from the promises of wording models that had not seen the document, by
cross-validation: otherwise they would trust the wording too much.

The loss is listwise: the softmax of a document's scores shall be near to the softmax of its sentences' ROUGE (ListNet, Cao
et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach", section 4). All networks of a ranker learn at
once, as one batch of matrices; they differ by their random beginning and by what dropout leaves out.

Shapes: M networks, B documents of at most S sentences, I inputs, H hidden values.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sbert.apply.summaries.examples import Example
from sbert.apply.summaries.features import FEATURES
from sbert.apply.summaries.ranker import Networks, RankerModels
from sbert.apply.summaries.settings import RankerSettings
from sbert.apply.summaries.wording import WORDING_FEATURES, WordingModel, fit_wording, wording_features
from sbert.vectors.precision import Float32

__all__ = ["CODE_VERSION", "fit_models"]

CODE_VERSION = 1
"""Raise it when the code changes so that the same labels make another ranker."""
DOCUMENTS_AT_ONCE = 32
MIN_STEPS = 200
"""Steps of the optimizer, at least: few documents are passed over more often."""
VECTOR_WEIGHT = 8.0
"""Variance of sentence vector and centroid together; each feature has 1."""


def fit_models(examples: Sequence[Example], settings: RankerSettings) -> RankerModels:
    """Return models that were fitted to examples; the same seed gives the same models on one machine.

    Args:
        examples: at least two documents.
        settings: size, steps, seed.
    """
    order = np.random.default_rng(settings.seed).permutation(len(examples))
    promises: dict[int, Float32] = {}
    for part in np.array_split(order, min(settings.num_folds, len(examples))):
        here = set(part.tolist())
        wording = _fit_wording([item for at, item in enumerate(examples) if at not in here], settings)
        promises |= {at: wording.scores(examples[at].runs_SW) for at in here}
    inputs = [
        np.concatenate([wording_features(promises[at]), item.inputs_SI], axis=1) for at, item in enumerate(examples)
    ]
    networks = _fit_networks(inputs, [item.rouge_S for item in examples], settings)
    return RankerModels(_fit_wording(examples, settings), networks)


def _fit_wording(examples: Sequence[Example], settings: RankerSettings) -> WordingModel:
    runs_NW = scipy.sparse.vstack([item.runs_SW for item in examples]).tocsr()
    gain_N = np.concatenate([item.rouge_S - item.rouge_S.mean() for item in examples])
    return fit_wording(runs_NW, gain_N, settings.wording_penalty)


def _fit_networks(inputs: Sequence[Float32], rouge: Sequence[Float32], settings: RankerSettings) -> Networks:
    mean_I, scale_I = _scaling(np.concatenate(inputs), len(WORDING_FEATURES + FEATURES))
    scaled = [torch.from_numpy((inputs_SI - mean_I) / scale_I) for inputs_SI in inputs]
    targets = [torch.from_numpy(rouge_S / settings.temperature).softmax(dim=0) for rouge_S in rouge]
    generator = torch.Generator().manual_seed(settings.seed)
    num_inputs, hidden, members = len(mean_I), settings.num_hidden, settings.num_networks
    weights = [
        torch.randn(members, num_inputs, hidden, generator=generator) * math.sqrt(2 / num_inputs),
        torch.zeros(members, hidden),
        torch.randn(members, hidden, generator=generator) * math.sqrt(1 / hidden),
    ]
    for tensor in weights:
        tensor.requires_grad_()
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps_per_epoch = math.ceil(len(inputs) / DOCUMENTS_AT_ONCE)
    num_epochs = max(settings.num_epochs, math.ceil(MIN_STEPS / steps_per_epoch))
    num_steps = num_epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=num_steps)
    for _ in range(num_epochs):
        order = torch.randperm(len(inputs), generator=generator).tolist()
        for first in range(0, len(order), DOCUMENTS_AT_ONCE):
            batch = order[first : first + DOCUMENTS_AT_ONCE]
            inputs_BSI = torch.nn.utils.rnn.pad_sequence([scaled[at] for at in batch], batch_first=True)
            target_BS = torch.nn.utils.rnn.pad_sequence([targets[at] for at in batch], batch_first=True)
            scores_MBS = _scores(inputs_BSI, weights, settings.dropout, generator)
            loss = _listwise(scores_MBS, target_BS, torch.tensor([len(targets[at]) for at in batch]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    hidden_MIH, hidden_bias_MH, output_MH = (tensor.detach().numpy() for tensor in weights)
    return Networks(mean_I, scale_I, hidden_MIH, hidden_bias_MH, output_MH)


def _scaling(inputs_NI: Float32, num: int) -> tuple[Float32, Float32]:
    """Return mean and scale of the inputs: each of `num` features has variance 1, vectors together `VECTOR_WEIGHT`."""
    mean_I = inputs_NI.mean(axis=0)
    scale_I = inputs_NI.std(axis=0)
    spread = np.sqrt(np.square(scale_I[num:]).sum() / VECTOR_WEIGHT)
    scale_I[num:] = max(float(spread), 1e-6)
    scale_I[:num] = np.where(scale_I[:num] < 1e-6, 1, scale_I[:num])
    return mean_I.astype(np.float32), scale_I.astype(np.float32)


def _scores(inputs_BSI: Tensor, weights: Sequence[Tensor], dropout: float, generator: torch.Generator) -> Tensor:
    """Return scores, shape (M, B, S)."""
    hidden_MIH, hidden_bias_MH, output_MH = weights
    num_members = len(output_MH)
    flat_MNI = inputs_BSI.flatten(0, 1).expand(num_members, -1, -1)
    hidden_MNH = torch.relu(torch.bmm(_drop(flat_MNI, dropout / 2, generator), hidden_MIH) + hidden_bias_MH[:, None, :])
    flat_MN = torch.einsum("mnh,mh->mn", _drop(hidden_MNH, dropout, generator), output_MH)
    return flat_MN.reshape(num_members, *inputs_BSI.shape[:2])


def _drop(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Set a share of the values to 0, and scale the others so that the mean stays."""
    if not share:
        return values
    kept = torch.rand(values.shape, generator=generator) >= share
    return values * kept / (1 - share)


def _listwise(scores_MBS: Tensor, target_BS: Tensor, lengths_B: Tensor) -> Tensor:
    """Return the mean cross-entropy of documents: the softmax of scores against the targets, which add up to 1."""
    is_padding_BS = torch.arange(target_BS.shape[1])[None, :] >= lengths_B[:, None]
    log_MBS = scores_MBS.masked_fill(is_padding_BS, -torch.inf).log_softmax(dim=-1)
    return -(target_BS * log_MBS.masked_fill(is_padding_BS, 0)).sum(dim=-1).mean()
