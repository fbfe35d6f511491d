"""Divide the vector of a text among its words: the shares of all words and of the rest add up to the unit vector.

Two ways give such shares. Their products then are the parts of the cosine: if a = sum of a_i and b = sum of b_j, then
a · b is the sum of all a_i · b_j.

- `last_layer_shares`: a pooled vector is a weighted sum of token vectors, so each token has its own summand. The rest is
  that of the special tokens and of the prompt. The sum is exact.
- `integrated_shares`: the words are replaced by mask tokens, and the way back to the words is followed in a straight line
  through the space of word embeddings. The share of a word is the integral of the change of the vector in the direction of
  this word (Sundararajan et al. 2017, equation 1; for pairs of texts Moeller et al. 2023, section 3). The rest is the
  vector of the text of masks. The sum is exact but for the numeric integration, whose error is measured.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from sbert.encoder.modules import Normalize, Truncate
from sbert.encoder.pooling import PoolingMode
from sbert.encoder.token_vectors import NO_WORD, TokenizedText, TokenReader, TokenVectors
from sbert.errors import ModelError

__all__ = ["WordShares", "integrated_shares", "last_layer_shares"]

WEIGHTED_SUMS = frozenset(
    {PoolingMode.MEAN, PoolingMode.MEAN_SQRT_LEN, PoolingMode.WEIGHTED_MEAN, PoolingMode.CLS, PoolingMode.LAST}
)
"""Poolings in which the weights of the tokens do not depend on their vectors."""
MAX_STEPS = 512
TOKENS_PER_BATCH = 4_096

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WordShares:
    """The unit vector of a text as a sum."""

    text: str
    words: tuple[tuple[int, int], ...]
    """Begin and end of W words in the text, in characters."""
    shares_WD: Float64
    """The share of each word, then that of the rest; shape (W + 1, dim)."""
    vector_D: Float64
    """The unit vector of the text."""
    is_truncated: bool

    @property
    def error(self) -> float:
        """Return the distance between the sum of the shares and the vector, which has length 1."""
        return float(np.linalg.norm(self.shares_WD.sum(0) - self.vector_D))


def last_layer_shares(reader: TokenReader, texts: Sequence[str], *, prompt: str = "") -> list[WordShares]:
    """Return the share of each word of texts by the token vectors of the last layer; texts are read in batches.

    Raises:
        ModelError: the encoder's vector is not a weighted sum of its token vectors.
    """
    encoder = reader.encoder
    layers = list(encoder.layers)
    modes = encoder.pooling.modes
    if (
        len(modes) > 1
        or modes[0] not in WEIGHTED_SUMS
        or not all(isinstance(each, Normalize | Truncate) for each in layers)
    ):
        raise ModelError(
            f"{encoder.model_id or 'this encoder'}: its vectors are not weighted sums of token vectors (pooling "
            f"{encoder.pooling_name}, {len(layers)} layers after it): explain by the method through-layers"
        )
    read = reader.read(texts, prompt=prompt)
    return [_pooled_shares(reader, text, tokens) for text, tokens in zip(texts, read, strict=True)]


def _pooled_shares(reader: TokenReader, text: str, tokens: TokenVectors) -> WordShares:
    weights_L = _pooling_weights(reader, tokens)
    shares_LD = weights_L[:, None] * tokens.vectors_LH.astype(np.float64)
    for layer in reader.encoder.layers:
        if isinstance(layer, Truncate):
            shares_LD = shares_LD[:, : layer.dimension]
    vector_D = shares_LD.sum(0)
    length = max(float(np.linalg.norm(vector_D)), 1e-12)  # a text whose vector is zero has shares of zero
    return _gathered(text, tokens, shares_LD / length, np.zeros(shares_LD.shape[1]), vector_D / length)


def _pooling_weights(reader: TokenReader, tokens: TokenizedText) -> Float64:
    """Return the weight that the pooling gives to each token, shape (L,): pool the unit vectors."""
    pooling = reader.encoder.pooling
    num = len(tokens.input_ids)
    owner_L = torch.zeros(num, dtype=torch.long)
    if not pooling.include_prompt:
        owner_L[: tokens.num_prompt_tokens] = 1
    pooled_L = pooling.pool_tokens(torch.eye(num), owner_L, torch.arange(num), 1)[0]
    return pooled_L.double().numpy()


def integrated_shares(
    reader: TokenReader, text: str, *, prompt: str = "", steps: int = 16, max_error: float = 0.05
) -> WordShares:
    """Return the share of each word by integrated gradients through all layers.

    Args:
        reader: the encoder, in float32.
        text: the text.
        prompt: put before the text; it stays in the text of masks.
        steps: nodes of the Gauss-Legendre quadrature at first. They are doubled until the shares add up.
        max_error: largest distance between the sum of the shares and the unit vector.

    Raises:
        ModelError: the shares do not add up with 512 nodes.
    """
    tokens = reader.tokenize(text, prompt=prompt)
    path = _Path(reader, tokens)
    while path.error(steps) > max_error:  # one direction alone costs little
        steps *= 2
        if steps > MAX_STEPS:
            raise ModelError(
                f"the shares of the words differ from the vector by {path.error(MAX_STEPS):.3f}, but {max_error} is "
                "allowed: set max_error higher, or explain by the method last-layer"
            )
    return _gathered(text, tokens, path.shares(steps), path.masked_D, path.vector_D)


class _Path:
    """The straight line from the text of masks to the text."""

    def __init__(self, reader: TokenReader, tokens: TokenizedText) -> None:
        encoder = reader.encoder
        self._encoder = encoder
        self._num_prompt = tokens.num_prompt_tokens
        embeddings = encoder.transformer.get_input_embeddings()  # type: ignore[operator]
        ids_L = torch.from_numpy(tokens.input_ids).to(encoder.device)
        self._own_L = torch.from_numpy(np.flatnonzero(tokens.word_of_token != NO_WORD))
        tokenizer = encoder.hf_tokenizer
        neutral = next(
            (
                each
                for each in (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
                if each is not None
            ),
            0,
        )
        masked_L = ids_L.clone()
        masked_L[self._own_L] = neutral
        with torch.no_grad():
            self._begin_LH, self._end_LH = embeddings(masked_L), embeddings(ids_L)
            self.vector_D = self._vectors(self._end_LH[None])[0].double().cpu().numpy()
            self.masked_D = self._vectors(self._begin_LH[None])[0].double().cpu().numpy()

    def _vectors(self, embedded_BLH: Tensor) -> Tensor:
        """Return the unit vectors of embedded tokens, shape (B, dim)."""
        encoder = self._encoder
        mask_BL = torch.ones(embedded_BLH.shape[:2], dtype=torch.long, device=embedded_BLH.device)
        hidden_BLH = encoder.transformer(inputs_embeds=embedded_BLH, attention_mask=mask_BL).last_hidden_state
        pooled_BL = mask_BL.clone()
        if not encoder.pooling.include_prompt:
            pooled_BL[:, : self._num_prompt] = 0
        vectors_BD = encoder.pooling(hidden_BLH, pooled_BL)
        for layer in encoder.layers:
            vectors_BD = layer(vectors_BD)
        return torch.nn.functional.normalize(vectors_BD, dim=1)

    def error(self, steps: int) -> float:
        """Return by how much the integral over all words at once misses the vector."""
        change_LH = (self._end_LH - self._begin_LH)[None]
        found_D = self._integrate(change_LH, steps)[0]
        return float(np.linalg.norm(found_D - (self.vector_D - self.masked_D)))

    def shares(self, steps: int) -> Float64:
        """Return the share of each token, shape (L, dim); special tokens have none."""
        num = len(self._own_L)
        shares_LD = np.zeros((len(self._end_LH), len(self.vector_D)))
        at_once = max(1, TOKENS_PER_BATCH // len(self._end_LH))
        for first in range(0, num, at_once):
            own = self._own_L[first : first + at_once]
            change_BLH = self._end_LH.new_zeros(len(own), *self._end_LH.shape)
            change_BLH[torch.arange(len(own)), own] = (self._end_LH - self._begin_LH)[own]
            shares_LD[own.numpy()] = self._integrate(change_BLH, steps)
        return shares_LD

    def _integrate(self, change_BLH: Tensor, steps: int) -> Float64:
        """Return the integral of the vector's change along the path in B directions, shape (B, dim)."""
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        total_BD = np.zeros((len(change_BLH), len(self.vector_D)))
        # Only the plain way of computing attention knows derivatives in forward mode.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch compiles its rules of derivatives by torch.jit
            for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
                point_LH = self._begin_LH + float(node) * (self._end_LH - self._begin_LH)
                total_BD += weight * _derivative(self._vectors, point_LH.expand_as(change_BLH).contiguous(), change_BLH)
        return total_BD


def _derivative(function: Callable[[Tensor], Tensor], point: Tensor, direction: Tensor) -> Float64:
    """Return the derivative of a function at a point in a direction (forward mode)."""
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(point, direction)  # type: ignore[no-untyped-call]
        tangent = forward_ad.unpack_dual(function(dual)).tangent  # type: ignore[no-untyped-call]
        assert isinstance(tangent, Tensor)
        derivative: Float64 = tangent.double().cpu().numpy()
    return derivative


def _gathered(text: str, tokens: TokenizedText, shares_LD: Float64, rest_D: Float64, vector_D: Float64) -> WordShares:
    """Add up the shares of each word's tokens; tokens of no word join the rest."""
    num = len(tokens.words)
    shares_WD = np.zeros((num + 1, shares_LD.shape[1]))
    np.add.at(shares_WD, np.where(tokens.word_of_token == NO_WORD, num, tokens.word_of_token), shares_LD)
    shares_WD[num] += rest_D
    return WordShares(text, tokens.words, shares_WD, vector_D, tokens.is_truncated)
