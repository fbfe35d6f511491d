"""The last layers of the encoder, tuned on base labels together with a hidden layer.

The layers below stay as they are: a reader computes their output once, and the tuned layers read it. A tagger compares
words by the hidden layer, in which words lie near each other that play the same role in a name. Everything runs on the
processor.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertLayer

from sbert.apply.fitted_models import Tensors
from sbert.apply.word_vectors import NUM_SHAPES, WordPiece, WordVectors
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.token_vectors import NO_WORD, token_cuts

__all__ = ["LayerShape", "TunedLayers", "layer_shape", "tune_layers"]

NUM_HIDDEN = 128
NUM_EPOCHS = 2
BATCH_TOKENS = 320
"""Padded tokens of a batch of training. Small batches matter: each epoch has few steps."""
READ_TOKENS = 4_096
LAYER_RATE, HIDDEN_RATE = 2e-4, 1e-3
NUM_WARM_UP_STEPS = 50
WEIGHT_DECAY = 0.01
TOKEN_DROPOUT = 0.1
"""Share of the tokens that the layers do not see: names of other texts are unknown words."""
SHAPE_DROPOUT = 0.2
"""Share of the words whose way of writing is hidden: in other texts capitals may mean nothing."""
HIDDEN_DROPOUT = 0.2
MASKED = -1e4

Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class LayerShape(BaseModel):
    """The shape of tuned layers, by which they are built before their weights are read."""

    model_config = ConfigDict(frozen=True)

    num_layers: int = Field(ge=1, description="Tuned layers at the end of the encoder.")
    hidden_size: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    activation: str
    norm_eps: float


def layer_shape(encoder: SentenceEncoder, num_layers: int) -> LayerShape | None:
    """Return the shape of an encoder's last layers, at most all of them; None if its architecture is not BERT."""
    config: Any = encoder.transformer.config
    if not isinstance(encoder.transformer, transformers.BertModel) or config.is_decoder:
        return None
    return LayerShape(
        num_layers=min(num_layers, config.num_hidden_layers),
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        activation=config.hidden_act,
        norm_eps=config.layer_norm_eps,
    )


