"""Selection: councils, pairs, and how verdicts are read."""

from typing import Any

import pytest

from stretto.policies.fuse import Fuse
from stretto.policies.judging import COMPACT, STANDARD, Wordings, pick, ranking
from stretto.policies.panel.council import borda
from stretto.steps import Choice, Fork, Note, version
from stretto.testing import by_hand, question, said
from stretto.types import Answer, Failure, Limits, Message, Reply


def failed(kind: Any = "overloaded") -> Reply:
    """A reply that is none."""
    return Reply(error=Failure(kind, "said so"))


def notes(steps: list[Any]) -> list[Choice]:
    """The recorded choices."""
    return [s.choice for s in steps if isinstance(s, Note)]


# --- the council ---


def council(verdicts: Any, panel: tuple[str, ...] = ("a", "b", "c"), **fields: Any) -> Any:
    """A panel whose members rank by a function of the answers on their sheet (in the order of the sheet)."""

    def answer(step: Any) -> Reply:
        if step.role != "judge":
            return said(f"{step.worker} says so", step.worker)
        text = step.messages[0].text
        workers = sorted(panel, key=lambda w: text.find(f"{w} says so"))
        return verdicts(step.worker, [w for w in workers if f"{w} says so" in text])

    return by_hand(Fuse(panel, how="rank").plan(question("q", *panel, **fields)), answer)


def by_letter(order: list[str], sheet: list[str]) -> str:
    """A ranking line for workers on a sheet."""
    letters = {worker: chr(65 + n) for n, worker in enumerate(sheet)}
    return "Thinking about A and B...\nFINAL RANKING: " + " > ".join(
        letters[w] for w in order if w in letters
    )


def test_a_council_counts_the_ranks_that_peers_give_each_other() -> None:
    """Nobody ranks its own answer; the mean of the points decides, and each member's figure is on record."""
    sheets: dict[str, list[str]] = {}

    def verdict(reviewer: str, sheet: list[str]) -> Reply:
        sheets[reviewer] = sheet
        return said(by_letter(["b", "c", "a"], sheet), reviewer)

    steps, last = council(verdict)

    assert {reviewer: set(sheet) for reviewer, sheet in sheets.items()} == {
        "a": {"b", "c"},
        "b": {"a", "c"},
        "c": {"a", "b"},
    }
    assert (last.worker, "ranked first by the council" in last.why) == ("b", True)
    assert {o.name: o.estimates["points"] for o in notes(steps)[0].options} == {
        "1: a": 0.0,
        "2: b": 1.0,
        "3: c": 0.5,
    }


def test_each_reviewer_has_an_order_of_its_own_drawn_from_the_seed() -> None:
    """A reviewer's taste for what stands first must not add up; equal seeds draw equally."""
    panel = tuple("abcdef")

    def orders(seed: int) -> list[list[str]]:
        found: list[list[str]] = []

        def verdict(reviewer: str, sheet: list[str]) -> Reply:
            found.append(sheet)
            return said(by_letter(sheet, sheet), reviewer)

        council(verdict, panel, seed=seed)
        return found

    assert orders(1) == orders(1)
    assert any(sheet != sorted(sheet) for sheet in orders(1))
    assert orders(1) != orders(2)


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (failed("limit"), "no member of the council gave a ranking"),
        (said("all fine"), "no member of the council"),
    ],
)
def test_a_council_without_a_verdict_ends_in_a_vote(verdict: Reply, told: str) -> None:
    """The panel's best answer still goes out."""
    _, last = council(lambda reviewer, sheet: verdict)

    assert (last.worker, told in last.why) == ("a", True)


def test_two_answers_are_too_few_for_a_council() -> None:
    """Each could only rank the other first."""
    _, last = council(lambda reviewer, sheet: pytest.fail("nobody is asked"), ("a", "b"))

    assert "too few for a council" in last.why


def test_samples_of_one_model_rank_each_other() -> None:
    """In a panel of one worker the other samples are the peers."""
    numbers = iter(range(9))
    sizes: list[int] = []

    def answer(step: Any) -> Reply:
        if step.role != "judge":
            return said(f"sample {next(numbers)}", "a")
        sizes.append(step.messages[0].text.count("<candidate "))
        return said("Response A, then Response B", "a")

    by_hand(Fuse(("a",) * 3, how="rank").plan(question("q", "a")), answer)

    assert sizes == [2, 2, 2]


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("FINAL RANKING: C > A > B", (2, 0, 1)),
        ("A is weak. FINAL RANKING:\n1. Response B\n2. Response A\n3. Response C", (1, 0, 2)),
        ("**FINAL RANKING**: B", (1,)),
        ("Answer C is best, then answer a.", (2, 0)),
        ("C, B, A", (2, 1, 0)),
        ("B > B > Z > A", (1, 0)),
        ("A fine set of answers", ()),
        ("", ()),
    ],
)
def test_rankings_are_read_as_reviewers_write_them(text: str, order: tuple[int, ...]) -> None:
    """A line, a list, partial ones, letters alone; an article is no vote."""
    assert ranking(text, 3) == order


def test_those_that_a_ranking_leaves_out_share_the_points_that_are_left() -> None:
    """Naming only the best is a verdict, too."""
    assert borda((2,), 3) == {2: 1.0, 0: 0.25, 1: 0.25}
    assert borda((0, 1), 2) == {0: 1.0, 1: 0.0}


