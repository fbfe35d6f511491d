import pytest

from sbert.rows.text_differences import Difference, DifferenceKind, differences, has_conflict, text_facts


def differing_words(left: str, right: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {difference.kind.value: (difference.left, difference.right) for difference in differences(left, right)}


@pytest.mark.parametrize(
    ("left", "right", "only_left", "only_right"),
    [
        ("It opens at 9.", "It opens at 10.", "9", "10"),
        ("Pay 1,500 dollars", "Pay 1500.50 dollars", "1500", "1500.5"),
        ("He has two cats", "He has three cats", "2", "3"),
        ("sixty-five guests", "66 guests", "65", "66"),
        ("It fell to -5 degrees", "It fell to 5 degrees", "-5", "5"),
        ("The A320 is late", "The A330 is late", "a320", "a330"),
        ("on 2026-11-29", "on 2026-11-30", "29", "30"),
        ("$2 million", "$3 million", "2000000", "3000000"),
    ],
)
def test_other_numbers_are_a_conflict(left: str, right: str, only_left: str, only_right: str) -> None:
    assert differing_words(left, right) == {"number": ((only_left,), (only_right,))}
    assert has_conflict(text_facts(left), text_facts(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1,000 rows", "1000 rows"),
        ("1.0 bar", "1 bar"),
        ("twenty-one days", "21 days"),
        ("2 million users", "2,000,000 users"),
        ("$1.5bn", "$1.5 billion"),
        ("on the 1st of May, 5kg", "on the 1 of May, 5 kg"),
        ("Paris is near", "I think that Paris is near"),
        ("Apple's price fell", "the price of Apple fell"),
        ("I can't pay", "I cannot pay"),
        ("Das geht nicht.", "Das geht niemals."),
        ("Take bus No. 5", "Take bus 5"),
        ("LOST CARD IN LONDON NOW", "lost card in london now"),
    ],
)
def test_another_spelling_is_no_difference(left: str, right: str) -> None:
    assert differences(left, right) == ()


@pytest.mark.parametrize(
    ("plain", "negated", "word"),
    [
        ("I can pay", "I can't pay", "can't"),
        ("He is able to come", "He is unable to come", "unable"),
        ("with sugar", "without sugar", "without"),
        ("Ich habe Zeit", "Ich habe keine Zeit", "keine"),
        ("Je le sais", "Je ne le sais pas", "pas"),
        ("No lo sé, lo quiero", "No lo sé, no lo quiero", "no"),
        ("我同意", "我不同意", "不"),
    ],
)
def test_a_negation_that_one_text_has_more_is_a_conflict(plain: str, negated: str, word: str) -> None:
    assert differing_words(plain, negated)["negation"] == ((), (word,))
    assert differing_words(negated, plain)["negation"] == ((word,), ())
    assert has_conflict(text_facts(plain), text_facts(negated))


def test_other_names_are_a_conflict_and_one_more_name_is_a_detail() -> None:
    other = differences("Please cancel my flight to Berlin", "Please cancel my flight to Paris")
    assert other == (Difference(DifferenceKind.NAME, ("berlin",), ("paris",)),)
    assert other[0].is_conflict
    more = differences("The meeting in Berlin is on Monday", "The meeting is on Monday")
    assert more == (Difference(DifferenceKind.NAME, ("berlin",), ()),)
    assert not more[0].is_conflict


def test_a_number_that_only_one_text_gives_is_a_detail() -> None:
    (number,) = differences("It has 4 wheels", "It has wheels")
    assert number.left == ("4",)
    assert number.right == ()
    assert not number.is_conflict


def test_differences_are_the_same_from_both_sides_for_any_texts() -> None:
    texts = ["", "٣ files", "1" * 5_000, "'' -- ..", "Ünïcödé 12.3.4 NASA no", "½ ² 5", "un in non"]
    for left in texts:
        assert differences(left, left) == ()
        for right in texts:
            mirrored = [Difference(one.kind, one.right, one.left) for one in differences(right, left)]
            assert list(differences(left, right)) == mirrored