class TunedLayers(nn.Module):
    """Layers of an encoder, the mean of the tokens of each word, and a hidden layer."""

    mean_H: Tensor
    length: Tensor

    def __init__(self, shape: LayerShape) -> None:
        """Make layers of a shape, without weights."""
        super().__init__()
        config: Any = transformers.BertConfig(  # type: ignore[call-arg]
            hidden_size=shape.hidden_size,
            num_attention_heads=shape.num_heads,
            intermediate_size=shape.intermediate_size,
            hidden_act=shape.activation,
            layer_norm_eps=shape.norm_eps,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="sdpa",
        )
        self.shape = shape
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(shape.num_layers))  # type: ignore[no-untyped-call]
        self.hidden = nn.Linear(shape.hidden_size + NUM_SHAPES, NUM_HIDDEN)
        self.register_buffer("mean_H", torch.zeros(shape.hidden_size))
        self.register_buffer("length", torch.ones(1))

    @classmethod
    def of_tensors(cls, shape: LayerShape, tensors: Tensors) -> "TunedLayers":
        """Build layers from stored weights.

        Raises:
            ValueError: the weights do not fit the shape.
        """
        tuned = cls(shape)
        try:
            tuned.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        return tuned.eval().requires_grad_(requires_grad=False)

    def tensors(self) -> Tensors:
        """Return the weights by name, to be stored."""
        return {name: value.numpy() for name, value in self.state_dict().items()}

    def read(self, words: Sequence[WordVectors]) -> list[Float32]:
        """Return the hidden layer of the words of each text, shape (W, E)."""
        hidden = [np.zeros((len(each.words), NUM_HIDDEN), np.float32) for each in words]
        pieces = [(number, piece) for number, each in enumerate(words) for piece in each.pieces if piece.num_words]
        for batch in _batches([len(piece.states_LH) for _, piece in pieces], READ_TOKENS):
            some = [pieces[place] for place in batch]
            shapes_WS = np.concatenate([words[number].shapes_WS[piece.words] for number, piece in some])
            with torch.inference_mode():
                read_WE = self(self.word_vectors([piece for _, piece in some]), torch.from_numpy(shapes_WS)).numpy()
            first = 0
            for number, piece in some:
                hidden[number][piece.words] = read_WE[first : first + piece.num_words]
                first += piece.num_words
        return hidden

    def forward(self, vectors_WH: Tensor, shapes_WS: Tensor) -> Tensor:
        """Return the hidden layer of words, shape (W, E)."""
        inputs_WF = torch.cat([(vectors_WH - self.mean_H) / self.length, shapes_WS], dim=1)
        return torch.relu(self.hidden(inputs_WF))

    def word_vectors(self, pieces: Sequence[WordPiece], dropout: "_Dropout | None" = None) -> Tensor:
        """Return the mean of the tokens of each word after the layers, shape (W, H)."""
        states_BLH = _padded([torch.from_numpy(piece.states_LH).float() for piece in pieces], 0.0)
        is_token_BL = _padded([torch.ones(len(piece.states_LH)) for piece in pieces], 0.0)
        firsts = np.cumsum([0, *(piece.num_words for piece in pieces)])
        words_BL = _padded(
            [
                torch.from_numpy(np.where(piece.word_of_token == NO_WORD, NO_WORD, piece.word_of_token + first))
                for piece, first in zip(pieces, firsts[:-1], strict=True)
            ],
            NO_WORD,
        )
        if dropout is not None:
            states_BLH = states_BLH * dropout.kept(TOKEN_DROPOUT, *is_token_BL.shape, 1)
        mask_B11L = (1 - is_token_BL[:, None, None, :]) * MASKED
        for layer in self.layers:
            states_BLH = layer(states_BLH, mask_B11L)
        own_BL = words_BL != NO_WORD
        num_words = int(firsts[-1])
        sums_WH = torch.zeros(num_words, self.shape.hidden_size).index_add(0, words_BL[own_BL], states_BLH[own_BL])
        counts_W = torch.bincount(words_BL[own_BL], minlength=num_words).clamp(min=1)
        return sums_WH / counts_W[:, None]


@dataclass(frozen=True)
class _Dropout:
    """Dropout from a generator of its own, so that work in other threads does not change a fit."""

    generator: torch.Generator

    def kept(self, share: float, *shape: int) -> Tensor:
        """Return 0 for a share of the places and 1 for the others."""
        return (torch.rand(*shape, generator=self.generator) >= share).float()

    def inside(self, layer: Any, share: float) -> None:
        """Let the two outputs of a layer lose a share of their values."""
        for part in (layer.attention.output, layer.output):
            part.dropout = _DropValues(self, share)


class _DropValues(nn.Module):
    def __init__(self, dropout: _Dropout, share: float) -> None:
        super().__init__()
        self._dropout, self._share = dropout, share

    def forward(self, values: Tensor) -> Tensor:
        return values * self._dropout.kept(self._share, *values.shape) / (1 - self._share)


def tune_layers(
    encoder: SentenceEncoder,
    shape: LayerShape,
    words: Sequence[WordVectors],
    tags: Sequence[Ints],
    *,
    num_tags: int,
    seed: int,
) -> TunedLayers:
    """Tune the last layers of an encoder to tag words; the encoder itself stays as it is.

    Args:
        encoder: its last layers are copied.
        shape: as `layer_shape` gives it.
        words: the words of texts, with what the layers below computed for their tokens.
        tags: tags of the words of each text.
        num_tags: number of tags.
        seed: the same seed gives the same weights on the same machine.
    """
    generator = torch.Generator().manual_seed(seed)
    dropout = _Dropout(generator)
    transformer: Any = encoder.transformer
    tuned, top = _initial_layers(transformer, shape, num_tags, generator)
    examples = [
        _Example(piece, each.shapes_WS[piece.words], tags_W[piece.words])
        for each, tags_W in zip(words, tags, strict=True)
        for piece in each.pieces
        if piece.num_words
    ]
    lengths = [len(example.piece.states_LH) for example in examples]
    _measure(tuned, [[examples[place].piece for place in batch] for batch in _batches(lengths, BATCH_TOKENS)])
    for layer in tuned.layers:
        dropout.inside(layer, transformer.config.hidden_dropout_prob)
    epochs = [
        list(_batches(lengths, BATCH_TOKENS, np.random.default_rng([seed, epoch]))) for epoch in range(NUM_EPOCHS)
    ]
    optimizer, schedule = _optimizer(tuned, top, num_steps=sum(map(len, epochs)))
    for batch in (batch for epoch in epochs for batch in epoch):
        loss = _loss(tuned, top, [examples[place] for place in batch], dropout)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return TunedLayers.of_tensors(shape, {name: value.copy() for name, value in tuned.tensors().items()})


