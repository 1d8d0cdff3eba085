"""How the options of a question look beside each other."""

import math
import random

import pytest

from stretto.policies.evidence.options import LOOKS, looks
from stretto.policies.evidence.reading import MARKS, Asked, marks


def seen(options: dict[str, str], letter: str) -> dict[str, float]:
    """What is told of one option, by names."""
    return dict(zip(LOOKS, looks(options)[letter], strict=True))


def test_the_option_that_the_others_are_variations_of_is_most_like_them() -> None:
    """Each of the others differs from it in one thing; they differ from each other in two."""
    options = {
        "A": "the left lung is collapsed",
        "B": "the left lung is swollen",
        "C": "the right lung is collapsed",
        "D": "gout",
    }
    places = {letter: seen(options, letter)["likeness place"] for letter in options}
    assert max(places, key=lambda letter: places[letter]) == "A"
    assert (places["A"], places["D"]) == (1, 0)
    assert seen(options, "D")["most like"] == 0


def test_a_number_has_its_place_among_the_numbers() -> None:
    """From smallest to largest; how far the nearest and the middle one are; how precisely it is said."""
    options = {"A": "10 m", "B": "1,000 m", "C": "100.0 m", "D": "100 m", "E": "none of them"}
    assert [seen(options, letter)["number place"] for letter in "ABCD"] == [0, 1, 1 / 3, 1 / 3]
    assert seen(options, "C")["equal numbers"] == 1
    assert seen(options, "C")["significant digits"] == 4
    assert seen(options, "B")["nearest number"] == pytest.approx(math.log(10))
    assert seen(options, "B")["furthest number"] == pytest.approx(math.log(100))
    assert seen(options, "B")["from middle number"] == pytest.approx(math.log(10))
    assert seen(options, "E")["number place"] == -1


def test_an_option_that_is_written_otherwise_stands_out() -> None:
    """The share of the others that begin and end as it does, and that have its words."""
    options = {"A": "Iron.", "B": "Iron and zinc.", "C": "Zinc.", "D": "none of these"}
    assert seen(options, "A")["begins alike"] == pytest.approx(2 / 3)
    assert seen(options, "D")["begins alike"] == 0
    assert seen(options, "A")["first word shared"] == 0
    assert seen({"A": "iron", "B": "iron ore"}, "A")["words within"] == 1
    assert seen({"A": "iron", "B": "iron ore"}, "B")["words within"] == 0


def test_any_options_can_be_looked_at() -> None:
    """Whatever stands there, every letter gets finite numbers, one a name."""
    rng = random.Random(3)
    for count in (2, 3, 10):
        options = {
            "ABCDEFGHIJ"[k]: "".join(rng.choices("0 1,.½٣é(x", k=rng.randint(0, 9))) for k in range(count)
        }
        found = looks(options)
        assert list(found) == list(options)
        assert all(len(row) == len(LOOKS) and all(map(math.isfinite, row)) for row in found.values())


def test_they_are_marks_of_the_reply_that_chose_the_option() -> None:
    """The last marks of a reply; zeros where it chose none, or the question has no options."""
    prompt = "How many?\nA. 10\nB. 20\nC. 300"
    asked = Asked.of(prompt)
    assert MARKS[-len(LOOKS) :] == LOOKS
    assert marks(asked, "It is (B).", "B")[-len(LOOKS) :] == looks({"A": "10", "B": "20", "C": "300"})["B"]
    assert not any(marks(asked, "No idea.", "")[-len(LOOKS) :])
    assert not any(marks(Asked.of("How many?"), "20", "20")[-len(LOOKS) :])


def test_named_letters_are_counted() -> None:
    """Which share of the options that the working names is the chosen one."""
    asked = Asked.of("How many?\nA. 10\nB. 20\nC. 300")
    place = MARKS.index("option named")
    assert marks(asked, "Not (A), not (C). So (B).", "B")[place] == pytest.approx(1 / 4)
    assert marks(asked, "(B), since (B) is 20.", "B")[place] == pytest.approx(2 / 3)
