"""Mining: one partner each by the greatest margin, checks, and independence of how rows were read."""

import numpy as np
import pytest

from sbert.apply.alignment.checks import NoMatch, facts_of
from sbert.apply.alignment.languages import guess_language
from sbert.apply.alignment.mining import Alignment, align_vectors, in_memory
from sbert.apply.alignment.sides import distance_of
from sbert.vectors.precision import Float32


def unit(vectors: Float32) -> Float32:
    scaled: Float32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def mined(
    left: Float32,
    right: Float32,
    texts: tuple[list[str | None], list[str | None]] | None = None,
    *,
    block_rows: int = 100,
    min_margin: float = 0.0,
) -> Alignment:
    ours, theirs = texts or ([None] * len(left), [None] * len(right))
    return align_vectors(
        in_memory(left, block_rows),
        in_memory(right, block_rows),
        (facts_of(ours), facts_of(theirs)),
        (np.arange(len(left)), np.arange(len(right))),
        k=4,
        min_margin=min_margin,
        max_length_ratio=2.5,
    )


def noisy_copies(num: int) -> tuple[Float32, Float32]:
    random = np.random.default_rng(0)
    left = unit(random.normal(size=(num, 16)).astype(np.float32))
    return left, unit(left + 0.1 * random.normal(size=left.shape).astype(np.float32))


def test_noisy_copies_find_each_other_whatever_the_blocks() -> None:
    left, right = noisy_copies(60)
    alignment = mined(left, right)
    assert alignment.partner_N.tolist() == list(range(60))
    again = mined(left, right, block_rows=7)
    assert again.partner_N.tolist() == alignment.partner_N.tolist()
    np.testing.assert_allclose(again.margin_N, alignment.margin_N, rtol=1e-5)


def test_a_row_that_is_near_to_everything_is_given_once() -> None:
    # The first right row is the nearest of both left rows. Margins: the mean of its cosines is (0.9 + 0.8) / 2.
    left = np.array([[1, 0, 0], [0.9, np.sqrt(1 - 0.81), 0]], np.float32)
    right = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    alignment = mined(left, right)
    assert alignment.partner_N.tolist() == [0, 1]
    assert mined(left, right[:1]).partner_N.tolist() == [0, -1]
    assert mined(left, right[:1]).reason_N.tolist() == [None, NoMatch.TAKEN]


def test_the_margin_is_the_cosine_over_the_mean_of_both_sides() -> None:
    # cosines: row 0: 1 and 0.6, row 1: 0 and 0.8; means of rows 0.8 and 0.4, of columns 0.5 and 0.7
    left, right = np.eye(2, dtype=np.float32), np.array([[1, 0], [0.6, 0.8]], np.float32)
    alignment = mined(left, right)
    assert alignment.margin_N.tolist() == pytest.approx([1 / 0.65, 0.8 / 0.55])
    strict = mined(left, right, min_margin=1.5)
    assert strict.partner_N.tolist() == [0, -1]
    assert strict.reason_N[1] is NoMatch.MARGIN


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        ("Der Zug fährt um 9 Uhr nach Hamburg.", None),
        ("Der Zug fährt um 10 Uhr nach Hamburg.", NoMatch.NUMBERS),
        ("Der Zug fährt um 9 Uhr nach Hamburg." + " Und das ist noch nicht alles." * 5, NoMatch.LENGTH),
        ("The train of 9 goes to Hamburg, and it is late.", NoMatch.LANGUAGE),
    ],
)
def test_a_pair_that_fails_a_check_is_none(right: str, reason: NoMatch | None) -> None:
    left, vectors = noisy_copies(12)
    english: list[str | None] = ["The train goes to Hamburg at 9 and it is late."] * 12
    german: list[str | None] = ["Der Zug nach Hamburg ist nicht da, er hat Verspätung."] * 11
    alignment = mined(left, vectors, (english, [right, *german]))
    assert alignment.reason_N[0] is reason
    assert alignment.partner_N[1:].tolist() == list(range(1, 12))


def test_a_row_whose_partner_is_given_away_shows_its_best_pair() -> None:
    """A plain walk over all pairs, the greatest margin first, is the reference."""
    random = np.random.default_rng(3)
    left, right = (unit(random.normal(size=(num, 3)).astype(np.float32)) for num in (40, 25))
    texts: tuple[list[str | None], list[str | None]] = (
        [f"{row % 3}" for row in range(40)],
        [f"{row % 4}" for row in range(25)],
    )
    alignment = mined(left, right, texts, min_margin=1.0)
    cosine = left @ right.T
    means = [np.sort(each, axis=1)[:, -4:].mean(axis=1) for each in (cosine, cosine.T)]
    margin = cosine / ((means[0][:, None] + means[1][None]) / 2)
    near = (margin > -9) & ((np.argsort(np.argsort(-cosine, 1), 1) < 4) | (np.argsort(np.argsort(-cosine, 0), 0) < 4))
    partners, reasons = [-1] * 40, [None] * 40
    for row, column in sorted(zip(*np.nonzero(near), strict=True), key=lambda pair: -margin[pair]):
        if partners[row] != -1:
            continue
        numbers = texts[0][row] != texts[1][column]
        reason = NoMatch.NUMBERS if numbers else NoMatch.MARGIN if margin[row, column] < 1 else None
        reason = reason or (NoMatch.TAKEN if column in partners else None)
        if reason is None:
            partners[row], reasons[row] = column, None
        elif reasons[row] is None:
            reasons[row] = reason
    assert alignment.partner_N.tolist() == partners
    assert alignment.reason_N.tolist() == reasons
    assert len(set(reasons)) == 4


def test_an_empty_side_gives_no_partner() -> None:
    left, _ = noisy_copies(3)
    assert mined(left, left[:0]).reason_N.tolist() == [NoMatch.TAKEN] * 3
    assert len(mined(left[:0], left).partner_N) == 0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Das ist nicht mein Hund.", "de"),
        ("This is not my dog.", "en"),
        ("Ce n'est pas mon chien, il est dans la rue.", "fr"),
        ("No es mi perro, es un gato y está muy bien.", "es"),
        ("明天见", "CJK"),
        ("Это не моя собака", "CYRILLIC"),
        ("Tom!", ""),
        ("", ""),
    ],
)
def test_the_language_of_a_sentence_is_guessed_or_left_open(text: str, language: str) -> None:
    assert guess_language(text) == language


def test_sides_whose_vectors_are_far_apart_are_named(caplog: pytest.LogCaptureFixture) -> None:
    assert not distance_of(0.8, 0.6, "left", "right", "model").are_far_apart
    assert not caplog.records
    assert distance_of(0.3, 0.6, "left", "right", "model").are_far_apart
    assert "may not know one of the languages" in caplog.text
