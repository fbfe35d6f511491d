"""Words of texts: their places, their vectors, and texts that are longer than the encoder reads."""

import numpy as np
import pytest

from sbert.apply.word_vectors import NUM_SHAPES, WordReader, shapes_of
from tests.support.tiny_models import prompted_encoder, tiny_encoder


def test_a_word_is_the_mean_of_its_tokens() -> None:
    encoder = tiny_encoder()
    text = "the cat zap-zap"
    (words,) = WordReader(encoder, num_layers=1).read([text])
    assert [text[start:end] for start, end in words.words] == ["the", "cat", "zap", "-", "zap"]
    from sbert.encoder.token_vectors import TokenReader

    tokens = TokenReader(encoder).read([text])[0]
    expected = np.stack([tokens.vectors_LH[tokens.word_of_token == number].mean(0) for number in range(5)])
    assert words.vectors_WH == pytest.approx(expected, abs=1e-6)
    assert words.whole_H == pytest.approx(expected.mean(0), abs=1e-6)


@pytest.mark.parametrize("make", [tiny_encoder, prompted_encoder])
def test_every_word_of_a_long_text_has_a_vector(make: object) -> None:
    encoder = make()  # type: ignore[operator]
    text = "The cat sat on a mat. " * 20 + "word" * 3
    (words,) = WordReader(encoder, prompt="text: ").read([text])
    cut_words = [text[start:end] for start, end in words.words]
    assert cut_words == text.replace(".", " .").split()
    assert words.vectors_WH.shape == (len(cut_words), 32)
    assert np.isfinite(words.vectors_WH).all()
    assert words.shapes_WS.shape == (len(cut_words), NUM_SHAPES)


def test_empty_texts_have_no_words() -> None:
    for words in WordReader(tiny_encoder()).read(["", "  "]):
        assert words.words == ()
        assert words.vectors_WH.shape == (0, 32)
        assert not words.whole_H.any()


def test_a_word_that_alone_is_too_long_ends_the_text() -> None:
    (words,) = WordReader(tiny_encoder()).read(["z" * 500])
    assert len(words.words) >= 1


def test_shapes_tell_capitals_digits_and_signs() -> None:
    text = "Zoe met NASA and iPod 42 ."
    places = [(0, 3), (4, 7), (8, 12), (13, 16), (17, 21), (22, 24), (25, 26)]
    shapes = shapes_of(text, places)
    assert shapes[0, :5].tolist() == [1, 1, 0, 0, 0]
    assert shapes[2, :5].tolist() == [1, 0, 1, 1, 0]
    assert shapes[4, 5] == 1
    assert shapes[5, 6:8].tolist() == [1, 1]
    assert shapes[6, 8:10].tolist() == [1, 1]
    assert shapes[0, 10:] == pytest.approx([2 / 6, 1 / 6])
