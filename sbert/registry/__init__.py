"""The registry of models: immutable versions in a folder of object storage, and which of them is production."""

from sbert.registry.pointer import Pointer, resolve_model
from sbert.registry.store import LabelsRecord, LeakageRecord, Registry, VersionRecord

__all__ = ["LabelsRecord", "LeakageRecord", "Pointer", "Registry", "VersionRecord", "resolve_model"]
