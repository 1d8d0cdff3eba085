"""Equivalence: who says whether two free texts amount to the same, and how much that moves what is believed."""

import math
from collections.abc import Callable
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from stretto.policies.evidence.beliefs import Beliefs, Linear, Posterior  # noqa: E402
from stretto.policies.evidence.equivalence import SHIPPED, Compared, Comparer, divisions, likely, softly  # noqa: E402
from stretto.steps import Ask, Step  # noqa: E402
from stretto.testing import by_hand, question, said  # noqa: E402
from stretto.types import Answer, Failure, Message, Reply  # noqa: E402

ODDS = np.array([[0.4, -0.2, 0.8, 0.1]])
WEIGHTS = np.zeros(23)
WEIGHTS[1] = 0.8  # the log-odds of the naive vote
PLAIN = Posterior(Linear(WEIGHTS, np.zeros(23), np.ones(23)))
JUDGE = Comparer("judge", "referee", 0.9, 0.8)
COIN = Comparer("judge", "coin", 0.5, 0.5)


def after(comparer: Comparer, values: dict[int, str | None], **same: bool) -> Beliefs:
    pairs = {(int(k[1]), int(k[2])): told for k, told in same.items()}
    return softly(PLAIN, comparer, values, Compared(pairs), ODDS)


def said_nothing(ask: Ask) -> Reply:
    raise AssertionError(f"nobody should be asked: {ask}")


def hears(
    comparer: Comparer,
    texts: list[str],
    new: int,
    reply: Callable[[Ask], Reply] = said_nothing,
    workers: tuple[str, ...] = ("referee",),
) -> tuple[list[Ask], Compared]:
    replies = {k: Answer(Message("assistant", text)) for k, text in enumerate(texts)}
    known = Compared()

    def plan() -> Any:
        yield from comparer.hear(question("what?", *workers), new, replies, dict.fromkeys(replies), known)
        return Answer()

    def answer(step: Step) -> Reply:
        assert isinstance(step, Ask)
        return reply(step)

    steps, _ = by_hand(plan(), answer)
    return [s for s in steps if isinstance(s, Ask)], known


def _heard(replies: dict[int, Answer], known: Compared) -> Any:
    yield from JUDGE.hear(question("what?"), 1, replies, dict.fromkeys(replies), known)
    return Answer()


def test_every_way_to_divide_replies_once() -> None:
    """As many as Bell's numbers, none twice."""
    for replies, ways in ((1, 1), (2, 2), (3, 5), (4, 15), (5, 52)):
        rows = divisions(replies)
        assert len({tuple(r) for r in rows.tolist()}) == len(rows) == ways


def test_the_chances_of_the_ways_are_chances() -> None:
    """Over all ways they sum to one; two replies that are wrong for certain coincide as often as was said."""
    odds = np.array([[0.3, -1.0, 2.0, 0.5]])
    total = np.exp(likely(divisions(4), odds, 0.3)).sum() * np.prod(1 - 1 / (1 + np.exp(-odds)))
    assert total == pytest.approx(1.0)
    together, apart = np.exp(likely(divisions(2), np.array([[-8.0, -8.0]]), 0.3))[:, 0]
    assert together / (together + apart) == pytest.approx(0.3, abs=1e-3)


def test_values_that_tell_leave_nothing_to_a_comparer() -> None:
    """Where all replies can be compared the beliefs are the exact ones, the abstention of a worker included."""
    soft = after(JUDGE, {0: "A", 1: "A", 2: "B", 3: ""})
    asked = np.ones((1, 4), dtype=bool)
    hard = Beliefs.after(PLAIN, np.array([[0, 0, 1, -1]]), ODDS, asked)
    assert soft.speaker.tolist() == hard.speaker.tolist()
    assert soft.first == pytest.approx(hard.first)
    assert soft.second == pytest.approx(hard.second)


def test_what_a_coin_says_moves_nothing() -> None:
    """Yes, no, and not a word: the same beliefs, to the last digit."""
    free: dict[int, str | None] = {0: None, 1: None, 2: None}
    silent = after(COIN, free)
    for told in (True, False):
        one = after(COIN, free, p01=told, p02=not told, p12=told)
        assert one.first == pytest.approx(silent.first, abs=1e-12)
        assert one.second == pytest.approx(silent.second, abs=1e-12)
        assert one.speaker.tolist() == silent.speaker.tolist()


def test_the_better_a_comparer_the_more_it_moves() -> None:
    """Agreement by a good comparer lifts the chance, by a poor one less, by a perfect one as equal values do."""
    free: dict[int, str | None] = {0: None, 1: None}
    lifts = []
    for rate in (0.5, 0.6, 0.8, 0.95, 1 - 1e-9):
        comparer = Comparer("judge", "referee", rate, rate)
        lifts.append(float(after(comparer, free, p01=True).first[0]))
        assert float(after(comparer, free, p01=False).first[0]) <= lifts[0] + 1e-9
    assert lifts == sorted(lifts)
    assert lifts[-1] == pytest.approx(float(after(JUDGE, {0: "A", 1: "A"}).first[0]), abs=1e-6)
    assert lifts[0] < lifts[2] < lifts[-1]


