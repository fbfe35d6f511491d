"""Explanations: the parts add up to the cosine, by both methods, and overlooked differences are named."""

import numpy as np
import pytest

from sbert.encoder.modules import Dense
from sbert.encoder.pooling import PoolingMode
from sbert.encoder.side import Side
from sbert.errors import ModelError, SettingsError
from sbert.explanation.explain import Explainer, overlooked_differences
from sbert.explanation.page import explanation_page
from sbert.explanation.reasons import Reason, explain_pairs
from sbert.explanation.settings import ExplanationSettings, Method
from tests.support.tiny_models import prompted_encoder, tiny_encoder

LEFT, RIGHT = "how do i reset my password", "the train to hamburg is late"


def cosine_of(explainer: Explainer, sides: tuple[Side, Side] = (Side.DOCUMENT, Side.DOCUMENT)) -> float:
    encoder = explainer._reader.encoder
    left, right = (encoder.encode([text], side=side)[0] for text, side in zip((LEFT, RIGHT), sides, strict=True))
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


@pytest.mark.parametrize(
    "mode", [PoolingMode.MEAN, PoolingMode.CLS, PoolingMode.WEIGHTED_MEAN, PoolingMode.MEAN_SQRT_LEN]
)
def test_the_parts_of_all_pairs_add_up_to_the_cosine(mode: PoolingMode) -> None:
    explainer = Explainer(tiny_encoder(modes=(mode,)))
    explanation = explainer.explain(LEFT, RIGHT)
    assert explanation.cosine == pytest.approx(cosine_of(explainer), abs=1e-5)
    assert np.sum(explanation.parts) == pytest.approx(explanation.cosine, abs=1e-6)
    assert [word.word for word in explanation.left.words] == LEFT.split()
    assert sum(word.part for word in explanation.left.words) + explanation.left.rest == pytest.approx(
        explanation.cosine, abs=1e-6
    )
    assert sum(word.part for word in explanation.right.words) + explanation.right.rest == pytest.approx(
        explanation.cosine, abs=1e-6
    )


@pytest.mark.parametrize("include_prompt", [True, False])
def test_a_query_is_divided_with_its_prompt(include_prompt: bool) -> None:
    explainer = Explainer(prompted_encoder(include_prompt=include_prompt))
    sides = (Side.QUERY, Side.DOCUMENT)
    explanation = explainer.explain(LEFT, RIGHT, sides=sides)
    assert explanation.cosine == pytest.approx(cosine_of(explainer, sides), abs=1e-5)
    assert [word.word for word in explanation.left.words] == LEFT.split()
    assert explanation.error < 1e-6


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_the_parts_through_the_layers_add_up_within_the_allowed_error(kind: str) -> None:
    explainer = Explainer(tiny_encoder(kind), ExplanationSettings(method=Method.THROUGH_LAYERS))
    explanation = explainer.explain(LEFT, RIGHT)
    assert explanation.cosine == pytest.approx(cosine_of(explainer), abs=1e-5)
    assert np.sum(explanation.parts) == pytest.approx(explanation.cosine, abs=0.1)
    assert explanation.error == pytest.approx(abs(np.sum(explanation.parts) - explanation.cosine), abs=1e-6)


def test_an_encoder_with_layers_after_the_pooling_is_explained_through_the_layers_alone() -> None:
    encoder = tiny_encoder()
    encoder.layers.insert(0, Dense(32, 16, activation="torch.nn.modules.activation.Tanh"))
    with pytest.raises(ModelError, match="explain by the method through-layers"):
        Explainer(encoder).explain(LEFT, RIGHT)
    explanation = Explainer(encoder, ExplanationSettings(method=Method.THROUGH_LAYERS)).explain(LEFT, RIGHT)
    assert explanation.error < 0.1


def test_a_long_text_is_cut_where_the_encoder_cuts_it() -> None:
    explainer = Explainer(tiny_encoder())
    explanation = explainer.explain(" ".join([LEFT] * 20), RIGHT)
    encoder = explainer._reader.encoder
    left, right = encoder.encode([" ".join([LEFT] * 20), RIGHT], side=Side.DOCUMENT)
    assert explanation.left.truncated
    assert not explanation.right.truncated
    assert explanation.cosine == pytest.approx(float(left @ right), abs=1e-5)


def test_pairs_are_sorted_and_a_reason_has_the_first_of_them() -> None:
    explainer = Explainer(tiny_encoder())
    explanation = explainer.explain(LEFT, RIGHT)
    parts = [pair.part for pair in explanation.pairs]
    assert parts == sorted(parts, reverse=True)
    assert explain_pairs(explainer, [(LEFT, RIGHT)]) == [Reason.of(explanation)]
    assert Reason.of(explanation).pairs == tuple(explanation.pairs[:5])


def test_a_reason_names_words_and_no_marks() -> None:
    explanation = Explainer(tiny_encoder()).explain("late. late!", "is it late?")
    assert {".", "!"} <= {pair.left for pair in explanation.pairs}
    reason = Reason.of(explanation, num_pairs=20)
    assert {(pair.left, pair.right) for pair in reason.pairs} == {("late", right) for right in ("is", "it", "late")}
    assert len(reason.pairs) == 6
    assert Reason.of(Explainer(tiny_encoder()).explain("?", "!")).pairs == ()


@pytest.mark.parametrize(("left", "right", "side"), [("", RIGHT, "left"), (RIGHT, " \n", "right")])
def test_an_empty_text_is_refused_by_its_side(left: str, right: str, side: str) -> None:
    with pytest.raises(SettingsError, match=f"the {side} text is empty"):
        Explainer(tiny_encoder()).explain(left, right)


@pytest.mark.parametrize(
    ("left", "right", "kinds"),
    [
        ("The flight leaves at 9.", "The flight leaves at 10.", ["number"]),
        ("You can pay by card.", "You cannot pay by card.", ["negation"]),
        ("You can pay by card.", "Cards are taken.", []),
        ("We met in Rome.", "We met in Paris.", []),
    ],
)
def test_numbers_and_negations_are_named_where_the_vectors_are_near(left: str, right: str, kinds: list[str]) -> None:
    assert [difference.kind.value for difference in overlooked_differences(left, right, 0.95)] == kinds
    assert overlooked_differences(left, right, 0.5) == ()


def test_the_page_escapes_texts_and_shows_the_warning() -> None:
    explainer = Explainer(tiny_encoder(), ExplanationSettings(warn_above=-1))
    page = explanation_page(explainer.explain("<b>cost $9", "cost 10$"))
    assert "&lt;b&gt;cost" in page
    assert "<b>cost" not in page
    assert "the numbers differ: 9 on the left, 10 on the right" in page
