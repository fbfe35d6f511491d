"""Progress of a refresh: its stage, rows, tokens and splits, the rate, and the time that is left."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.refresh.build_result import BuildResult
from sbert.refresh.fingerprints import PlannedSplit
from sbert.refresh.stages import Stage

__all__ = [
    "OnProgress",
    "Progress",
    "ProgressMeter",
    "WorkCounter",
    "WorkDone",
    "describe_seconds",
    "ignore_progress",
]

MIN_SHARE = 0.01
"""Share of the work that must be done before the time left is computed: earlier it would be a guess."""


class Progress(BaseModel):
    """A moment of a refresh. Counts are of this run, and 0 before the first split is read."""

    model_config = ConfigDict(frozen=True)

    stage: Stage
    num_splits: int = Field(default=0, description="Splits to build.")
    num_splits_done: int = Field(default=0, description="Splits that are built or given up.")
    num_rows_done: int = Field(default=0, description="Rows that are read, cleaned and have their vector.")
    num_tokens_done: int = Field(default=0, description="Tokens that went through the encoder.")
    num_rows_expected: int | None = Field(
        default=None, description="Rows to read in all, as far as they can be estimated."
    )
    seconds: float = Field(default=0.0, description="Time since the first split was begun (seconds).")

    @property
    def share(self) -> float | None:
        """Share of the work that is done, from 0 to 1; None when it cannot be estimated."""
        if self.num_splits and self.num_splits_done == self.num_splits:
            return 1.0
        if self.num_rows_expected:
            return min(self.num_rows_done / self.num_rows_expected, 0.99)
        return None

    @property
    def seconds_left(self) -> float | None:
        """Time left at the rate so far; None while too little is done to tell."""
        share = self.share
        return None if share is None or share < MIN_SHARE else self.seconds * (1 - share) / share

    @property
    def rows_per_second(self) -> float:
        """Rows a second since the first split was begun."""
        return self.num_rows_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second since the first split was begun; 0 when every vector was known."""
        return self.num_tokens_done / self.seconds if self.seconds > 0 else 0.0

    def describe(self) -> str:
        """Return the progress as one line for people."""
        if not self.num_splits:
            return self.stage.value
        rows = counted(self.num_rows_done, "row")
        if self.num_rows_expected:
            expected = max(self.num_rows_expected, self.num_rows_done)
            rows = f"{self.num_rows_done:,} of about {counted(expected, 'row')}"
        stage = self.stage.value
        if self.seconds_left is not None and self.num_splits_done < self.num_splits:
            stage += (
                f", {describe_seconds(self.seconds_left)} left"  # first: a card of the UI shows some forty characters
            )
        parts = [f"{stage}: {rows}", f"{self.num_splits_done:,} of {counted(self.num_splits, 'split')}"]
        if self.num_rows_done:
            parts.append(f"{self.rows_per_second:,.0f} rows/s")
        if self.num_tokens_done:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        return ", ".join(parts)