def test_a_comparer_that_is_worse_than_a_coin_is_read_the_other_way_round() -> None:
    """Who says "the same" mostly of those that differ, tells with it that they differ."""
    wrong = Comparer("judge", "contrary", 0.1, 0.1)
    free: dict[int, str | None] = {0: None, 1: None}
    assert float(after(wrong, free, p01=True).first[0]) < float(after(wrong, free, p01=False).first[0])


def test_many_replies_are_still_quick_to_weigh() -> None:
    """Ten replies could be divided in 115,975 ways; the likeliest are followed, and agreeing ones are found among them."""
    odds = np.zeros((1, 10))
    pairs = {(a, b): (a < 6) == (b < 6) for a in range(10) for b in range(a + 1, 10)}
    good = Comparer("judge", "referee", 0.95, 0.95)
    found = softly(PLAIN, good, dict.fromkeys(range(10)), Compared(pairs), odds)
    assert int(found.speaker[0]) < 6
    assert float(found.first[0]) > 0.8


def test_a_judge_is_asked_a_pair_a_call() -> None:
    """The new reply beside each before it; its yes and no are kept, anything else leaves the pair open."""
    words = {"two": "Yes.", "three": "no", "four": "perhaps"}

    def reply(ask: Ask) -> Reply:
        assert ask.messages is not None
        return said(next(w for name, w in words.items() if f"\n{name}\n" in ask.messages[0].text), "referee")

    asks, known = hears(JUDGE, ["two", "three", "four", "one"], 3, reply)
    assert [a.role for a in asks] == ["judge"] * 3
    assert all("\none\n" in a.messages[0].text for a in asks if a.messages)
    assert known.same == {(0, 3): True, (1, 3): False}


def test_an_embedder_is_asked_once_a_reply() -> None:
    """All replies without a vector in one ask; near ones are the same."""
    vectors = {"a cat": (1.0, 0.0), "one cat": (0.9, 0.1), "a ship": (0.0, 2.0)}
    near = Comparer("embedding", "referee", 0.9, 0.9, threshold=0.8)

    def reply(ask: Ask) -> Reply:
        assert ask.want == "embedding"
        assert ask.messages is not None
        return said("", "referee", embeddings=tuple(vectors[m.text] for m in ask.messages))

    asks, known = hears(near, list(vectors), 2, reply)
    assert len(asks) == 1
    assert known.same == {(0, 2): False, (1, 2): False}
    _, known = hears(near, ["a cat", "one cat"], 1, reply)
    assert known.same == {(0, 1): True}


def test_the_shipped_embedding_compares_without_an_ask() -> None:
    """It is no worker: nothing is asked, nothing is spent."""
    near = Comparer("embedding", SHIPPED, 0.9, 0.9, threshold=0.9)
    sky = "The sky looks blue since air scatters short waves."
    asks, known = hears(near, [sky, f"{sky} ", "Buy eggs and milk."], 1, workers=())
    assert asks == []
    assert known.same == {(0, 1): True, (1, 2): False}


def test_who_cannot_teach_anything_is_not_asked() -> None:
    """A coin costs nothing."""
    asks, known = hears(COIN, ["one", "two"], 1, workers=("coin",))
    assert asks == []
    assert known.same == {}


def test_a_comparer_that_a_request_may_not_use_is_tried_once() -> None:
    """The door says no, which is recorded there; the pairs stay open."""
    denied = Failure("denied", "not for this request")
    asks, known = hears(JUDGE, ["one", "two", "three"], 2, lambda ask: said("", "referee", error=denied))
    assert len(asks) == 1
    assert known.failed == denied
    replies = {k: Answer(Message("assistant", str(k))) for k in range(2)}
    again, _ = by_hand(_heard(replies, known), lambda step: said_nothing(step))  # type: ignore[arg-type]
    assert again == []


def test_a_comparer_that_fails_leaves_the_pairs_open() -> None:
    """A failure is kept; a refusal by a limit ends the comparing."""
    limit = Failure("limit", "no money left")
    asks, known = hears(JUDGE, ["one", "two", "three"], 2, lambda ask: said("", "referee", error=limit))
    assert len(asks) == 1
    assert known.failed == limit
    assert known.same == {}


def test_a_comparer_is_what_was_learned() -> None:
    """It survives the artefact; a rate that is none, and another way than the learned one, are refused."""
    assert Comparer.of(JUDGE.data) == JUDGE
    assert Comparer.chosen(JUDGE.data, "", "") == JUDGE
    assert Comparer.chosen(JUDGE.data, "exact", "") is None
    assert Comparer.chosen(None, "", "") is None
    renamed = Comparer.chosen(JUDGE.data, "judge", "umpire")
    assert renamed is not None
    assert renamed.worker == "umpire"
    with pytest.raises(ValueError, match="needs an error that was learned"):
        Comparer.chosen(JUDGE.data, "embedding", "")
    with pytest.raises(ValueError, match="no comparer"):
        Comparer.of(JUDGE.data | {"sensitivity": 1.0})
    assert math.isclose(JUDGE.weight(True, True), math.log(0.9))
