"""The hash of an encoder changes with every weight and every setting, and with nothing else."""

import hashlib

import torch

from sbert.encoder.fingerprint import hash_encoder

WEIGHTS = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([[3.0]])}


def test_the_hash_is_that_of_settings_and_sorted_weights() -> None:
    digest = hashlib.sha256(b'[1, {"dim": 2}]')
    for name, tensor in sorted(WEIGHTS.items()):
        digest.update(f"{name}|torch.float32|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.numpy().tobytes())
    assert hash_encoder(WEIGHTS, {"dim": 2}) == digest.hexdigest()


def test_the_order_of_weights_and_settings_does_not_matter() -> None:
    reordered = dict(reversed(WEIGHTS.items()))
    assert hash_encoder(WEIGHTS, {"x": 1, "y": 2}) == hash_encoder(reordered, {"y": 2, "x": 1})


def test_every_weight_and_setting_matters() -> None:
    variants = [
        hash_encoder(WEIGHTS, {"dim": 2}),
        hash_encoder(WEIGHTS, {"dim": 3}),
        hash_encoder(WEIGHTS | {"a": torch.tensor([[3.5]])}, {"dim": 2}),
        hash_encoder(WEIGHTS | {"a": torch.tensor([3.0])}, {"dim": 2}),  # another shape
        hash_encoder(WEIGHTS | {"a": torch.tensor([[3.0]], dtype=torch.float64)}, {"dim": 2}),
        hash_encoder({"b": WEIGHTS["b"], "c": WEIGHTS["a"]}, {"dim": 2}),  # another name
    ]
    assert len(set(variants)) == len(variants)
