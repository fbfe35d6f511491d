"""Every error the library raises, in one tree.

    SbertError
    ├── SettingsError             a setting, or a combination of settings, that cannot work
    ├── StorageError              object storage or disk said no (``transient`` tells whether trying again can help)
    │   └── MissingError          no such file, bucket or prefix
    ├── SourceError               the raw text cannot be used as asked
    │   ├── EmptySourceError      nothing to read under the URI
    │   ├── ColumnError           a named column is not there
    │   ├── BrokenObjectError     one object cannot be read to its end (truncated, corrupt), or lacks a column
    │   │   └── CutOffError       the rows before the break are whole
    │   └── IncompleteError       objects could not be read; everything else was published
    ├── LabelError                labels that nothing should be learned from
    │   ├── LeakageError          rows of the given dev or test split are in train as well
    │   └── TooFewLabelsError     too few rows or classes
    ├── TrainingError             training cannot go on, or cannot be done as asked
    │   └── DivergedError         the loss is no longer a number, before there was a checkpoint worth keeping
    ├── ServerError               no Prefect server answers at the configured address
    ├── DestinationError          a vector store does not answer, refuses rows, or holds something foreign
    │   └── NotEqualError         a destination differs from its table
    ├── WorkerError               worker processes of a cluster die again and again
    ├── EventError                the Prefect server did not take an event over
    ├── ModelError                the model folder cannot be loaded as a sentence encoder
    ├── EvaluationError           rows that two encoders cannot be compared on
    ├── RegistryError             the registry of models cannot be used as asked
    │   └── PromotionConflictError  another promotion was first
    ├── QualityError              vectors that must not be published
    │   └── TruncationError       more rows were truncated than the policy allows
    └── TableError                the table cannot be used as asked
        ├── NotATableError        no table at the URI
        │   ├── DerivedTableError  a derived table was named where an embeddings table belongs
        │   └── EmbeddingsTableError  an embeddings table was named where a derived table belongs
        ├── EncoderMismatchError  rows of one encoder offered to a table of another
        ├── CommitConflictError   another writer committed first
        ├── VerificationError     a table that was checked is not sound
        ├── NotErasedError        rows that were to be erased are left somewhere
        ├── MassDeletionError     a run would drop more of the table than is accepted
        └── AccountingError       rows read and rows accounted for differ

Messages name the thing, both numbers and the remedy.
"""

__all__ = [
    "AccountingError",
    "BrokenObjectError",
    "ColumnError",
    "CommitConflictError",
    "CutOffError",
    "DerivedTableError",
    "DestinationError",
    "DivergedError",
    "EmbeddingsTableError",
    "EmptySourceError",
    "EncoderMismatchError",
    "EvaluationError",
    "EventError",
    "IncompleteError",
    "LabelError",
    "LeakageError",
    "MassDeletionError",
    "MissingError",
    "ModelError",
    "NotATableError",
    "NotEqualError",
    "NotErasedError",
    "PromotionConflictError",
    "QualityError",
    "RegistryError",
    "SbertError",
    "ServerError",
    "SettingsError",
    "SourceError",
    "StorageError",
    "TableError",
    "TooFewLabelsError",
    "TrainingError",
    "TruncationError",
    "VerificationError",
    "WorkerError",
]


class SbertError(Exception):
    """Base of all errors that this library raises on purpose."""


class SettingsError(SbertError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class StorageError(SbertError, OSError):
    """Object storage or disk refused an operation on ``uri``; ``transient`` when trying again can help."""

    def __init__(self, message: str, *, uri: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.uri = uri
        self.transient = transient

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword arguments when a worker process sends the error back."""
        return (_storage_error, (type(self), str(self), self.uri, self.transient))


def _storage_error(kind: type[StorageError], message: str, uri: str, transient: bool) -> StorageError:
    return kind(message, uri=uri, transient=transient)


class MissingError(StorageError):
    """No such file, bucket or prefix."""


class SourceError(SbertError):
    """The raw text cannot be used as asked."""


class EmptySourceError(SourceError):
    """There is nothing to read under the URI."""


class ColumnError(SourceError):
    """A named column is not in the source; the message lists the columns there are."""


class BrokenObjectError(SourceError):
    """One object cannot be read to its end; the others can."""

    def __init__(self, uri: str, detail: str) -> None:
        super().__init__(f"{uri}: {detail}")
        self.uri = uri
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        """Keep both arguments when a worker process sends the error back."""
        return (type(self), (self.uri, self.detail))


class CutOffError(BrokenObjectError):
    """One object breaks off; the rows before the break are whole."""


class IncompleteError(SourceError):
    """Some objects could not be read; everything else was done and published. ``report`` counts it.

    A new table of which no row could be read, or of which every row was rejected, is not published. A dry run raises it
    when planning shows such objects.
    """

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the report when the error travels between processes."""
        return (type(self), (str(self), self.report))


class LabelError(SbertError):
    """Labels that cannot be learned from; the message names the rows and the remedy."""


class LeakageError(LabelError):
    """Rows of the given dev or test split are in train as well."""


class TooFewLabelsError(LabelError):
    """Too few rows, or too few classes, to learn from."""


class TrainingError(SbertError):
    """Training cannot go on, or cannot be done as asked."""


class DivergedError(TrainingError):
    """The loss is no longer a number, and no checkpoint is better than the encoder that training began with."""


class ServerError(SbertError):
    """No Prefect server answers at the configured address."""


class DestinationError(SbertError):
    """A vector store does not answer, refuses rows, or holds something foreign under the destination's name."""


class NotEqualError(DestinationError):
    """A destination differs from its table."""


class WorkerError(SbertError):
    """Worker processes of a cluster die again and again; the message names the splits they were building."""


class EventError(SbertError):
    """The Prefect server did not take an event over; it is sent again next time."""


class ModelError(SbertError):
    """The model folder cannot be loaded as a sentence encoder."""


class EvaluationError(SbertError):
    """Rows on which two encoders cannot be compared: too few, one class only, not the same ones."""


class RegistryError(SbertError):
    """The registry of models cannot be used as asked."""


class PromotionConflictError(RegistryError):
    """Another promotion was first; its version is production."""


class QualityError(SbertError):
    """Vectors that must not be published: not finite, of the wrong dim or norm, or all alike."""


class TruncationError(QualityError):
    """More rows were truncated than the policy allows."""


class TableError(SbertError):
    """The table cannot be used as asked."""


class NotATableError(TableError):
    """There is no table at the URI."""


class DerivedTableError(NotATableError):
    """A derived table was named where an embeddings table belongs."""


class EmbeddingsTableError(NotATableError):
    """An embeddings table was named where a derived table belongs."""


class EncoderMismatchError(TableError):
    """Rows of one encoder were offered to a table of another."""


class CommitConflictError(TableError):
    """Another writer committed first; nothing of this commit was published."""


class VerificationError(TableError):
    """A table that was checked is not sound; the message has the findings."""


class NotErasedError(TableError):
    """Rows that were to be erased are left, or may be left; the message names the places."""


class MassDeletionError(TableError):
    """A run would drop more of the table than is accepted. ``report`` is that of a dry run."""

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the report when the error travels between processes."""
        return (type(self), (str(self), self.report))


class AccountingError(TableError):
    """Rows read and rows accounted for differ: nothing is published."""
