"""A process that tokenizes for another process: it reads a tokenizer, then texts, and answers with arrays of ids.

`sbert.encoder.tokenization.process_pool` starts it. When the other process ends, for whatever reason, the input of this one
ends, and then this process ends too.
"""

import os
import pickle
import signal
import sys
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tokenizers

__all__ = ["TokenIds", "token_ids"]

TokenIds = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""The ids of all texts, one text after the other, and the number of ids of each text."""

TEXTS_AT_ONCE = 1_024
"""The tokenizer keeps a string and six numbers for each token of the texts that it gets at once: 120 bytes a token."""


def token_ids(tokenizer: Any, texts: list[str]) -> TokenIds:
    """Return the ids of N texts from a Rust tokenizer (``tokenizers.Tokenizer``), special tokens included."""
    if len(texts) <= TEXTS_AT_ONCE:
        return _token_ids(tokenizer, texts)
    parts = [_token_ids(tokenizer, texts[at : at + TEXTS_AT_ONCE]) for at in range(0, len(texts), TEXTS_AT_ONCE)]
    values, lengths = zip(*parts, strict=True)
    return np.concatenate(values), np.concatenate(lengths)


def _token_ids(tokenizer: Any, texts: list[str]) -> TokenIds:
    encodings = tokenizer.encode_batch_fast(texts)
    # The tokenizer returns ids only as one Python list for each text. This is the only loop over them.
    id_lists = [encoding.ids for encoding in encodings]
    lengths = np.fromiter(map(len, id_lists), dtype=np.int64, count=len(id_lists))
    return np.fromiter(chain.from_iterable(id_lists), dtype=np.int32, count=int(lengths.sum())), lengths


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer each block of texts until the input ends."""
    try:
        tokenizer = tokenizers.Tokenizer.from_str(pickle.load(questions))  # noqa: S301  (from the process that started it)
        while True:
            texts = pickle.load(questions)  # noqa: S301
            pickle.dump(token_ids(tokenizer, texts), answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):
        return


def main() -> None:
    """Answer the texts on standard input, on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the process that sends texts
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output that a library prints must not be read as an answer
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
