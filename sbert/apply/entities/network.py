"""A small network on frozen word vectors that learns, from base labels, to recognise the words of names.

A tagger uses its hidden layer. There, words lie near each other if they are alike for telling the base types apart. This
holds for words of other types too. The encoder stays as it is.
"""

import numpy as np
import torch
from torch import nn

from sbert.apply.entities.tagger import Float32, Ints

__all__ = ["train_hidden_layer"]

NUM_HIDDEN = 128
NUM_EPOCHS = 4
BATCH_WORDS = 512
LEARNING_RATE = 2e-3
DROPOUT = 0.2
SHAPE_DROPOUT = 0.2
"""Share of the words whose way of writing is hidden: in other texts capitals may mean nothing."""


def train_hidden_layer(
    inputs_NF: Float32, tags_N: Ints, *, num_tags: int, num_vector_values: int, seed: int
) -> tuple[Float32, Float32]:
    """Return weights (F, E) and bias (E,) of the hidden layer of a classifier of words.

    Args:
        inputs_NF: vectors and shapes of N words.
        tags_N: their tags.
        num_tags: number of tags.
        num_vector_values: the columns from this one on are shapes.
        seed: the same seed gives the same weights.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = nn.Linear(inputs_NF.shape[1], NUM_HIDDEN)
    top = nn.Linear(NUM_HIDDEN, num_tags)
    for layer in (hidden, top):
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    parameters = [*hidden.parameters(), *top.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01)
    num_steps = NUM_EPOCHS * -(-len(inputs_NF) // BATCH_WORDS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / max(num_steps, 1))
    inputs, tags = torch.from_numpy(inputs_NF), torch.from_numpy(tags_N)
    for _ in range(NUM_EPOCHS):
        for batch in torch.split(torch.randperm(len(inputs), generator=generator), BATCH_WORDS):
            rows_BF = inputs[batch]
            is_hidden_B1 = torch.rand(len(batch), 1, generator=generator) < SHAPE_DROPOUT
            rows_BF[:, num_vector_values:] *= ~is_hidden_B1
            hidden_BE = torch.relu(hidden(rows_BF))
            kept_BE = torch.rand(hidden_BE.shape, generator=generator) >= DROPOUT
            loss = nn.functional.cross_entropy(top(hidden_BE * kept_BE / (1 - DROPOUT)), tags[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        weights: Float32 = np.ascontiguousarray(hidden.weight.T.numpy())
        return weights, hidden.bias.numpy().copy()
