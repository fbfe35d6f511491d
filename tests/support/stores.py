"""Look into the vector stores that tests fill."""

from sbert.sync.destinations.locate import open_destination

__all__ = ["visible_collection"]


def visible_collection(location: str) -> str:
    """Return the name of the collection that readers of a destination see."""
    with open_destination(location) as destination:
        name = destination.visible()
    assert name is not None
    return name
