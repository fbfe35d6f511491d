"""Layers of the encoder that learn from base labels: what they learn, how they are stored, when they stay as they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sbert.apply.entities import tuned_layers
from sbert.apply.entities.fit import earlier_fingerprint, fit_tagger, learn_base
from sbert.apply.entities.run import find_entities
from sbert.apply.entities.settings import EntitySettings, TaggerSettings
from sbert.apply.entities.tagger import TAGGERS
from sbert.apply.entities.tuned_layers import TunedLayers, layer_shape, tune_layers
from sbert.apply.marked_texts import MarkedText
from sbert.apply.word_vectors import WordReader, WordVectors
from sbert.encoder.token_vectors import TokenReader
from sbert.errors import TableError
from tests.support.tables import Rows, update, write
from tests.support.tiny_models import save_tiny, tiny_encoder

RED, MAT = {"start": 4, "end": 7, "type": "colour"}, {"start": 17, "end": 20, "type": "thing"}
LABELS: Rows = [{"text": "the red cat on a mat", "entities": [RED, MAT]}] * 3 + [
    {"text": "the cat sat", "entities": []}
]
ENOUGH: Rows = [{**LABELS[number % 4], "text": f"{LABELS[number % 4]['text']} {number}"} for number in range(1_000)]


def marked(rows: Rows) -> list[MarkedText]:
    return [MarkedText.model_validate(row) for row in rows]


def exclusive_texts(number: int, seed: int) -> tuple[list[str], list[np.ndarray]]:
    """Return texts in which the third word is a name if either the first or the last word says so, but not both."""
    rng = np.random.default_rng(seed)
    texts, tags = [], []
    for _ in range(number):
        first, last, colour = rng.integers(2), rng.integers(2), rng.integers(3)
        name = ("red", "green", "blue")[colour]
        texts.append(f"{('select', 'name')[first]} the {name} cat sat on a {('mat', 'train')[last]}")
        tags.append(np.array([0, 0, int(first != last), 0, 0, 0, 0, 0], np.int64))
    return texts, tags


def share_right(tuned: TunedLayers, seen: list[WordVectors], truth: np.ndarray, new: list[WordVectors]) -> np.ndarray:
    """Return for each new text whether its third word is nearer to the third words of names."""
    seen_NE, new_NE = (np.stack([hidden_WE[2] for hidden_WE in tuned.read(words)]) for words in (seen, new))
    centres = [seen_NE[truth == tag].mean(0) for tag in (0, 1)]
    return np.argmin([((new_NE - centre) ** 2).sum(1) for centre in centres], axis=0)


def test_layers_learn_what_a_hidden_layer_alone_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = WordReader(tiny_encoder(), num_open_layers=2)
    shape = layer_shape(reader.encoder, 2)
    assert shape is not None
    texts, tags = exclusive_texts(1_000, 0)
    new_texts, new_tags = exclusive_texts(200, 1)
    words, new_words = reader.read(texts), reader.read(new_texts)
    for name, value in {"NUM_EPOCHS": 16, "TOKEN_DROPOUT": 0.0, "HIDDEN_DROPOUT": 0.0}.items():
        monkeypatch.setattr(tuned_layers, name, value)
    right = []
    for rate in (0.0, 3e-3):
        monkeypatch.setattr(tuned_layers, "LAYER_RATE", rate)
        tuned = tune_layers(reader.encoder, shape, words, tags, num_tags=2, seed=0)
        predicted = share_right(tuned, words, np.array([each[2] for each in tags]), new_words)
        right.append(float((predicted == np.array([each[2] for each in new_tags])).mean()))
    assert right[1] > 0.95
    assert right[0] < 0.85


def test_untouched_layers_give_the_vectors_of_the_encoder() -> None:
    encoder = tiny_encoder()
    shape = layer_shape(encoder, 1)
    assert shape is not None
    plain = TunedLayers(shape)
    plain.layers[0].load_state_dict(encoder.transformer.encoder.layer[-1].state_dict())
    long = "The cat sat on a mat. " * 20
    for text, words in zip(("the red cat", long), WordReader(encoder, num_layers=1, num_open_layers=1).read(
        ["the red cat", long]), strict=True):  # fmt: skip
        assert words.text == text
        assert len(words.pieces) == (1 if text != long else len(words.pieces)) >= 1
        with torch.inference_mode():
            vectors_WH = plain.eval().word_vectors(words.pieces).numpy()
        assert vectors_WH == pytest.approx(words.vectors_WH, abs=0.02)  # the states are kept in float16
    assert len(words.pieces) > 1
    assert sum(piece.num_words for piece in words.pieces) == len(words.words)


def test_more_open_layers_than_there_are_open_all_of_them() -> None:
    reader = TokenReader(tiny_encoder())
    all_LH = reader.read(["the red cat"], num_open_layers=2)[0].states_LH
    assert (reader.read(["the red cat"], num_open_layers=9)[0].states_LH == all_LH).all()
    assert reader.read(["the red cat"])[0].states_LH.shape == (len(all_LH), 0)
    shape = layer_shape(reader.encoder, 9)
    assert shape is not None
    assert shape.num_layers == 2


def test_the_same_seed_gives_the_same_layers_and_the_encoder_stays_as_it_is() -> None:
    reader = WordReader(tiny_encoder(), num_open_layers=2)
    before = reader.encoder._hash()
    learned = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)  # whatever other work draws does not count
        tuned = learn_base(marked(ENOUGH), reader, seed, "base").projection.tuned
        assert tuned is not None
        learned.append(tuned.tensors())
    assert all((learned[0][name] == learned[1][name]).all() for name in learned[0])
    assert any((learned[0][name] != learned[2][name]).any() for name in learned[0])
    assert reader.encoder._hash() == before


@pytest.mark.parametrize("kind", ["mpnet", "modernbert"])
def test_encoders_other_than_bert_stay_as_they_are(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    reader = WordReader(tiny_encoder(kind), num_open_layers=2)
    knowledge = learn_base(marked(ENOUGH), reader, 0, "base.txt")
    assert knowledge.projection.tuned is None
    assert knowledge.frozen == (
        f"the architecture of the encoder is {kind!r}, and layers of BERT alone learn from base labels"
    )
    assert "base.txt: the encoder was not tuned" in caplog.text
    tagger = fit_tagger(
        marked(LABELS), knowledge, reader, TaggerSettings(), fingerprint="", encoder_fingerprint="", where=""
    )
    assert [entity.type for entity in tagger.tag(reader.read(["the red cat on a mat"]))[0]] == ["colour", "thing"]


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str, str]:
    """A table of two texts by the encoder of one kind, labels, and a place for the output."""
    write(tmp_path / "raw/a.jsonl", [{"id": "0", "text": "the red cat on a mat"}, {"id": "1", "text": "the cat sat"}])
    model = save_tiny(tmp_path / "model")
    update(tmp_path / "raw", tmp_path / "table", model=model, settings={"source": {"keep_columns": ["text"]}})
    write(tmp_path / "labels.jsonl", LABELS)
    write(tmp_path / "base.jsonl", ENOUGH)
    return str(tmp_path / "table"), str(tmp_path / "labels.jsonl"), str(tmp_path / "out")


def test_a_run_stores_the_layers_and_a_second_one_computes_nothing(
    places: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EntitySettings(base_labels_uri=str(tmp_path / "base.jsonl"))
    report = find_entities(*places, settings)
    assert report.num_tuned_layers == 2
    assert report.frozen_encoder is None
    assert report.num_entities == 2
    tagger = TAGGERS.find(places[2], report.tagger)
    assert tagger is not None
    assert tagger.projection.tuned is not None
    assert tagger.projection.tuned.tensors()["layers.1.output.dense.weight"].shape == (32, 64)
    with monkeypatch.context() as patch:
        patch.setattr("sbert.apply.entities.fit.tune_layers", None)
        again = find_entities(*places, settings)
    assert again.tagger == report.tagger
    assert again.output.num_rows_built == 0
    frozen = find_entities(*places, settings.model_copy(update={"tagger": TaggerSettings(tuned_layers=0)}))
    assert frozen.num_tuned_layers == 0
    assert frozen.frozen_encoder is None
    assert frozen.tagger != report.tagger
    record = tmp_path / "out/_taggers" / report.tagger / "tagger.json"
    other = json.loads(record.read_text())
    other["tuned"]["intermediate_size"] = 48
    record.write_text(json.dumps(other))
    with pytest.raises(TableError, match=r"(?s)files of the tagger are damaged .*size mismatch"):
        find_entities(*places, settings)


def test_few_base_texts_leave_the_encoder_as_it_is(places: tuple[str, str, str], tmp_path: Path) -> None:
    write(tmp_path / "base.jsonl", ENOUGH[:40])
    report = find_entities(*places, EntitySettings(base_labels_uri=str(tmp_path / "base.jsonl")))
    assert report.num_tuned_layers == 0
    assert report.frozen_encoder == "40 base texts are too few to tune layers of the encoder: it needs 1,000"


def test_a_tagger_of_the_release_before_stays_until_something_changes(
    places: tuple[str, str, str], tmp_path: Path
) -> None:
    assert earlier_fingerprint("labels", "base", "encoder", TaggerSettings()) == "9a8834079ef2dcc08df532d55a2a2a94"
    assert earlier_fingerprint("labels", "base", "encoder", TaggerSettings(tuned_layers=1)) is None
    settings = EntitySettings(
        base_labels_uri=str(tmp_path / "base.jsonl"), tagger=TaggerSettings(tuned_layers=0, seed=3)
    )
    names: list[str | None] = []

    def remember(*parts: object) -> str | None:
        names.append(earlier_fingerprint(*parts))  # type: ignore[arg-type]
        return names[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sbert.apply.entities.run.earlier_fingerprint", remember)
        patch.setattr("sbert.apply.entities.run.tagger_fingerprint", earlier_fingerprint)
        before = find_entities(*places, settings)
    assert before.tagger == names[0]
    record = tmp_path / "out/_taggers" / before.tagger / "tagger.json"
    old_record = {
        name: value for name, value in json.loads(record.read_text()).items() if name not in ("tuned", "frozen")
    }
    record.write_text(json.dumps(old_record))  # as the release before wrote it
    after = find_entities(*places, settings.model_copy(update={"tagger": TaggerSettings(seed=3)}))
    assert after.tagger == before.tagger
    assert after.output.num_rows_built == 0
    changed = find_entities(*places, settings.model_copy(update={"tagger": TaggerSettings(seed=4)}))
    assert changed.num_tuned_layers == 2
