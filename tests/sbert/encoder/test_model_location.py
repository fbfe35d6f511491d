"""Names, folders, registries and URIs lead to a local folder, or to an error that says what can be named."""

from pathlib import Path

import numpy as np
import pytest

from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import ModelError
from tests.support.tiny_models import save_tiny


def test_a_model_that_is_nowhere_is_refused_with_the_reason() -> None:
    with pytest.raises(ModelError, match="neither a folder here nor a model that the hub gave"):
        locate_model("nobody/no-such-model")
    with pytest.raises(ModelError, match="no such model folder"):
        locate_model("/no/such/folder")


@pytest.mark.parametrize("name", [DEFAULT_MODEL, "all-MiniLM-L6-v2"])
def test_the_default_model_is_packaged(name: str) -> None:
    assert (locate_model(name) / "model.safetensors").is_file()


def test_a_local_folder_is_used_where_it_lies(tmp_path: Path) -> None:
    assert locate_model(save_tiny(tmp_path / "model")) == tmp_path / "model"


def test_a_folder_in_storage_is_copied_once_for_each_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    save_tiny(folder)
    first = locate_model(folder.as_uri())
    assert first.is_relative_to(tmp_path / "cache")
    assert locate_model(folder.as_uri()) == first
    vectors = [SentenceEncoder.from_pretrained(each, device="cpu").encode(["the cat"]) for each in (folder, first)]
    np.testing.assert_array_equal(*vectors)
    (folder / "notes.md").write_text("no file of the model")
    assert locate_model(folder.as_uri()) == first
    save_tiny(folder, seed=1)
    assert locate_model(folder.as_uri()) != first


def test_a_uri_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("no model")
    with pytest.raises(ModelError, match="no model files here"):
        locate_model(tmp_path.as_uri())
