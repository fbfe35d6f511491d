"""Find the class of a vector store from the location that a person writes."""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import NamedTuple

from sbert.errors import DestinationError, SettingsError
from sbert.storage.files import check_no_credentials, normalize_uri
from sbert.sync.destinations.base import Destination

__all__ = ["STORES", "Store", "check_location", "check_no_secret", "open_destination"]

ENTRY_POINTS = "sbert.destinations"
"""Group of entry points: the name is the scheme, the value a `Destination` class."""


class Store(NamedTuple):
    """A vector store that this library can follow a table with."""

    path: str
    """Where its `Destination` class is: ``module:class``. The module is imported when a location names the store."""
    extra: str
    """The extra of the package that installs the store's client."""


STORES: Mapping[str, Store] = {
    "postgresql": Store("sbert.sync.destinations.postgres:PostgresDestination", "postgres"),
    "lancedb": Store("sbert.sync.destinations.lance:LanceDestination", "lancedb"),
    "qdrant": Store("sbert.sync.destinations.qdrant:QdrantDestination", "qdrant"),
    "milvus": Store("sbert.sync.destinations.milvus:MilvusDestination", "milvus"),
}
"""The stores of this library by scheme. A new store is added here."""
WHOLE_URI = frozenset({"postgresql"})
"""Schemes whose client takes the location with its scheme."""


def open_destination(location: str, secret: str | None = None) -> Destination:
    """Return the destination that a location names; use it as a context manager.

    Args:
        location: ``scheme:where#name``, such as ``postgresql://host/database#public.docs`` or ``lancedb:/data#docs``.
        secret: password, token or API key, where the environment does not hold it.

    Raises:
        SettingsError: the location has no known scheme, no name, or holds credentials.
        DestinationError: the store's client is not installed.
    """
    scheme, where, name = check_location(location)
    place = f"{scheme}:{where}" if scheme in WHOLE_URI else where
    if scheme == "lancedb":
        place = normalize_uri(place)
    kind = _class_of(scheme)
    destination = kind(place, name, secret)
    assert isinstance(destination, Destination)
    return destination


def check_location(location: str) -> tuple[str, str, str]:
    """Return scheme, place and name of a location.

    Raises:
        SettingsError: the location has no known scheme, no name, or holds a password.
    """
    check_no_secret(location)
    scheme, separator, rest = location.partition(":")
    where, _, name = rest.rpartition("#")
    schemes = sorted(STORES)
    if scheme not in STORES:  # reading the entry points of all packages takes a moment
        schemes = sorted({*STORES, *(point.name for point in entry_points(group=ENTRY_POINTS))})
    if not separator or scheme not in schemes:
        raise SettingsError(f"{location}: unknown store {scheme!r}: begin with one of {', '.join(schemes)}")
    if not where or not name:
        raise SettingsError(
            f"{location}: a destination needs a name in the store: write {scheme}:{rest.rstrip('#')}#NAME"
        )
    return scheme, where, name


def check_no_secret(location: str) -> None:
    """Refuse a location that holds a password; a user's name before the ``@`` is allowed.

    Raises:
        SettingsError: without repeating the location.
    """
    scheme, _, rest = location.partition("://")
    authority, _, tail = rest.partition("/")
    user, at, _ = authority.rpartition("@")
    if scheme not in WHOLE_URI:
        check_no_credentials(location.partition(":")[2])
    elif (at and ":" in user) or "password=" in tail:
        raise SettingsError(
            f"{scheme}: a password does not belong in a location, which is shown and stored: set PGPASSWORD or a "
            "password file"
        )


def _class_of(scheme: str) -> type[Destination]:
    if scheme not in STORES:
        (point,) = (point for point in entry_points(group=ENTRY_POINTS) if point.name == scheme)
        loaded: type[Destination] = point.load()
        return loaded
    store = STORES[scheme]
    module, _, name = store.path.partition(":")
    try:
        destination_class: type[Destination] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise DestinationError(
            f"{scheme}: the client library is not installed ({error.name} is missing): "
            f"run pip install 'sbert-prefect[{store.extra}]'"
        ) from error
    return destination_class