@dataclass(frozen=True)
class _Example:
    """A piece of a text with the ways of writing and the tags of its words."""

    piece: WordPiece
    shapes_WS: Float32
    tags_W: Ints


def _initial_layers(
    transformer: Any, shape: LayerShape, num_tags: int, generator: torch.Generator
) -> tuple[TunedLayers, nn.Linear]:
    """Return copies of the encoder's last layers with a new hidden layer, and a new layer of tags."""
    tuned = TunedLayers(shape)
    for layer, original in zip(tuned.layers, transformer.encoder.layer[-shape.num_layers :], strict=True):
        layer.load_state_dict({name: value.float().cpu() for name, value in original.state_dict().items()})
    top = nn.Linear(NUM_HIDDEN, num_tags)
    for linear in (tuned.hidden, top):
        nn.init.uniform_(linear.weight, -(linear.in_features**-0.5), linear.in_features**-0.5, generator=generator)
        nn.init.zeros_(linear.bias)
    return tuned, top


def _optimizer(
    tuned: TunedLayers, top: nn.Linear, num_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW with one rate for the encoder's layers and one for the new ones, warm-up and linear decay."""
    groups = [
        {"params": list(tuned.layers.parameters()), "lr": LAYER_RATE},
        {"params": [*tuned.hidden.parameters(), *top.parameters()], "lr": HIDDEN_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / NUM_WARM_UP_STEPS) * (1 - step / max(num_steps, 1))
    )
    return optimizer, schedule


def _loss(tuned: TunedLayers, top: nn.Linear, examples: Sequence[_Example], dropout: _Dropout) -> Tensor:
    """Return the mean cross-entropy of the tags of a batch, under all kinds of dropout."""
    shapes_WS = torch.from_numpy(np.concatenate([example.shapes_WS for example in examples]))
    hidden_WE = tuned(
        tuned.word_vectors([example.piece for example in examples], dropout),
        shapes_WS * dropout.kept(SHAPE_DROPOUT, len(shapes_WS), 1),
    )
    kept_WE = dropout.kept(HIDDEN_DROPOUT, *hidden_WE.shape) / (1 - HIDDEN_DROPOUT)
    tags_W = torch.from_numpy(np.concatenate([example.tags_W for example in examples]))
    return nn.functional.cross_entropy(top(hidden_WE * kept_WE), tags_W)


def _measure(tuned: TunedLayers, batches: Sequence[Sequence[WordPiece]]) -> None:
    """Set mean and mean length of the words' vectors, from some of the batches, before the layers learn."""
    with torch.no_grad():
        vectors_WH = torch.cat([tuned.word_vectors(batch) for batch in batches[::40]])
        tuned.mean_H.copy_(vectors_WH.mean(0))
        tuned.length.copy_((vectors_WH - tuned.mean_H).norm(dim=1).mean().clamp(min=1e-6))


def _batches(lengths: Sequence[int], num_tokens: int, rng: np.random.Generator | None = None) -> Iterator[list[int]]:
    """Yield batches of places with like lengths; with `rng`, in chance order, and mixed in each epoch in another way."""
    keys = np.array(lengths, np.float64)
    if rng is not None:
        keys += 3 * rng.random(len(keys))
    order = np.argsort(keys, kind="stable").tolist()
    cuts = list(pairwise(token_cuts([lengths[place] for place in order], num_tokens)))
    for number in range(len(cuts)) if rng is None else rng.permutation(len(cuts)):
        first, end = cuts[number]
        yield order[first:end]


def _padded(rows: Sequence[Tensor], value: float) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
