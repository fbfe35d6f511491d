"""The encoder that the table's encoder is compared with."""

from pathlib import Path

import pytest

from sbert.errors import RegistryError, SettingsError
from sbert.registry.store import Registry
from sbert.suggest.candidate import candidate_model


def test_the_candidate_is_the_newest_version_that_can_be_loaded(models: Registry, tmp_path: Path) -> None:
    assert candidate_model(None, None) is None
    assert candidate_model(models.uri, None) == models.model_uri("v0003")
    assert candidate_model(models.uri, "v0002") == models.model_uri("v0002")
    with pytest.raises(RegistryError, match="no version v0009; the versions are: v0001, v0002, v0003, v0004"):
        candidate_model(models.uri, "v0009")
    with pytest.raises(SettingsError, match="candidate v0002: name the registry it is in"):
        candidate_model(None, "v0002")
    assert candidate_model(str(tmp_path / "empty"), None) is None
