"""The registry: immutable versions, a pointer that moves in one step, the way back."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import ModelError, PromotionConflictError, RegistryError
from sbert.registry.card import model_card
from sbert.registry.pointer import Pointer, PointerReason, resolve_model
from sbert.registry.store import Registry
from sbert.registry.version_record import LabelsRecord, VersionRecord
from tests.support.tiny_models import save_tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [Path(save_tiny(tmp_path_factory.mktemp(f"model{seed}"), seed=seed)) for seed in range(3)]


def fingerprint(folder: Path) -> str:
    return SentenceEncoder.from_pretrained(folder).fingerprint


def record(seed: int = 0, encoder_fingerprint: str = "e" * 64, **fields: object) -> VersionRecord:
    return VersionRecord(
        version="",
        encoder_fingerprint=encoder_fingerprint,
        dim=32,
        base="base",
        run_id=f"run-{seed}",
        **fields,  # type: ignore[arg-type]
    )


def filled(uri: str, folders: list[Path]) -> Registry:
    """Make a registry with a version for each folder, each promoted in turn."""
    registry = Registry(uri)
    for seed, folder in enumerate(folders):
        stored = registry.add(record(seed, fingerprint(folder)), folder)
        action = PointerReason.PROMOTION if seed else PointerReason.FIRST
        registry.promote(stored.version, current=registry.production(), reason="better", run_id="r", action=action)
    return registry


def test_versions_are_numbered_and_kept(tmp_path: Path, folders: list[Path]) -> None:
    registry = filled(str(tmp_path / "models"), folders)
    assert [stored.version for stored in registry.versions()] == ["v0001", "v0002", "v0003"]
    assert [pointer.version for pointer in registry.history()] == ["v0001", "v0002", "v0003"]
    production = registry.production()
    assert production is not None
    assert production.version == "v0003"
    assert production.previous == "v0002"
    assert production.number == 3
    assert production.encoder_fingerprint == fingerprint(folders[2])


def test_a_registry_means_its_production_version(tmp_path: Path, folders: list[Path]) -> None:
    uri = str(tmp_path / "models")
    registry = filled(uri, folders[:2])
    for name in (uri, uri + "/", uri + "/production", uri + "/v0002", uri + "/v0002/model"):
        assert resolve_model(name) == uri + "/v0002/model"
        assert SentenceEncoder.from_pretrained(name).fingerprint == fingerprint(folders[1])
    assert resolve_model(uri + "/v0001") == uri + "/v0001/model"
    registry.rollback()
    assert resolve_model(uri) == uri + "/v0001/model"
    assert resolve_model(str(folders[0])) == str(folders[0])
    assert resolve_model(str(tmp_path / "nothing")) == str(tmp_path / "nothing")


def test_a_registry_without_production_says_so(tmp_path: Path, folders: list[Path]) -> None:
    Registry(str(tmp_path / "models")).add(record(), folders[0])
    with pytest.raises(ModelError, match="no production version: run `sbert retrain`"):
        SentenceEncoder.from_pretrained(str(tmp_path / "models"))


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(tmp_path: Path, folders: list[Path]) -> None:
    registry = filled(str(tmp_path / "models"), folders[:1])
    current = registry.production()
    candidates = [registry.add(record(seed), folders[seed]).version for seed in (1, 2)]
    barrier, outcomes = threading.Barrier(2), {}

    def promote(version: str) -> None:
        barrier.wait()
        try:
            outcomes[version] = registry.promote(version, current=current, reason="better", run_id=f"run of {version}")
        except PromotionConflictError as error:
            outcomes[version] = error

    threads = [threading.Thread(target=promote, args=(version,)) for version in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [version for version, outcome in outcomes.items() if isinstance(outcome, Pointer)]
    [loser] = set(candidates) - {winner}
    production = registry.production()
    assert production is not None
    assert production.version == winner
    assert f"another promotion made {winner} production first (run run of {winner})" in str(outcomes[loser])
    assert f"{loser} is not promoted: run again to compare with {winner} instead of v0001" in str(outcomes[loser])
    assert len(registry.history()) == 2


@pytest.mark.s3
def test_versions_and_the_production_log_work_on_s3(s3_bucket: str, folders: list[Path]) -> None:
    uri = f"{s3_bucket}/models"
    registry = filled(uri, folders[:2])
    assert resolve_model(uri) == f"{uri}/v0002/model"
    vectors = SentenceEncoder.from_pretrained(uri).encode(["the cat sat on mat"])
    np.testing.assert_allclose(
        vectors, SentenceEncoder.from_pretrained(folders[1]).encode(["the cat sat on mat"]), atol=1e-6
    )
    stale = registry.history()[0]
    with pytest.raises(PromotionConflictError, match="made v0002 production first"):
        registry.promote("v0001", current=stale, reason="", run_id="late")
    assert registry.rollback().version == "v0001"
    assert SentenceEncoder.from_pretrained(uri).fingerprint == fingerprint(folders[0])


def test_two_writers_never_share_a_version(tmp_path: Path, folders: list[Path]) -> None:
    registry = Registry(str(tmp_path / "models"))
    fingerprints = [fingerprint(folder) for folder in folders]
    names: list[str] = []

    def add(seed: int) -> None:
        names.append(registry.add(record(seed, fingerprints[seed]), folders[seed]).version)

    threads = [threading.Thread(target=add, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == ["v0001", "v0002", "v0003"]
    for name in names:
        model = SentenceEncoder.from_pretrained(registry.model_uri(name))
        assert model.fingerprint == registry.version(name).encoder_fingerprint


def test_a_version_that_was_never_finished_is_none(tmp_path: Path, folders: list[Path]) -> None:
    registry = Registry(str(tmp_path / "models"))

    def killed(_: VersionRecord) -> dict[str, bytes]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        registry.add(record(), folders[0], killed)
    assert registry.versions() == []
    assert registry.add(record(), folders[0]).version == "v0002"  # the half-written folder is left alone
    with pytest.raises(RegistryError, match="no version v0001; the versions are: v0002"):
        registry.version("v0001")


def test_rollback_goes_further_back_each_time(tmp_path: Path, folders: list[Path]) -> None:
    registry = filled(str(tmp_path / "models"), folders)
    assert registry.rollback().version == "v0002"
    assert registry.rollback().version == "v0001"
    with pytest.raises(RegistryError, match="v0001 is the first version"):
        registry.rollback()
    assert registry.rollback("v0003").version == "v0003"
    with pytest.raises(RegistryError, match="v0003 is production already"):
        registry.rollback("v0003")
    with pytest.raises(RegistryError, match=r"no version v0009; the versions are: v0001, v0002, v0003"):
        registry.rollback("v0009")
    assert [pointer.version for pointer in registry.history()] == [
        "v0001", "v0002", "v0003", "v0002", "v0001", "v0003",
    ]  # fmt: skip


def test_an_empty_registry_cannot_be_rolled_back(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no production version"):
        Registry(str(tmp_path / "models")).rollback()


def test_the_model_card_is_in_the_hugging_face_format() -> None:
    value = {"value": 0.8123456, "low": 0.8, "high": 0.82, "num_rows": 100}
    after = {"sets": {"held-out": {"name": "held-out", "kind": "scored_pairs", "fingerprint": "f" * 64,
                                   "metrics": {"spearman": value}}}}  # fmt: skip
    stored = record(
        labels=LabelsRecord(uri="s3://bucket/labels", kind="scored_pairs", fingerprint="a" * 64, counts={"train": 90}),
        decision={"promoted": True, "reasons": ["spearman 0.7 → 0.8"]},
        after=after,
    ).model_copy(update={"version": "v0007"})
    card = ModelCard(model_card(stored))
    assert card.data.library_name == "sentence-transformers"
    assert card.data.model_name == "v0007"
    [result] = card.data.eval_results or []
    assert result.metric_type == "spearman"
    assert result.metric_value == 0.812346
    assert "**promoted**" in card.text
    assert "fine-tuned from" in card.text
    assert "s3://bucket/labels" in card.text


def test_weights_of_old_refusals_are_dropped_and_nothing_else(tmp_path: Path, folders: list[Path]) -> None:
    uri = str(tmp_path / "models")
    registry = filled(uri, folders[:1])
    refusals = [registry.add(record(seed, decision={"promoted": False}), folders[1]).version for seed in range(4)]
    registry.promote(refusals[0], current=registry.production(), reason="by hand", run_id="r")
    registry.rollback()
    assert registry.drop_refused(keep=1) == refusals[1:3]
    assert registry.drop_refused(keep=1) == []
    assert [registry.has_weights(version) for version in refusals] == [True, False, False, True]
    assert len(registry.versions()) == 5
    assert (tmp_path / "models" / refusals[1] / "model/config.json").exists()
    with pytest.raises(ModelError, match=r"v0003: this version was refused and its weights were removed"):
        SentenceEncoder.from_pretrained(f"{uri}/{refusals[1]}")
    with pytest.raises(RegistryError, match=r"v0003 was refused and its weights were removed"):
        registry.rollback(refusals[1])
    for kept in ("v0001", refusals[0], refusals[3]):
        SentenceEncoder.from_pretrained(f"{uri}/{kept}")


def test_the_name_of_a_deleted_version_is_never_given_again(tmp_path: Path, folders: list[Path]) -> None:
    registry = filled(str(tmp_path / "models"), folders[:2])
    refused = registry.add(record(2), folders[2])
    assert refused.version == "v0003"
    shutil.rmtree(tmp_path / "models/v0003")
    assert registry.add(record(3), folders[2]).version == "v0004"
    for name in ("v0002", "v0004"):
        shutil.rmtree(tmp_path / "models" / name)
    assert registry.add(record(4), folders[2]).version == "v0005"


def test_names_in_the_production_log_of_an_earlier_release_are_taken(tmp_path: Path, folders: list[Path]) -> None:
    registry = filled(str(tmp_path / "models"), folders[:2])
    shutil.rmtree(tmp_path / "models/_names")  # earlier releases did not keep names
    shutil.rmtree(tmp_path / "models/v0002")
    assert registry.add(record(2), folders[2]).version == "v0003"
