"""Token ids as arrays, worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization.token_ids import gather_ranges, plain_tokenizer, special_token_counts
from tests.support.tiny_models import tiny_encoder, tiny_tokenizer


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return tiny_encoder()


def pieces(encoder: SentenceEncoder, ids: np.ndarray) -> list[str]:
    return encoder.hf_tokenizer.convert_ids_to_tokens(ids.tolist())


def test_all_sequences_lie_one_after_the_other(encoder: SentenceEncoder) -> None:
    tokens = encoder.tokenize(["the cat", "", "red"])
    assert tokens.offsets.tolist() == [0, 4, 6, 9]
    assert tokens.lengths.tolist() == tokens.num_tokens.tolist() == [4, 2, 3]
    assert pieces(encoder, tokens.input_ids) == [
        "[CLS]",
        "the",
        "cat",
        "[SEP]",
        "[CLS]",
        "[SEP]",
        "[CLS]",
        "red",
        "[SEP]",
    ]
    assert tokens.to_frame().to_dicts()[2]["input_ids"] == tokens.input_ids[6:].tolist()


def test_a_truncated_text_keeps_its_first_tokens_and_the_special_tokens_at_its_end() -> None:
    encoder = tiny_encoder()
    encoder.max_seq_length = 4
    tokens = encoder.tokenize(["one two three four", "the cat"])
    assert pieces(encoder, tokens.input_ids) == ["[CLS]", "one", "two", "[SEP]", "[CLS]", "the", "cat", "[SEP]"]
    assert tokens.truncated.tolist() == [True, False]
    assert tokens.num_tokens.tolist() == [6, 4]  # before truncation


def test_the_tokens_of_a_prompt_are_counted_with_the_leading_special_token(encoder: SentenceEncoder) -> None:
    assert encoder.num_prompt_tokens("") == 0
    assert encoder.num_prompt_tokens("red blue ") == 3  # [CLS] red blue
    tokens = encoder.tokenize(["the cat"], prompt="red blue ")
    assert tokens.num_prompt_tokens == 3
    assert pieces(encoder, tokens.input_ids) == ["[CLS]", "red", "blue", "the", "cat", "[SEP]"]


def test_special_tokens_are_counted_before_and_after_a_text(encoder: SentenceEncoder) -> None:
    assert special_token_counts(plain_tokenizer(tiny_tokenizer(), do_lower_case=False)) == (1, 1)


@given(ranges=st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 20)), max_size=30))
def test_ranges_are_gathered_one_after_the_other(ranges: list[tuple[int, int]]) -> None:
    begins, lengths = (np.array([each[at] for each in ranges], dtype=np.int64) for at in (0, 1))
    expected = [number for begin, length in ranges for number in range(begin, begin + length)]
    assert gather_ranges(begins, lengths).tolist() == expected
