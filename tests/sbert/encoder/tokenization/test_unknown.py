"""Unknown tokens of every kind of tokenizer, and the characters that they hide."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from sbert.encoder.tokenization.unknown import hidden_characters, unknown_token
from tests.support.tiny_models import tiny_tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def byte_level() -> Tokenizer:
    letters = {letter: number for number, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "unknown", "hidden"),
    [
        (tiny_tokenizer().backend_tokenizer, "[UNK]", [0, 3, 4, 0]),
        (unigram(), "<unk>", [1, 3, 4, 0]),
        (byte_level(), None, [0, 0, 0, 0]),
    ],
    ids=["WordPiece", "Unigram", "byte-level BPE"],
)
def test_every_character_of_an_unknown_token_counts_but_the_first(
    tokenizer: Tokenizer, unknown: str | None, hidden: list[int]
) -> None:
    assert unknown_token(tokenizer) == unknown
    assert hidden_characters(tokenizer, ["ab xy", "ab ቃሌንን", "ንዴት እንዴ", ""]) == hidden
