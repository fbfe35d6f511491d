"""A registry of several versions."""

from pathlib import Path

import pytest

from sbert.registry.store import Registry
from sbert.registry.version_record import VersionRecord
from tests.support.tiny_models import save_tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, model: str) -> Registry:
    """Production v0001, then three others, of which the last has no weights any more."""
    registry = Registry(str(tmp_path_factory.mktemp("registry") / "models"))
    folder = Path(save_tiny(tmp_path_factory.mktemp("other"), seed=3))
    for name in ("a", "b", "c", "d"):
        record = VersionRecord(
            version="", encoder_fingerprint=name, dim=32, base=model, run_id=name, decision={"promoted": name == "a"}
        )
        registry.add(record, folder)
    registry.promote("v0001", current=None, reason="first", run_id="a")
    Path(registry.file_uri("v0004", "dropped.json")).write_text("{}")
    return registry
