"""The stores of the sync tests, for erasures in them."""

from tests.sbert.sync.conftest import location, milvus_file

__all__ = ["location", "milvus_file"]
