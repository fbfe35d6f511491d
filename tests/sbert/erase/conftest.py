"""The stores of the sync tests, for erasures in them."""

from tests.sbert.sync.conftest import location

__all__ = ["location"]
