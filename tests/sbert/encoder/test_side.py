"""Every text is encoded with the prompt of its side, everywhere: what is trained, measured and asked is what is stored."""

import ast
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers import SentenceTransformer

from sbert.encoder.pooling import Pooling
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.errors import SettingsError
from sbert.evaluation.evaluate import TextVectors
from tests.support.tiny_models import prompted_encoder

ROOT = Path(__file__).parents[3]
TEXTS = ["how do i reset my password", "the cat sat on mat", "a train to hamburg is late"]


@pytest.fixture
def encoder() -> SentenceEncoder:
    return prompted_encoder()


def test_sides_use_the_prompts_that_sentence_transformers_uses(encoder: SentenceEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)
        queries, documents = theirs.encode_query(TEXTS), theirs.encode_document(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS, side=Side.QUERY), queries, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS, side="document"), documents, atol=1e-5)
    assert np.abs(queries - documents).max() > 1e-2


@pytest.mark.parametrize("name", ["document", "passage", "corpus"])
def test_the_document_prompt_has_three_names(encoder: SentenceEncoder, name: str) -> None:
    encoder.prompts = {"query": "red ", name: "green "}
    assert encoder.prompt_for(Side.DOCUMENT) == "green "
    assert encoder.prompt_for(Side.QUERY) == "red "


def test_a_side_without_a_prompt_does_not_take_the_default_prompt(encoder: SentenceEncoder) -> None:
    encoder.prompts, encoder.default_prompt_name = {"title": "red "}, "title"
    assert encoder.prompt_for(Side.QUERY) == encoder.prompt_for(Side.DOCUMENT) == ""
    np.testing.assert_array_equal(encoder.encode(TEXTS), encoder.encode(TEXTS, prompt_name="title"))


def test_two_prompts_at_once_are_refused(encoder: SentenceEncoder) -> None:
    with pytest.raises(SettingsError, match="name only one of them"):
        encoder.encode(TEXTS, side=Side.QUERY, prompt="red ")


@pytest.mark.parametrize("include_prompt", [True, False])
def test_the_forward_pass_takes_one_number_of_prompt_tokens_for_each_text(include_prompt: bool) -> None:
    encoder = prompted_encoder()
    encoder.pooling = Pooling(encoder.pooling.hidden_size, encoder.pooling.modes, include_prompt=include_prompt)
    query, document = (encoder.prompts[name] for name in ("query", "document"))
    tokens = encoder.tokenize([query + TEXTS[1], document + TEXTS[1]])
    assert len(set(tokens.lengths.tolist())) == 1  # no padding
    ids = torch.from_numpy(tokens.input_ids.astype(np.int64).reshape(2, -1))
    numbers = torch.tensor([encoder.num_prompt_tokens(prompt) for prompt in (query, document)])
    with torch.inference_mode():
        together = encoder(ids, None, numbers).numpy()
    apart = [encoder.encode([TEXTS[1]], side=side)[0] for side in Side]
    np.testing.assert_allclose(together, np.stack(apart), atol=1e-5)


def calls_without_a_side(path: Path) -> list[str]:
    """Return the calls in a file that encode or tokenize texts and do not say with which prompt."""
    calls = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in {"encode", "tokenize"}:
            continue
        names = {keyword.arg for keyword in node.keywords}
        is_codec = all(isinstance(argument, ast.Constant) for argument in node.args)  # "text".encode("utf-8")
        if not is_codec and not names & {"side", "prompt", "prompt_name"}:
            calls.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return calls


def test_no_code_encodes_texts_without_saying_their_side() -> None:
    files = [path for folder in ("sbert", "tasks", "flows") for path in (ROOT / folder).rglob("*.py")]
    outside = [path for path in files if ROOT / "sbert" / "encoder" not in path.parents]
    assert len(outside) > 100
    assert [call for path in outside for call in calls_without_a_side(path)] == []


def test_the_check_finds_a_call_without_a_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sbert.encoder.test_side.ROOT", tmp_path)
    (tmp_path / "module.py").write_text(
        '"a".encode("utf-8")\nencoder.encode(texts, side=side)\nencoder.encode(texts)\n'
    )
    assert calls_without_a_side(tmp_path / "module.py") == ["module.py:3"]


def test_equal_texts_on_two_sides_have_two_vectors(encoder: SentenceEncoder) -> None:
    encode = TextVectors(encoder)
    queries, documents = encode(TEXTS, Side.QUERY), encode(TEXTS, Side.DOCUMENT)
    np.testing.assert_allclose(queries, encoder.encode(TEXTS, side=Side.QUERY), atol=1e-6)
    np.testing.assert_allclose(documents, encoder.encode(TEXTS, side=Side.DOCUMENT), atol=1e-6)
