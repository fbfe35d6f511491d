"""Every file and field of a model folder that sentence-transformers honours is taken with equal vectors, or refused by name."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import save_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers.base.modules import Dense as TheirDense
    from sentence_transformers.base.modules.transformer import Transformer as TheirTransformer

from sbert.encoder.folder_settings import TEXT_SETTINGS_FILES, read_folder_settings, read_text_settings
from sbert.encoder.model_folder import read_folder
from sbert.encoder.modules import Dense, LayerNorm, Normalize, Truncate
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import ModelError
from tests.support.model_folders import TEXTS, Change, assert_equal_vectors, edit, ours
from tests.support.tiny_models import (
    HIDDEN,
    save_tiny,
    tiny_tokenizer,
    tiny_transformer,
)


def encoder_with(*layers: torch.nn.Module, modes: tuple[PoolingMode, ...] = (PoolingMode.MEAN,)) -> SentenceEncoder:
    """Return a small random encoder with other layers after pooling."""
    tokenizer = tiny_tokenizer()
    return SentenceEncoder(
        tiny_transformer("bert", len(tokenizer)),
        tokenizer,
        Pooling(HIDDEN, modes),
        layers,
        max_seq_length=64,
        device="cpu",
    )


def dense(in_features: int, out_features: int, **options: Any) -> Dense:
    torch.manual_seed(5)
    return Dense(in_features, out_features, activation="torch.nn.modules.activation.Tanh", **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", TEXT_SETTINGS_FILES)
def test_the_settings_of_texts_are_read_under_all_their_names(folder: Path, name: str) -> None:
    (folder / "sentence_bert_config.json").rename(folder / name)
    edit(name, max_seq_length=16)(folder)
    assert assert_equal_vectors(folder).max_seq_length == 16


def test_the_names_are_those_of_sentence_transformers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    load = TheirTransformer.load_config.__func__  # type: ignore[attr-defined]

    def record(path: str, filename: str, **_: Any) -> None:
        asked.append(filename)

    monkeypatch.setattr(
        "sentence_transformers.base.modules.module.load_file_path", lambda **names: record(**names, path="")
    )
    load(TheirTransformer, str(folder))
    assert tuple(asked) == TEXT_SETTINGS_FILES


def test_an_empty_settings_file_gives_way_to_the_next_name(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_text("{}")
    edit("sentence_roberta_config.json", max_seq_length=16)(folder)
    assert assert_equal_vectors(folder).max_seq_length == 16


@pytest.mark.parametrize("name", ["tokenizer_args", "processor_kwargs"])
def test_the_length_among_the_tokenizers_arguments_wins(folder: Path, name: str) -> None:
    edit("sentence_bert_config.json", max_seq_length=32, **{name: {"model_max_length": 16}})(folder)
    assert assert_equal_vectors(folder).max_seq_length == 16


def test_without_a_length_the_tokenizers_own_is_used(folder: Path) -> None:
    edit("sentence_bert_config.json", max_seq_length=None)(folder)
    edit("tokenizer_config.json", model_max_length=24)(folder)
    assert assert_equal_vectors(folder).max_seq_length == 24


def test_texts_are_lower_cased_as_sentence_transformers_does_it(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.NFC()
    encoder = SentenceEncoder(
        tiny_transformer("bert", len(tokenizer)), tokenizer, Pooling(HIDDEN, (PoolingMode.MEAN,)), max_seq_length=64,
        do_lower_case=True, device="cpu",
    )  # fmt: skip
    encoder.save_pretrained(tmp_path)
    assert_equal_vectors(tmp_path)  # the text with [MASK] has a special token, whose name is not lower-cased
    upper, lower = ours(tmp_path).encode(["THE CAT", "the cat"])
    np.testing.assert_array_equal(upper, lower)


@pytest.mark.parametrize(
    "change",
    [
        edit("sentence_bert_config.json", unpad_inputs=False),
        edit("sentence_bert_config.json", transformer_task="feature-extraction", module_output_name="token_embeddings"),
        edit("sentence_bert_config.json", model_args={"torch_dtype": "float32", "attn_implementation": "eager"}),
        edit("sentence_bert_config.json", config_args={"use_cache": False}, query_expansion=None, document_length=None),
        edit("sentence_bert_config.json", processing_kwargs={"image": {"size": 3}}),
        edit(
            "sentence_bert_config.json",
            modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            module_output_name="token_embeddings",
        ),
        edit(
            "config_sentence_transformers.json",
            requirements={"transformers": ">=4", "python": {"specifier": ">=3"}, "torch": "?"},
        ),
        edit(
            "config_sentence_transformers.json",
            prompts={"query": None, "document": "red "},
            default_prompt_name="query",
        ),
        edit("config_sentence_transformers.json", similarity_fn_name="dot", __version__={"pytorch": "2.0"}),
    ],
    ids=lambda change: json.dumps([cell.cell_contents for cell in change.__closure__])[:70],
)
def test_fields_that_do_not_change_vectors_are_accepted(folder: Path, change: Change) -> None:
    change(folder)
    assert_equal_vectors(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("sentence_bert_config.json", transformer_task="fill-mask"), "transformer_task is \"fill-mask\""),
        (edit("sentence_bert_config.json", module_output_name="scores"), "module_output_name is"),
        (edit("sentence_bert_config.json", query_length=16), "query_length is 16"),
        (edit("sentence_bert_config.json", document_length=16), "document_length is 16"),
        (edit("sentence_bert_config.json", query_expansion={"length": 8}), "query_expansion is"),
        (edit("sentence_bert_config.json", tokenizer_name_or_path="other"), "tokenizer_name_or_path is"),
        (edit("sentence_bert_config.json", processing_kwargs={"text": {"max_length": 8}}), "processing_kwargs.text is"),
        (edit("sentence_bert_config.json", modality_config={"message": {}}), "modality_config.message is"),
        (edit("sentence_bert_config.json", tokenizer_args={"truncation_side": "left"}), "processor_kwargs.truncation_side"),
        (edit("sentence_bert_config.json", model_args={"num_labels": 2}), "model_kwargs.num_labels is 2"),
        (edit("sentence_bert_config.json", config_args={"num_hidden_layers": 1}), "config_kwargs.num_hidden_layers is 1"),
        (edit("sentence_bert_config.json", max_seq_length="long"), "max_seq_length is \"long\""),
        (edit("sentence_bert_config.json", something_new=1), "something_new is 1, which is not supported"),
        (edit("config_sentence_transformers.json", model_type="CrossEncoder"), "model_type is \"CrossEncoder\""),
        (edit("config_sentence_transformers.json", requirements={"transformers": ">=999"}), "needs transformers>=999"),
        (edit("config_sentence_transformers.json", requirements={"nobody-has-this": ">=1"}), "it is not installed"),
        (edit("config_sentence_transformers.json", default_prompt_name="title"), "default_prompt_name is 'title'"),
        (edit("config_sentence_transformers.json", truncate_dim=0), "truncate_dim is 0"),
        (edit("1_Pooling/config.json", something_new=1), "something_new is 1"),
        (edit("1_Pooling/config.json", embedding_dimension=16), "pooling takes 16 values, but the transformer gives 32"),
        (edit("2_Normalize/config.json", module_input_name="token_embeddings"), "module_input_name is"),
        (edit("tokenizer_config.json", truncation_side="left"), "truncates texts at their beginning"),
        (edit("adapter_config.json", base_model_name_or_path="a/b", peft_type="LORA"), "holds an adapter for a/b"),
        (edit("config.json", model_type="pegasus"), "pegasus is an encoder-decoder"),
    ],
)  # fmt: skip
def test_fields_that_cannot_be_followed_are_refused_by_name(folder: Path, change: Change, message: str) -> None:
    change(folder)
    with pytest.raises(ModelError, match=message):
        ours(folder)


def change_modules(*modules: tuple[str, str]) -> Change:
    """Return a change that lists other modules, each with its type and its path."""

    def change(folder: Path) -> None:
        entries = [
            {"idx": place, "name": str(place), "path": path, "type": kind} for place, (kind, path) in enumerate(modules)
        ]
        (folder / "modules.json").write_text(json.dumps(entries))

    return change


TRANSFORMER = ("sentence_transformers.models.Transformer", "")
POOLING = ("sentence_transformers.models.Pooling", "1_Pooling")
NORMALIZE = ("sentence_transformers.models.Normalize", "2_Normalize")


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([TRANSFORMER, NORMALIZE], "Normalize stands before Pooling"),
        ([TRANSFORMER], "names no Pooling"),
        ([TRANSFORMER, ("my_code.Pooling", "1_Pooling")], "my_code.Pooling is code of the model's author"),
        ([TRANSFORMER, POOLING, ("sentence_transformers.models.LSTM", "2_LSTM")], "module LSTM"),
        ([POOLING], "expected a Transformer"),
        ([("sentence_transformers.models.Transformer", "../other")], "leads out of the model folder"),
    ],
)
def test_modules_that_are_not_understood_are_refused(
    folder: Path, modules: list[tuple[str, str]], message: str
) -> None:
    change_modules(*modules)(folder)
    with pytest.raises(ModelError, match=message):
        read_folder(folder)


def test_modules_are_applied_in_the_order_of_the_list(folder: Path) -> None:
    entries = json.loads((folder / "modules.json").read_text())
    for entry, number in zip(entries, (0, 7, 3), strict=True):
        entry["idx"] = number
    (folder / "modules.json").write_text(json.dumps(entries))
    assert_equal_vectors(folder)


def test_dropout_changes_nothing_when_texts_are_encoded(folder: Path) -> None:
    change_modules(TRANSFORMER, POOLING, ("sentence_transformers.models.Dropout", "3_Dropout"), NORMALIZE)(folder)
    edit("3_Dropout/config.json")((folder / "3_Dropout").mkdir() or folder)
    assert_equal_vectors(folder)


@pytest.mark.parametrize(
    "layers",
    [
        [Normalize(), dense(HIDDEN, 8)],
        [Normalize(), dense(HIDDEN, 8), Normalize()],
        [dense(HIDDEN, 8, bias=False), Normalize()],
        [dense(HIDDEN, 8, use_residual=True)],
        [dense(HIDDEN, HIDDEN, use_residual=True), Normalize()],
        [LayerNorm(HIDDEN), Normalize()],
        [Normalize(), Truncate(8)],
        [dense(HIDDEN, 16), Truncate(8)],
        [Truncate(HIDDEN + 8)],
    ],
    ids=lambda layers: " ".join(type(layer).__name__ for layer in layers),
)
def test_layers_after_pooling_are_applied_where_they_stand(tmp_path: Path, layers: list[torch.nn.Module]) -> None:
    encoder = encoder_with(*layers)
    encoder.save_pretrained(tmp_path)
    np.testing.assert_allclose(assert_equal_vectors(tmp_path).encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)


def test_normalize_between_layers_is_not_taken_for_the_last(tmp_path: Path) -> None:
    encoder_with(Normalize(), dense(HIDDEN, 8)).save_pretrained(tmp_path)
    plain = ours(tmp_path)
    assert not plain.normalizes
    vectors = plain.encode(TEXTS)
    unit, unchanged = ours(tmp_path, normalize=True), ours(tmp_path, normalize=False)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(unit.encode(TEXTS), vectors / lengths, atol=1e-6)
    np.testing.assert_allclose(unchanged.encode(TEXTS), vectors, atol=1e-6)  # the inner one stays
    assert unchanged.fingerprint == plain.fingerprint != unit.fingerprint


def test_truncated_vectors_can_be_normalized_but_then_not_be_saved(tmp_path: Path) -> None:
    encoder_with(Normalize(), Truncate(8)).save_pretrained(tmp_path / "a")
    unit = ours(tmp_path / "a", normalize=True)
    assert unit.dim == 8
    np.testing.assert_allclose(np.linalg.norm(unit.encode(TEXTS), axis=1), 1.0, atol=1e-6)
    with pytest.raises(ModelError, match="load it without `normalize`"):
        unit.save_pretrained(tmp_path / "b")


def test_the_weights_of_a_further_layer_are_part_of_the_fingerprint() -> None:
    layers = [
        dense(HIDDEN, HIDDEN),
        dense(HIDDEN, HIDDEN, use_residual=True),
        Truncate(8),
        LayerNorm(HIDDEN),
        Normalize(),
    ]
    assert len({encoder_with(layer).fingerprint for layer in layers}) == len(layers)


def test_layers_of_other_sizes_are_refused(tmp_path: Path) -> None:
    encoder_with(Normalize(), dense(HIDDEN, 8)).save_pretrained(tmp_path)
    save_file(
        {"linear.weight": torch.zeros(8, 16), "linear.bias": torch.zeros(8)}, tmp_path / "3_Dense/model.safetensors"
    )
    with pytest.raises(ModelError, match=r"does not fit config\.json"):
        ours(tmp_path)
    edit("3_Dense/config.json", in_features=16)(tmp_path)
    with pytest.raises(ModelError, match="Dense takes 16 values, the module before it gives 32"):
        ours(tmp_path)


def test_the_fields_of_dense_are_those_of_sentence_transformers() -> None:
    our_fields = {"in_features", "out_features", "bias", "activation_function", "use_residual"}
    assert set(TheirDense.config_keys) == our_fields | {"module_input_name", "module_output_name"}


def test_a_saved_folder_keeps_what_does_not_concern_vectors(folder: Path, tmp_path: Path) -> None:
    edit("config_sentence_transformers.json", similarity_fn_name="dot", prompts={"query": "red "})(folder)
    ours(folder).save_pretrained(tmp_path / "again")
    settings = read_folder_settings(tmp_path / "again")
    assert settings.similarity_fn_name == "dot"
    assert settings.prompts == {"query": "red "}
    assert read_text_settings(tmp_path / "again").max_seq_length == 64


def test_token_types_are_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    for piece in content["post_processor"]["single"]:
        for value in piece.values():
            value["type_id"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="token types other than 0"):
        ours(folder)


def test_a_folder_of_version_2_reads_as_before(folder: Path) -> None:
    shutil.rmtree(folder / "1_Pooling")
    (folder / "1_Pooling").mkdir()
    flags = dict.fromkeys(
        ("pooling_mode_cls_token", "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens"), False
    )
    edit("1_Pooling/config.json", word_embedding_dimension=HIDDEN, pooling_mode_mean_tokens=True, **flags)(folder)
    change_modules(TRANSFORMER, POOLING, NORMALIZE)(folder)
    assert_equal_vectors(folder)


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "pickled .pytorch_model.bin.",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    ],
)
def test_folders_with_missing_or_unsafe_files_are_refused(folder: Path, arrange: Change, message: str) -> None:
    arrange(folder)
    with pytest.raises(ModelError, match=message):
        ours(folder)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path / "a", "bert")
    save_tiny(tmp_path / "b", "distilbert")
    (tmp_path / "a/model.safetensors").write_bytes((tmp_path / "b/model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="would be random"):
        ours(tmp_path / "a")