def describe_seconds(seconds: float) -> str:
    """Return a duration for people: ``42 s``, ``3 min 05 s``, ``2 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


OnProgress = Callable[[Progress], None]
"""Called about twice a second while splits are built, and whenever the stage changes."""


def ignore_progress(progress: Progress) -> None:
    """Show nothing."""


class WorkDone(BaseModel):
    """Counts of the splits that are being built."""

    model_config = ConfigDict(frozen=True)

    num_splits: int = Field(default=0, description="Splits that are built or given up.")
    num_rows: int = Field(default=0, description="Rows of these splits, and of splits that are being built.")
    num_tokens: int = Field(default=0, description="Tokens that went through the encoder.")
    num_bytes_finished: int = Field(default=0, description="Raw bytes of the splits that are built.")
    num_rows_finished: int = Field(default=0, description="Rows of the splits that are built.")

    @classmethod
    def of_results(cls, results: Sequence[BuildResult]) -> "WorkDone":
        """Count finished splits, where only their results are known."""
        num_rows = sum(result.counts.num_rows_read for result in results)
        return cls(
            num_splits=len(results),
            num_rows=num_rows,
            num_tokens=sum(result.counts.num_tokens_encoded for result in results),
            num_bytes_finished=sum(result.planned.split.num_bytes for result in results),
            num_rows_finished=num_rows,
        )


class WorkCounter:
    """Counts the work of the threads of one process."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._lock = threading.Lock()
        self._rows_of_split: dict[str, int] = {}
        self._bytes_of_finished: dict[str, int] = {}
        self._num_tokens = 0

    def reset(self) -> None:
        """Forget everything, before splits are built a second time."""
        with self._lock:
            self._rows_of_split.clear()
            self._bytes_of_finished.clear()
            self._num_tokens = 0

    def begin(self, fingerprint: str) -> None:
        """Note that a split is read from its beginning."""
        with self._lock:
            self._rows_of_split[fingerprint] = 0

    def add(self, fingerprint: str, *, num_rows: int = 0, num_tokens: int = 0) -> None:
        """Note rows that have their vector, and tokens that were encoded."""
        with self._lock:
            self._rows_of_split[fingerprint] = self._rows_of_split.get(fingerprint, 0) + num_rows
            self._num_tokens += num_tokens

    def abandon(self, fingerprint: str) -> None:
        """Note that a split is given up, and perhaps read again without some object."""
        with self._lock:
            self._rows_of_split.pop(fingerprint, None)

    def finish(self, result: BuildResult) -> None:
        """Note that a split is built or given up."""
        planned = result.planned
        with self._lock:
            self._bytes_of_finished[planned.fingerprint] = planned.split.num_bytes
            if result.built is not None:
                self._rows_of_split.pop(result.built.fingerprint, None)
            self._rows_of_split[planned.fingerprint] = result.counts.num_rows_read

    def done(self) -> WorkDone:
        """Return the counts."""
        with self._lock:
            return WorkDone(
                num_splits=len(self._bytes_of_finished),
                num_rows=sum(self._rows_of_split.values()),
                num_tokens=self._num_tokens,
                num_bytes_finished=sum(self._bytes_of_finished.values()),
                num_rows_finished=sum(self._rows_of_split[fingerprint] for fingerprint in self._bytes_of_finished),
            )


class ProgressMeter:
    """Turns counts into `Progress`: rates, and the rows that are to be expected."""

    def __init__(
        self, stage: Stage, splits: Sequence[PlannedSplit], num_rows_estimated: int | None, on_progress: OnProgress
    ) -> None:
        """Begin at nothing done."""
        self._stage = stage
        self._num_splits = len(splits)
        self._num_bytes = sum(planned.split.num_bytes for planned in splits)
        self._num_rows_estimated = num_rows_estimated
        self._on_progress = on_progress
        self._began = time.monotonic()

    @contextmanager
    def loading_encoder(self) -> Iterator[None]:
        """Say that the encoder is loaded; the time of the first split counts from the end."""
        self._on_progress(Progress(stage=Stage.LOADING_ENCODER))
        yield
        self._began = time.monotonic()

    def show(self, done: WorkDone, *, is_indexed: bool = True) -> None:
        """Report how far the work is; before `is_indexed` the known texts of the table are being read."""
        self._on_progress(
            Progress(
                stage=self._stage if is_indexed else Stage.INDEXING,
                num_splits=self._num_splits,
                num_splits_done=done.num_splits,
                num_rows_done=done.num_rows,
                num_tokens_done=done.num_tokens,
                num_rows_expected=self._rows_expected(done),
                seconds=time.monotonic() - self._began,
            )
        )

    def _rows_expected(self, done: WorkDone) -> int | None:
        """Extrapolate from the splits that are finished; before the first one take the estimate of the plan."""
        if done.num_bytes_finished and done.num_rows_finished:
            return round(done.num_rows_finished * self._num_bytes / done.num_bytes_finished)
        return self._num_rows_estimated
