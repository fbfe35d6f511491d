"""The tokens of a text with their places in it and their vectors: for work on words and spans inside a text.

>>> reader = TokenReader(SentenceEncoder.from_pretrained(compute_dtype=ComputeDtype.FLOAT32))  # doctest: +SKIP
>>> tokens = reader.read(["Zoe Bell lives in Malta."])[0]  # doctest: +SKIP
>>> tokens.vectors_LH.shape, tokens.words  # doctest: +SKIP

The tokens are those that `SentenceEncoder.encode` pools, truncation included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.token_ids import count_prompt_tokens, plain_tokenizer, special_token_counts
from sbert.errors import ModelError

__all__ = ["NO_WORD", "TokenReader", "TokenVectors", "TokenizedText", "token_cuts"]

NO_WORD = -1
"""The word of a token that belongs to none: a special token, or a token of the prompt."""

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenizedText:
    """The L tokens of a text."""

    input_ids: Ints
    """Shape (L,), special tokens and those of the prompt included."""
    word_of_token: Ints
    """The word of each token, ascending from 0, or `NO_WORD`; shape (L,)."""
    words: tuple[tuple[int, int], ...]
    """Begin and end of each word in the text, in characters. A word is what the tokenizer cuts apart first."""
    num_prompt_tokens: int
    """Tokens at the beginning that belong to the prompt, the leading special token included; 0 without a prompt."""
    is_truncated: bool
    """Whether words at the end are missing."""


@dataclass(frozen=True)
class TokenVectors(TokenizedText):
    """The tokens of a text with their vectors."""

    vectors_LH: Float32
    """Shape (L, H)."""
    states_LH: Float16
    """What the last layers read, shape (L, H); (L, 0) where nobody asked for it."""


class TokenReader:
    """Reads the tokens of texts by an encoder that was loaded in full."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        """Prepare the encoder's tokenizer.

        Raises:
            ModelError: the encoder was loaded for sentence vectors alone.
        """
        if not hasattr(encoder.transformer, "get_input_embeddings"):
            raise ModelError(
                f"{encoder.model_id}: it was loaded for vectors of texts alone: load it by SentenceEncoder.from_pretrained"
            )
        self.encoder = encoder
        self._tokenizer = plain_tokenizer(encoder.hf_tokenizer, do_lower_case=encoder.do_lower_case)
        self._num_suffix = special_token_counts(self._tokenizer)[1]

    def tokenize(self, text: str, *, prompt: str = "") -> TokenizedText:
        """Return the tokens of a text after a prompt."""
        encoding = self._tokenizer.encode(prompt + text)
        limit, num = self.encoder.max_seq_length, len(encoding.ids)
        places = list(range(num))
        if num > limit:
            places = [*range(limit - self._num_suffix), *range(num - self._num_suffix, num)]
        spans: list[tuple[int, int]] = []
        word_of_token: list[int] = []
        number_before: int | None = None
        for place in places:
            number, (begin, end) = encoding.word_ids[place], encoding.offsets[place]
            begin, end = begin - len(prompt), end - len(prompt)
            if number is None or end <= max(0, begin):
                word_of_token.append(NO_WORD)
                continue
            if number == number_before:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((max(0, begin), end))
            number_before = number
            word_of_token.append(len(spans) - 1)
        return TokenizedText(
            input_ids=np.array([encoding.ids[place] for place in places], np.int64),
            word_of_token=np.array(word_of_token, np.int64),
            words=tuple(spans),
            num_prompt_tokens=count_prompt_tokens(self._tokenizer, prompt),
            is_truncated=num > limit,
        )

    def read(
        self,
        texts: Sequence[str],
        *,
        prompt: str = "",
        num_layers: int = 1,
        num_open_layers: int = 0,
        token_budget: int = 4_096,
    ) -> list[TokenVectors]:
        """Return the tokens of texts with their vectors.

        Args:
            texts: N texts.
            prompt: put before every text.
            num_layers: layers at the end of the transformer over which the vectors are averaged.
            num_open_layers: the input of that many layers at the end is returned too, at most of all; 0 for none.
            token_budget: padded tokens of a batch.
        """
        tokens = [self.tokenize(text, prompt=prompt) for text in texts]
        lengths = [len(each.input_ids) for each in tokens]
        order = sorted(range(len(tokens)), key=lambda number: lengths[number])
        vectors: dict[int, Float32] = {}
        states: dict[int, Float16] = {}
        for first, end in pairwise(token_cuts([lengths[number] for number in order], token_budget)):
            batch = order[first:end]
            rows = [tokens[number].input_ids for number in batch]
            hidden_BLH, states_BLH = self._hidden(rows, num_layers, num_open_layers)
            for number, hidden_LH, state_LH in zip(batch, hidden_BLH, states_BLH, strict=True):
                vectors[number] = hidden_LH[: lengths[number]].astype(np.float32)
                states[number] = state_LH[: lengths[number]].astype(np.float16)
        return [
            TokenVectors(**vars(each), vectors_LH=vectors[number], states_LH=states[number])
            for number, each in enumerate(tokens)
        ]

    def _hidden(self, rows: Sequence[Ints], num_layers: int, num_open_layers: int) -> tuple[Float32, Float32]:
        """Return the mean over the last layers of the padded rows, and the input of the open layers, shape (B, L, H)."""
        length = max(map(len, rows))
        ids_BL = torch.full((len(rows), length), int(self.encoder.hf_tokenizer.pad_token_id or 0))
        mask_BL = torch.zeros_like(ids_BL)
        for number, row in enumerate(rows):
            ids_BL[number, : len(row)] = torch.from_numpy(row)
            mask_BL[number, : len(row)] = 1
        device = self.encoder.device
        with torch.inference_mode():
            output = self.encoder.transformer(
                input_ids=ids_BL.to(device),
                attention_mask=mask_BL.to(device),
                output_hidden_states=num_layers > 1 or num_open_layers > 0,
            )
            if num_layers == 1:
                hidden_BLH = output.last_hidden_state.float()
            else:
                hidden_BLH = torch.stack(output.hidden_states[-num_layers:]).float().mean(0)
            states_BLH = hidden_BLH[..., :0]
            if num_open_layers:
                states_BLH = output.hidden_states[-min(1 + num_open_layers, len(output.hidden_states))].float()
        return hidden_BLH.cpu().numpy(), states_BLH.cpu().numpy()


def token_cuts(lengths: Sequence[int], token_budget: int) -> list[int]:
    """Return the places where texts in ascending order of length are cut into batches, 0 and the end included."""
    cuts = [0]
    for number, length in enumerate(lengths):
        if number > cuts[-1] and (number + 1 - cuts[-1]) * length > token_budget:
            cuts.append(number)
    return [*cuts, len(lengths)] if lengths else []
