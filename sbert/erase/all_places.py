"""All places below a table. A file that none of them owns is named in the receipt as not erased.

The Parquet files of the table itself are `sbert.erase.shards`.
"""

from sbert.erase.index_segments import IndexSegments
from sbert.erase.places import Place
from sbert.erase.places_beside_shards import (
    DigestFiles,
    LogBounds,
    MisfitRows,
    OwnRecords,
    RejectedRows,
    RunSample,
    RunSummaries,
    SplitSamples,
    TemporaryFiles,
)
from sbert.erase.word_index import WordIndex

__all__ = ["PLACES"]

PLACES: tuple[Place, ...] = (
    TemporaryFiles(),
    IndexSegments(),
    RejectedRows(),
    MisfitRows(),
    SplitSamples(),
    RunSample(),
    RunSummaries(),
    WordIndex(),
    DigestFiles(),
    OwnRecords(),
    LogBounds(),
)
"""Places in the order in which they are erased. A new folder of tables is added here."""
