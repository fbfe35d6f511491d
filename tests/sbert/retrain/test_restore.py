"""A stored version is the trained encoder: every module, not only the transformer."""

from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from sbert.encoder.modules import Dense, Normalize
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.labels.label_kinds import LabelKind
from sbert.labels.settings import LabelSettings
from sbert.registry.store import Registry
from sbert.retrain.judge import judge_candidate, train_candidate
from sbert.retrain.label_rows import load_measured
from sbert.retrain.promotion import store_and_promote
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.settings import RetrainJob, RetrainSettings
from sbert.training.settings import Objective, TrainingSettings
from tests.support.tiny_models import HIDDEN, tiny_tokenizer, tiny_transformer
from tests.support.toy_training import toy_rows

TEXTS = ["the cat sat on mat", "a train to hamburg is late", "how do i reset my password"]


def encoder_with_every_module() -> SentenceEncoder:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(1)
    dense = Dense(2 * HIDDEN, 24, activation="torch.nn.modules.activation.Tanh")
    modes = (PoolingMode.CLS, PoolingMode.MEAN)
    return SentenceEncoder(
        tiny_transformer("bert", len(tokenizer)), tokenizer, Pooling(HIDDEN, modes), [dense, Normalize()],
        max_seq_length=48, prompts={"query": "ask "}, device="cpu",
    )  # fmt: skip


def weights(module: nn.Module) -> np.ndarray:
    return module.linear.weight.detach().numpy()  # type: ignore[union-attr,no-any-return,operator]


def test_storing_and_loading_the_best_checkpoint_restores_every_module(tmp_path: Path) -> None:
    base = encoder_with_every_module()
    base.save_pretrained(tmp_path / "base")
    toy_rows(LabelKind.SCORED_PAIRS, 200).write_ndjson(tmp_path / "labels.jsonl")
    job = RetrainJob(
        labels_uri=str(tmp_path / "labels.jsonl"),
        models_uri=str(tmp_path / "models"),
        base=str(tmp_path / "base"),
        settings=RetrainSettings.model_validate(
            {
                "labels": LabelSettings(near_duplicate_similarity=1.0, test_share=0.2, dev_share=0.2),
                "training": TrainingSettings(
                    objective=Objective.COSINE, epochs=3, batch_size=16, learning_rate=3e-3, bf16=False
                ),
                "evaluation": {"num_resamples": 100, "bias": False, "speed_texts": 0, "perturbations": []},
                "gate": {"robustness": {"sets": []}},
            }
        ),
    )
    inputs = find_inputs(job, "run")
    result = train_candidate(job, inputs, tmp_path / "work")
    assert result.improved
    trained = load_measured(result.folder)
    report = store_and_promote(job, inputs, result, judge_candidate(job, inputs, result))
    assert report.candidate == "v0002"
    stored = Registry(str(tmp_path / "models")).model_uri("v0002")
    loaded = load_measured(stored)
    assert loaded.fingerprint == trained.fingerprint == report.decision.candidate_fingerprint
    assert [type(layer) for layer in loaded.layers] == [Dense, Normalize]
    assert loaded.pooling.modes == base.pooling.modes
    assert loaded.max_seq_length == 48
    assert loaded.prompts == {"query": "ask "}
    assert np.abs(weights(loaded.layers[0]) - weights(base.layers[0])).max() > 1e-3  # it learnt, and that was kept
    theirs = SentenceTransformer(stored, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(loaded.encode(TEXTS), theirs, atol=1e-5)
