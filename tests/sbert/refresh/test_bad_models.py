"""Models and vectors that must not be published: each refused with its reason, the table as it was."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sbert.encoder.description import EncoderSpec
from sbert.encoder.process_cache import load_encoder
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import (
    EncoderMismatchError,
    ModelError,
    QualityError,
    SbertError,
)
from sbert.table.commit import commit
from sbert.table.delta import Table
from sbert.table.shards import ShardSettings, ShardWriter, table_schema
from tests.support.library_runs import ids_of, refresh
from tests.support.tables import read, rows, write
from tests.support.tiny_models import save_tiny, tiny_encoder


def _without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def _pickled(folder: Path) -> None:
    encoder = tiny_encoder()
    torch.save(dict(encoder.transformer.state_dict()), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _collapsed(folder: Path) -> None:
    encoder = tiny_encoder()
    with torch.no_grad():
        for parameter in encoder.transformer.parameters():
            if parameter.ndim == 2:
                parameter.zero_()
            else:
                parameter.fill_(0.5)
        encoder.transformer.encoder.layer[-1].output.LayerNorm.bias.copy_(torch.arange(32) / 32)
    encoder.save_pretrained(folder)


def _with_nan(folder: Path) -> None:
    encoder = tiny_encoder()
    with torch.no_grad():
        encoder.transformer.encoder.layer[0].output.dense.weight[0, 0] = float("nan")
    encoder.save_pretrained(folder)


@pytest.mark.parametrize(
    ("arrange", "error", "message"),
    [
        (_without_tokenizer, ModelError, "tokenizer"),
        (_pickled, ModelError, r"safetensors"),
        (_collapsed, QualityError, "the encoder has collapsed or was loaded wrongly, nothing was published"),
        (_with_nan, QualityError, "NaN"),
        (shutil.rmtree, SbertError, "no such model folder"),
    ],
)
def test_a_model_whose_vectors_cannot_be_trusted_is_refused_and_makes_no_table(
    tmp_path: Path, arrange: Callable[[Path], None], error: type[SbertError], message: str
) -> None:
    save_tiny(tmp_path / "model")
    arrange(tmp_path / "model")
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    with pytest.raises(error, match=message):
        refresh(tmp_path / "raw", tmp_path / "table", model=str(tmp_path / "model"))
    assert not (tmp_path / "table").exists()


def test_vectors_that_are_all_alike_are_not_published(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    # The tiny model knows no Cyrillic letters: for it these are one text.
    words = [first + second for first in "бгджзлнф" for second in "бгджзлнфш"]
    write(tmp_path / "raw/b.jsonl", [{"id": f"b{n}", "text": word} for n, word in enumerate(words)])
    with pytest.raises(QualityError, match=r"mean cosine of 1\.0000"):
        refresh(tmp_path / "raw/b.jsonl", tmp_path / "table", allow_drop=True)
    assert Table.open(str(tmp_path / "table")).version == 0
    assert ids_of(tmp_path / "table") == {str(n) for n in range(10)}


def test_a_table_refuses_rows_of_another_encoder(tmp_path: Path, model: str) -> None:
    write(tmp_path / "raw/a.jsonl", rows(0, 10))
    refresh(tmp_path / "raw", tmp_path / "table", model=model)
    table = Table.open(str(tmp_path / "table"))
    stranger = table.encoder.model_copy(update={"fingerprint": "f" * 64})
    with ShardWriter(table.uri, "e" * 32, table_schema({}), ShardSettings()) as writer:
        writer.write(read(table.uri).to_arrow())
        shards = writer.close()
    with pytest.raises(EncoderMismatchError, match=r"of an encoder with fingerprint f{12}: choose the table's encoder"):
        commit(table.uri, table, add=shards, drop=[], encoder=stranger, kept_schema={}, metadata={})
    assert Table.open(table.uri).version == 0
    assert read(table.uri).height == 10


def test_models_that_failed_to_load_do_not_replace_the_encoder_of_the_process(model: str) -> None:
    """The process keeps one encoder: failed loads must not have replaced it by something else."""
    loaded = load_encoder(EncoderSpec(model=model, normalize=True))
    assert loaded.fingerprint == SentenceEncoder.from_pretrained(model, normalize=True).fingerprint