@pytest.mark.parametrize(("text", "picked"), [("2", 1), ("Candidate 1!", 0), ("3", None), ("none", None)])
def test_a_pick_names_one_of_the_candidates(text: str, picked: int | None) -> None:
    """The first number counts, if it is one of theirs."""
    assert pick(text, 2) == picked


# --- pairs ---


def pairs(prefer: Any, panel: tuple[str, ...] = ("a", "b", "c"), **fields: Any) -> Any:
    """A panel whose judge compares by `prefer(first, second) -> reply`."""

    def answer(step: Any) -> Reply:
        if step.role != "judge":
            return said(f"{step.worker} says so", step.worker)
        text = step.messages[0].text
        first, second = sorted(
            (w for w in panel if f"{w} says so" in text), key=lambda w: text.find(f"{w} says")
        )
        return prefer(first, second)

    request = question("q", *panel, "j", **fields)
    return by_hand(Fuse(panel, how="pairs", judge="j").plan(request), answer)


def test_pairs_are_judged_in_both_orders_and_most_wins_decide() -> None:
    """Three answers make six comparisons; the one that wins all of its own goes out."""
    steps, last = pairs(lambda one, two: said("2" if two == "c" or (one, two) == ("b", "a") else "1", "j"))

    assert len(steps[1].plans) == 6
    assert (last.worker, last.why) == ("c", "won 4 of 4 comparisons by j")
    assert notes(steps)[0].reason == "won 4 of 4 comparisons by j"


def test_a_judge_that_takes_what_stands_first_decides_nothing() -> None:
    """Its verdicts cancel, the panel's order decides, and the record says how often it contradicted itself."""
    steps, last = pairs(lambda one, two: said("1", "j"))

    assert last.worker == "a"
    assert {o.estimates["wins"] for o in notes(steps)[0].options} == {2.0}
    assert "contradicted itself on 3 of 3 pairs" in notes(steps)[0].reason


def test_equal_answers_are_compared_once() -> None:
    """Two that say the same are one side of a comparison."""
    texts = {"a": "4", "b": "5", "c": "4"}

    steps, last = by_hand(
        Fuse(("a", "b", "c"), how="pairs", judge="j").plan(question("q", "a", "b", "c", "j")),
        lambda s: said("1" if s.role == "judge" else texts[s.worker], s.worker),
    )

    assert len(steps[1].plans) == 2
    assert isinstance(last, Answer)
    assert last.worker == "a"


def test_comparisons_keep_within_the_fan_out() -> None:
    """What does not fit side by side comes one batch after the other."""
    steps, _ = pairs(lambda one, two: said("1", "j"), limits=Limits(fanout=4))

    assert [len(step.plans) for step in steps if isinstance(step, Fork)] == [3, 4, 2]


def test_pairs_without_any_verdict_end_in_a_vote() -> None:
    """The panel's best answer still goes out."""
    _, last = pairs(lambda one, two: failed("limit"))

    assert (last.worker, "gave no verdict on any pair" in last.why) == ("a", True)


@pytest.mark.parametrize("how", ["select", "rank", "pairs"])
def test_nobody_judges_what_all_agree_on(how: Any) -> None:
    """Equal answers need no verdict."""
    policy = Fuse(("a", "b", "c"), how=how, judge="j")

    steps, last = by_hand(policy.plan(question("q", "a", "b", "c", "j")), lambda s: said("4", s.worker))

    assert len(steps) == 1
    assert isinstance(last, Answer)
    assert "all 3 agree" in last.why


# --- wordings ---


def test_the_compact_wordings_are_what_tiny_models_are_trained_on() -> None:
    """A character-level model follows only what it has seen: these texts may change only together with a training."""
    asked = question("What is 2 + 2?", "a")
    four, five = (Answer(Message("assistant", text)) for text in ("4", "5"))

    assert (
        COMPACT.selecting(asked, (four, five))[0].text == "Task: What is 2 + 2?\n1: 4\n2: 5\nWhich is right?"
    )
    assert COMPACT.verifying(asked, four)[0].text == "Task: What is 2 + 2?\nAnswer: 4\nIs it right?"


@pytest.mark.parametrize("wordings", [STANDARD, COMPACT])
def test_long_questions_and_answers_are_cut_and_no_brace_is_read_as_a_place(wordings: Wordings) -> None:
    """The end of a question and the beginning of an answer are kept; what people write is never taken for a template."""
    asked = question("{question} " + "q" * 50_000 + " the end {0}", "a")
    long = Answer(Message("assistant", "{answer} begins" + "a" * 50_000))

    for messages in (
        wordings.selecting(asked, (long, long)),
        wordings.ranking(asked, (long,)),
        wordings.verifying(asked, long),
        wordings.analysing(asked, (long,)),
    ):
        text = messages[0].text
        most = wordings.question_chars + 2 * max(wordings.candidate_chars, wordings.draft_chars) + 1500
        assert len(text) < most
        assert "the end {0}" in text
        assert "{answer} begins" in text


def test_a_policys_version_changes_with_its_wordings() -> None:
    """A replay under other texts is a replay of another policy."""
    assert version(Fuse(("a",))) != version(Fuse(("a",), wordings=COMPACT))
