"""Token ids of texts as arrays, made by processes where one thread of Python would be what an accelerator waits for.

The one idea: the Rust tokenizer hands ids out as Python lists, and walking them needs Python's lock. A process of its own
walks its share of the texts and sends back two arrays, which cost the process that feeds the accelerator next to nothing.
"""

import logging
import math
import os
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tokenizers

from sbert.cpus import available_cpus
from sbert.errors import SettingsError

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

__all__ = ["PROCESSES_VARIABLE", "TokenizerPool", "num_tokenizer_processes", "token_ids"]

log = logging.getLogger(__name__)

TokenIds = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""Ids of all texts, one text after the other, and the number of ids of each text."""

PROCESSES_VARIABLE = "SBERT_TOKENIZER_PROCESSES"
"""Environment variable: how many processes tokenize; 0 for none, then threads of the tokenizer do."""
MAX_PROCESSES = 16
FEWEST_TEXTS = 4_096
"""Fewer texts are tokenized where they are: starting processes takes a second."""
SMALLEST_SHARE = 512
"""Fewest texts that a process gets at once."""
IDLE_SECONDS = 60
"""Processes without work end after this time, and start again with the next work."""


def token_ids(tokenizer: Any, texts: list[str]) -> TokenIds:
    """Give the ids of N texts with a Rust tokenizer (``tokenizers.Tokenizer``), special tokens included."""
    encodings = tokenizer.encode_batch_fast(texts)
    # The tokenizer hands out ids as one Python list a text and in no other way: this is the one place that walks them.
    id_lists = [encoding.ids for encoding in encodings]
    lengths = np.fromiter(map(len, id_lists), dtype=np.int64, count=len(id_lists))
    return np.fromiter(chain.from_iterable(id_lists), dtype=np.int32, count=int(lengths.sum())), lengths


def num_tokenizer_processes(device_type: str) -> int:
    """Give how many processes tokenize for a device: one a processor for an accelerator, none for a CPU.

    A CPU is busy with computing; there the tokenizer's threads take what time is left.

    Raises:
        SettingsError: when the environment says something that is no number.
    """
    wanted = os.environ.get(PROCESSES_VARIABLE, "")
    if wanted:
        if not wanted.isdecimal():
            raise SettingsError(f"{PROCESSES_VARIABLE} is {wanted!r}, expected a number of processes, 0 for none")
        return int(wanted)
    num = min(available_cpus(), MAX_PROCESSES)
    return 0 if device_type == "cpu" or num == 1 else num


class TokenizerPool:
    """Tokenizes with so many processes; without them when there are none, few texts, or one of them died."""

    def __init__(self, tokenizer: Any, num_processes: int) -> None:
        """Take a tokenizer without truncation and padding; processes start with the first large block."""
        self.tokenizer = tokenizer
        """The tokenizer of this process."""
        self._num = num_processes
        self._executor: ProcessPoolExecutor | None = None

    def token_ids(self, texts: list[str]) -> TokenIds:
        """Give the ids of N texts, in order."""
        if not self._num or len(texts) < FEWEST_TEXTS:
            return token_ids(self.tokenizer, texts)
        # Its processes start in scripts without a main guard too; imported here, since a CPU has no use for it.
        from joblib.externals.loky import ProcessPoolExecutor
        from joblib.externals.loky.process_executor import BrokenProcessPool

        size = max(SMALLEST_SHARE, math.ceil(len(texts) / self._num))
        shares = [texts[first : first + size] for first in range(0, len(texts), size)]
        try:
            if self._executor is None:
                self._executor = ProcessPoolExecutor(
                    self._num,
                    timeout=IDLE_SECONDS,
                    initializer=_start,
                    initargs=(self.tokenizer.to_str(),),
                    env={"TOKENIZERS_PARALLELISM": "false"},
                )
            parts = list(self._executor.map(_ids_of_share, shares))
        except (BrokenProcessPool, OSError) as error:
            log.warning("tokenizing goes on without processes of its own: %s", str(error).splitlines()[0])
            self._num, self._executor = 0, None
            return token_ids(self.tokenizer, texts)
        values, lengths = zip(*parts, strict=True)
        return np.concatenate(values), np.concatenate(lengths)


_tokenizers: list[Any] = []
"""In a process of a pool: its tokenizer."""


def _start(definition: str) -> None:
    """Prepare a process."""
    _tokenizers[:] = [tokenizers.Tokenizer.from_str(definition)]


def _ids_of_share(texts: list[str]) -> TokenIds:
    return token_ids(_tokenizers[0], texts)
