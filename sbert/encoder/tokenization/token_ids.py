"""Token ids of a block of texts, as arrays.

The ids of all texts are one array of values and one array of offsets, like a list column of Arrow. So truncating, cutting
into windows, sorting and padding are array operations, without a loop over texts.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from tokenizers import Tokenizer, normalizers

from sbert.encoder.tokenization.process_pool import TokenizerPool
from sbert.encoder.tokenization.window_settings import WindowSettings
from sbert.errors import SettingsError

__all__ = [
    "TokenizedTexts",
    "check_max_seq_length",
    "count_prompt_tokens",
    "gather_ranges",
    "plain_tokenizer",
    "special_token_counts",
    "tokenize_block",
]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenizedTexts:
    """Token sequences of N texts. There are S sequences: more than N if long texts were cut into windows."""

    input_ids: npt.NDArray[np.int32]
    """The ids of all sequences, one sequence after the other, special tokens included."""
    offsets: Ints
    """Begin and end of each sequence, shape (S + 1,)."""
    text_index: Ints
    """The text that each sequence belongs to, ascending, shape (S,)."""
    num_tokens: npt.NDArray[np.int32]
    """Tokens of each text before truncation, special tokens included, shape (N,)."""
    truncated: npt.NDArray[np.bool_]
    """True where tokens of the text were dropped, shape (N,)."""
    num_prompt_tokens: int = 0
    """Tokens at the beginning of every sequence that belong to the prompt, the leading special token included."""

    def __len__(self) -> int:
        return len(self.num_tokens)

    @property
    def lengths(self) -> Ints:
        """Tokens of each sequence, shape (S,)."""
        lengths: Ints = np.diff(self.offsets)
        return lengths

    def to_frame(self) -> pl.DataFrame:
        """Return the sequences as a frame: the number of the text, and the ids as a list column."""
        ids = pa.LargeListArray.from_arrays(pa.array(self.offsets), pa.array(self.input_ids))
        frame = pl.from_arrow(pa.table({"text": self.text_index, "input_ids": ids}))
        assert isinstance(frame, pl.DataFrame)
        return frame


def gather_ranges(begins: Ints, lengths: Ints) -> Ints:
    """Return the numbers begin, begin + 1, … of every range, one range after the other.

    >>> gather_ranges(np.array([5, 20]), np.array([3, 2])).tolist()
    [5, 6, 7, 20, 21]
    """
    total = int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    places: Ints = np.arange(total, dtype=np.int64) + np.repeat(begins - starts, lengths)
    return places


def tokenize_block(
    pool: TokenizerPool,
    texts: list[str],
    *,
    max_seq_length: int,
    prompt: str = "",
    windows: WindowSettings | None = None,
) -> TokenizedTexts:
    """Tokenize a block of texts.

    Args:
        pool: tokenizes with the model's tokenizer, without truncation and padding.
        texts: N texts.
        max_seq_length: most tokens of a sequence, special tokens included.
        prompt: put before every text.
        windows: cut longer texts into overlapping windows; None truncates them.

    Raises:
        SettingsError: when the prompt and the stride of the windows leave no room for the text.
    """
    values, lengths = pool.token_ids([prompt + text for text in texts] if prompt else texts)
    tokenizer = pool.tokenizer
    num_prefix, num_suffix = special_token_counts(tokenizer)
    num_prompt = count_prompt_tokens(tokenizer, prompt)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    num_tokens = lengths.astype(np.int32)
    too_long = lengths > max_seq_length
    if not too_long.any():
        index = np.arange(len(texts), dtype=np.int64)
        return TokenizedTexts(values, offsets, index, num_tokens, too_long, num_prompt)
    if windows is None:
        return _truncate(values, offsets, num_tokens, max_seq_length, num_suffix, num_prompt)
    return _window(values, offsets, num_tokens, max_seq_length, (num_prefix, num_suffix, num_prompt), windows.stride)


def check_max_seq_length(tokenizer: Any, max_seq_length: int) -> None:
    """Raise SettingsError when `max_seq_length` leaves no room for a token between the special ones."""
    shortest = sum(special_token_counts(tokenizer)) + 1
    if max_seq_length < shortest:
        raise SettingsError(f"max_seq_length is {max_seq_length}, the model needs at least {shortest} tokens")


def special_token_counts(tokenizer: Any) -> tuple[int, int]:
    """Return the numbers of special tokens that the tokenizer puts before and after a text."""
    probe = tokenizer.encode("a")
    mask = np.array(probe.special_tokens_mask, dtype=np.bool_)
    if mask.all():
        return int(mask.size), 0
    first = int(np.argmin(mask))
    return first, int(mask.size - first - (~mask).sum())


def plain_tokenizer(tokenizer: Any, *, do_lower_case: bool) -> Tokenizer:
    """Return a copy of a fast tokenizer's backend that neither truncates nor pads.

    With `do_lower_case` it lower-cases texts first, as sentence-transformers does. It keeps the names of special tokens.
    """
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    return _with_lower_case(plain) if do_lower_case else plain


def _with_lower_case(tokenizer: Tokenizer) -> Tokenizer:
    normalizer = tokenizer.normalizer
    steps = (
        list(cast("Any", normalizer))
        if isinstance(normalizer, normalizers.Sequence)
        else [normalizer]
        if normalizer
        else []
    )
    if not any(isinstance(each, normalizers.Lowercase) for each in steps):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
    return tokenizer


def count_prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """Return the number of tokens that a prompt puts at the beginning of a text, the leading special token included."""
    return len(tokenizer.encode(prompt).ids) - special_token_counts(tokenizer)[1] if prompt else 0


def _truncate(
    values: npt.NDArray[np.int32],
    offsets: Ints,
    num_tokens: npt.NDArray[np.int32],
    limit: int,
    num_suffix: int,
    num_prompt: int,
) -> TokenizedTexts:
    """Keep the first tokens of each text, and the special tokens at its end."""
    lengths = np.diff(offsets)
    truncated = lengths > limit
    kept = np.minimum(lengths, limit)
    source = gather_ranges(offsets[:-1], kept)
    new_offsets = np.concatenate([[0], np.cumsum(kept)])
    for place in range(1, num_suffix + 1):
        source[new_offsets[1:] - place] = offsets[1:] - place
    index = np.arange(len(lengths), dtype=np.int64)
    return TokenizedTexts(values[source], new_offsets, index, num_tokens, truncated, num_prompt)


def _window(
    values: npt.NDArray[np.int32],
    offsets: Ints,
    num_tokens: npt.NDArray[np.int32],
    limit: int,
    specials: tuple[int, int, int],
    stride: int,
) -> TokenizedTexts:
    """Cut the tokens between the special tokens into windows that overlap by `stride`. Each window repeats the prompt."""
    num_prefix, num_suffix, num_prompt = specials
    head = max(num_prefix, num_prompt)
    room = limit - head - num_suffix
    step = room - stride
    if step < 1:
        raise SettingsError(
            f"windows of {limit} tokens with {head + num_suffix} special or prompt tokens and a stride of {stride} leave "
            f"{step} new tokens for each window: choose a smaller stride or a larger max_seq_length"
        )
    lengths = np.diff(offsets)
    body = lengths - head - num_suffix
    num_windows = np.where(lengths > limit, 1 + -(-(body - room) // step), 1)
    index = np.repeat(np.arange(len(lengths)), num_windows)
    number = gather_ranges(np.zeros(len(lengths), dtype=np.int64), num_windows)
    begin = number * step
    size = np.where(num_windows[index] > 1, np.minimum(room, body[index] - begin), body[index])
    total = size + head + num_suffix
    new_offsets = np.concatenate([[0], np.cumsum(total)])
    # A window is the head of its text, its own part of the body, and the tail of its text. The last two are shifted.
    source = gather_ranges(offsets[:-1][index], total)
    place = gather_ranges(np.zeros(len(total), dtype=np.int64), total)
    owner = np.repeat(np.arange(len(total)), total)
    in_body = (place >= head) & (place < head + size[owner])
    in_tail = place >= head + size[owner]
    source[in_body] += begin[owner[in_body]]
    source[in_tail] += (lengths[index] - total)[owner[in_tail]]
    no_loss = np.zeros(len(lengths), dtype=np.bool_)
    return TokenizedTexts(values[source], new_offsets, index, num_tokens, no_loss, num_prompt)
