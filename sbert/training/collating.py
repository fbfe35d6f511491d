"""Make tensors of rows: collect token ids, sort them by length, and pad within parts of similar length.

Legend of shapes: B rows of a batch, C columns of texts, S = B x C sequences, L tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sbert.encoder.engine.batching import cut_batches, pad_batch
from sbert.training.batches import BatchPlan
from sbert.training.training_data import TrainingData

__all__ = ["Collator", "WordDeletion"]

Ints = npt.NDArray[np.int64]


class WordDeletion:
    """Delete words from token sequences at random (Wang et al. 2021, TSDAE, section 3). At least one word stays."""

    def __init__(self, tokenizer: Any, ratio: float, seed: int) -> None:
        """Find in the vocabulary which tokens begin a word and which are special."""
        self._ratio, self._seed = ratio, seed
        vocabulary = tokenizer.get_vocab()
        size = max(vocabulary.values()) + 1
        spaced = any(token.startswith(("▁", "Ġ")) for token in vocabulary)
        self._begins: npt.NDArray[np.bool_] = np.ones(size, dtype=np.bool_)
        for token, number in vocabulary.items():
            self._begins[number] = token.startswith(("▁", "Ġ")) if spaced else not token.startswith("##")
        self._special: npt.NDArray[np.bool_] = np.zeros(size, dtype=np.bool_)
        self._special[np.array(tokenizer.all_special_ids)] = True

    def __call__(self, ids: npt.NDArray[np.int32], epoch: int, text: int) -> npt.NDArray[np.int32]:
        """Return the tokens that are left of one sequence. They are the same for the same text in the same epoch."""
        rng = np.random.default_rng([self._seed, epoch, text])
        special = self._special[ids]
        words: Ints = np.cumsum(self._begins[ids] | special, dtype=np.int64)
        words -= words[0]
        kept = rng.random(words[-1] + 1) > self._ratio
        candidates = np.unique(words[~special])
        if len(candidates) and not kept[candidates].any():
            kept[rng.choice(candidates)] = True
        left: npt.NDArray[np.int32] = ids[kept[words] | special]
        return left


class Collator:
    """Make the tensors of one batch of rows, and count the tokens."""

    def __init__(
        self,
        data: TrainingData,
        plan: BatchPlan,
        pad_id: int,
        *,
        token_budget: int,
        max_texts: int | None = None,
        deletion: WordDeletion | None = None,
        rehearse: Callable[[Sequence[int], int], dict[str, Any]] | None = None,
    ) -> None:
        """Name the rows and the size of a part.

        Args:
            data: all rows.
            plan: knows the epoch, which decides the words deleted.
            pad_id: the padding token's id.
            token_budget: padded tokens of one part of the batch.
            max_texts: most texts of one part.
            deletion: TSDAE's; the whole texts then become the targets.
            rehearse: returns the tensors of made rows, given the rows of a batch and the number of its texts.
        """
        self._data, self._plan, self._pad_id = data, plan, pad_id
        self._token_budget, self._max_texts = token_budget, max_texts
        self._deletion, self._rehearse = deletion, rehearse
        self.num_tokens = 0
        self.num_rows = 0

    def __call__(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the arguments of `TrainingModule.forward` for B rows."""
        data = self._data
        rows_B = np.asarray(rows, dtype=np.int64)
        texts_S = data.text_ids_NC[rows_B].T.reshape(-1)  # column after column
        num_prompt_S = data.num_prompt_tokens_T[texts_S]
        values, offsets = data.tokens.input_ids, data.tokens.offsets
        batch: dict[str, Any] = {"num_columns": data.num_columns}
        if self._deletion is not None:
            whole, _ = pad_batch(values, offsets, texts_S, self._pad_id)
            batch["labels"] = torch.from_numpy(whole)
            left = [self._delete_words(text) for text in texts_S.tolist()]
            values, offsets = np.concatenate(left), np.concatenate([[0], np.cumsum([len(ids) for ids in left])])
            texts_S = np.arange(len(left))
        elif data.labels_N is not None:
            batch["labels"] = torch.from_numpy(data.labels_N[rows_B])
        elif data.known_pairs is not None:
            batch["labels"] = torch.from_numpy(data.content_ids_NC[rows_B])
        if data.teacher_TD is not None:
            teachers = data.teacher_TD[data.text_ids_NC[rows_B].T]
            batch["teachers"] = torch.from_numpy(teachers)
        lengths_S = offsets[texts_S + 1] - offsets[texts_S]
        parts = self._parts(lengths_S)
        padded = [pad_batch(values, offsets, texts_S[part], self._pad_id) for part in parts]
        batch["input_ids"] = [torch.from_numpy(ids) for ids, _ in padded]
        batch["attention_mask"] = [None if mask is None else torch.from_numpy(mask) for _, mask in padded]
        if data.num_prompt_tokens_T.any():
            batch["num_prompt_tokens"] = [torch.from_numpy(num_prompt_S[part]) for part in parts]
        batch["places"] = torch.from_numpy(np.argsort(np.concatenate(parts)))
        if self._rehearse is not None:
            batch["rehearsal"] = self._rehearse(list(rows), len(texts_S))
        self.num_tokens += int(lengths_S.sum())
        self.num_rows += len(rows_B)
        return batch

    def _delete_words(self, text: int) -> npt.NDArray[np.int32]:
        """Return the token ids of one text without some of its words; its prompt stays whole."""
        assert self._deletion is not None
        tokens, num_prompt = self._data.tokens, int(self._data.num_prompt_tokens_T[text])
        ids = tokens.input_ids[tokens.offsets[text] : tokens.offsets[text + 1]]
        return np.concatenate([ids[:num_prompt], self._deletion(ids[num_prompt:], self._plan.epoch, text)])

    def _parts(self, lengths_S: Ints) -> list[Ints]:
        # As few parts as possible: each part is a forward and a backward pass of its own.
        parts = list(cut_batches(lengths_S, self._token_budget, smallest_tokens=self._token_budget))
        if self._max_texts is None:
            return parts
        size = self._max_texts
        return [part[first : first + size] for part in parts for first in range(0, len(part), size)]
