"""Choose the rows of each batch.

Only the seed and the number of the epoch decide the batches. So a resumed run continues with the same batch that the
killed run would have taken, and every process takes its own slice of the same batch.
"""

from collections.abc import Iterator
from enum import Enum, auto

import numpy as np
import numpy.typing as npt

from sbert.errors import TooFewLabelsError

__all__ = ["BatchGrouping", "BatchPlan"]

Ints = npt.NDArray[np.int64]


class BatchGrouping(Enum):
    """Ways of choosing the rows of a batch."""

    RANDOM = auto()
    DISTINCT_TEXTS = auto()
    """No text occurs twice in a batch, where that is possible: it would be its own negative."""
    CLASSES = auto()
    """Several rows of each of a few classes."""


class BatchPlan:
    """The batches of each epoch, cut to the slice of this process: a batch sampler for torch's DataLoader."""

    def __init__(
        self,
        text_ids_NC: Ints,
        labels_N: Ints | None,
        *,
        grouping: BatchGrouping,
        batch_size: int,
        seed: int,
        classes_per_batch: int = 16,
        process: int = 0,
        num_processes: int = 1,
    ) -> None:
        """Name the rows and how they are grouped.

        Raises:
            TooFewLabelsError: when there are fewer rows than processes, or only one row.
        """
        self.batch_size = min(batch_size, len(text_ids_NC)) // num_processes * num_processes
        if self.batch_size < max(2, num_processes):
            raise TooFewLabelsError(
                f"{len(text_ids_NC)} rows make no batch for {num_processes} processes: label more, or use fewer processes"
            )
        self.epoch = 0
        self._text_ids_NC, self._labels_N = text_ids_NC, labels_N
        self._grouping, self._seed = grouping, seed
        self._classes_per_batch = classes_per_batch
        self._process, self._num_processes = process, num_processes
        self._made: tuple[int, list[Ints]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of an epoch. It is the same for all epochs."""
        return max(1, len(self._text_ids_NC) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's rows of each batch of the epoch."""
        size = self.batch_size // self._num_processes
        for batch in self.batches(self.epoch):
            yield batch[self._process * size : (self._process + 1) * size].tolist()

    def batches(self, epoch: int) -> list[Ints]:
        """Return all batches of an epoch, of equal size. Rows that fill no batch are left out of this epoch."""
        if self._made is None or self._made[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch])
            if self._grouping is BatchGrouping.CLASSES:
                made = self._by_class(rng)
            else:
                order = rng.permutation(len(self._text_ids_NC))
                if self._grouping is BatchGrouping.DISTINCT_TEXTS:
                    order = self._distinct(order)
                made = [order[first : first + self.batch_size] for first in range(0, len(order), self.batch_size)]
            self._made = (epoch, made[: len(self)])
        return self._made[1]

    def _distinct(self, order: Ints) -> Ints:
        """Reorder rows so that no batch holds a text twice. Rows that fit nowhere come last, where a text may repeat."""
        batches: list[list[int]] = []
        seen: list[set[int]] = []
        first_open = 0
        leftover: list[int] = []
        for row in order.tolist():
            texts = set(self._text_ids_NC[row].tolist())
            for number in range(first_open, min(len(batches), first_open + 64)):
                if len(batches[number]) < self.batch_size and not texts & seen[number]:
                    batches[number].append(row)
                    seen[number] |= texts
                    break
            else:
                if len(batches) < len(self):
                    batches.append([row])
                    seen.append(texts)
                else:
                    leftover.append(row)
            while first_open < len(batches) and len(batches[first_open]) == self.batch_size:
                first_open += 1
        full = [row for batch in batches if len(batch) == self.batch_size for row in batch]
        rest = [row for batch in batches if len(batch) < self.batch_size for row in batch]
        return np.array(full + rest + leftover, dtype=np.int64)

    def _by_class(self, rng: np.random.Generator) -> list[Ints]:
        """Return batches of `classes_per_batch` classes with equally many rows each. All classes occur equally often."""
        assert self._labels_N is not None
        members = [np.flatnonzero(self._labels_N == label) for label in np.unique(self._labels_N)]
        num_classes = min(self._classes_per_batch, len(members), self.batch_size // 2)
        each = -(-self.batch_size // num_classes)
        queues = [rng.permutation(rows) for rows in members]
        taken = [0] * len(members)
        class_order: list[int] = []
        batches: list[Ints] = []
        for _ in range(len(self)):
            if len(class_order) < num_classes:
                again = rng.permutation(len(members)).tolist()
                class_order += [number for number in again if number not in class_order] + [
                    number for number in again if number in class_order
                ]
            classes, class_order = class_order[:num_classes], class_order[num_classes:]
            batch: list[int] = []
            for number in dict.fromkeys(classes):
                for _ in range(min(each, len(members[number]))):
                    if taken[number] == len(queues[number]):
                        queues[number], taken[number] = rng.permutation(members[number]), 0
                    batch.append(int(queues[number][taken[number]]))
                    taken[number] += 1
            if len(batch) < self.batch_size:  # the classes are small: fill the batch with other rows
                others = np.setdiff1d(np.arange(len(self._labels_N)), batch)
                batch += rng.choice(others, self.batch_size - len(batch), replace=False).tolist()
            batches.append(np.array(batch[: self.batch_size], dtype=np.int64))
        return batches
