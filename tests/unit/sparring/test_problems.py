"""Sparring problems: made from a seed, one right answer, splits that never share a payload, composites that lead somewhere."""

import itertools
import re
from typing import cast, get_args

import pytest

from stretto.sparring.graders import grade
from stretto.sparring.problems import (
    FAMILIES,
    PAIRS,
    UNSEEN_PAIRS,
    Problem,
    Split,
    composites,
    handovers,
    problems,
    split_of,
)
from stretto.sparring.skills import SKILLS
from stretto.sparring.vocabulary import prompt_tokens
from stretto.sparring.wordings import AFTERWARDS, AFTERWARDS_UNSEEN, GIVEN, WORDINGS
from tests.unit.sparring import by_hand

SPLITS = cast(tuple[Split, ...], get_args(Split))


def plain(text: str) -> str:
    """A prompt without what people leave out or put around."""
    return text.lower().removeprefix("please ").rstrip(".?").replace('"', "").replace("'", "").strip()


def test_same_seed_same_problems() -> None:
    """Equal arguments give equal problems, another seed gives others; the same for hand-overs and composites."""
    assert problems(FAMILIES, "test", 40, 7) == problems(FAMILIES, "test", 40, 7)
    assert problems(FAMILIES, "test", 40, 7) != problems(FAMILIES, "test", 40, 8)
    assert handovers(FAMILIES, "test", 40, 7) == handovers(FAMILIES, "test", 40, 7)
    assert handovers(FAMILIES, "test", 40, 7) != handovers(FAMILIES, "test", 40, 8)
    assert composites("test", 40, 7, steps=(2, 3)) == composites("test", 40, 7, steps=(2, 3))
    assert composites("test", 40, 7) != composites("test", 40, 8)


def test_the_first_problems_do_not_depend_on_how_many_are_made() -> None:
    """A longer list begins with the shorter one, so a problem can be made again alone."""
    assert problems(FAMILIES, "test", 60, 7)[:20] == problems(FAMILIES, "test", 20, 7)
    assert composites("test", 20, 7)[:5] == composites("test", 5, 7)


def test_families_take_turns() -> None:
    """Twenty families, in the order asked for, in turns; each covers what the issue names."""
    assert len(FAMILIES) == 20
    assert set(FAMILIES) == set(SKILLS) == set(WORDINGS)
    assert [problem.family for problem in problems(FAMILIES, "train", 40, 1)] == [*FAMILIES, *FAMILIES]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_right(family: str) -> None:
    """Every answer agrees with other code that reads the prompt, and is graded right as the worker writes it."""
    for split in SPLITS:
        for problem in problems([family], split, 150, 9):
            assert problem.answer == by_hand.solved(family, *by_hand.read(family, problem.prompt)), problem
            assert grade(problem, problem.worked) == grade(problem, problem.answer) == 1.0


@pytest.mark.parametrize("split", SPLITS)
def test_payload_decides_split(split: Split) -> None:
    """Every payload, read back from the prompt, belongs to the split that was asked for: nothing tested was trained on."""
    made = problems(FAMILIES, split, 1000, 3)
    assert {problem.split for problem in made} == {split}
    for problem in made:
        assert {split_of(part) for part in by_hand.payload(problem)} == {split}, problem


def test_splits_share_no_payload() -> None:
    """The payloads of the three splits are disjoint in every family, and eight, one and one in ten."""
    for family in FAMILIES:
        found = [{p for made in problems([family], s, 300, 2) for p in by_hand.payload(made)} for s in SPLITS]
        assert not any(a & b for a, b in itertools.combinations(found, 2)), family
    buckets = [split_of(str(number)) for number in range(20_000)]
    shares = [buckets.count(split) / len(buckets) for split in SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_wording_is_used_and_no_unseen_one(family: str) -> None:
    """All wordings of a family appear among a few hundred training problems; the unseen ones never do."""
    wordings = WORDINGS[family]
    seen = set()
    for problem in problems([family], "train", 400, 1):
        value, number, letter = by_hand.read(family, problem.prompt)
        pairs = [(value, number), (number, value)] if number else [(value, number)]
        texts = {
            plain(text.format(v=v, b=b, c=letter, k=number)): text
            for text in (*wordings.does, *wordings.asks)
            for v, b in pairs
        }
        assert plain(problem.prompt) in texts, problem.prompt
        seen.add(texts[plain(problem.prompt)])
    assert seen == {*wordings.does, *wordings.asks}
    assert not {plain(text) for text in wordings.unseen} & {plain(text) for text in seen}


def test_unseen_wordings_ask_the_same_in_other_words() -> None:
    """The unseen twin of a problem has its answer and its working, and another prompt."""
    seen = problems(FAMILIES, "test", 400, 5)
    unseen = problems(FAMILIES, "test", 400, 5, unseen_wordings=True)
    for one, other in zip(seen, unseen, strict=True):
        assert (one.family, one.answer) == (other.family, other.answer)
        assert plain(one.prompt) != plain(other.prompt)


def test_hand_overs() -> None:
    """The order refers to the last `Given:` line; the answer agrees with other code; the payload is of the split."""
    for split in SPLITS:
        for problem in handovers(FAMILIES, split, 600, 4):
            *given, order = problem.prompt.split("\n")
            assert 1 <= len(given) <= 2
            value = given[-1].removeprefix(GIVEN.partition("{")[0])
            if "first one" in order or "last one" in order:
                assert ", " in value
                value = value.split(", ")[0 if "first one" in order else -1]
            number, letter = by_hand.parameters(problem.family, order)
            assert problem.answer == by_hand.solved(problem.family, value, number, letter), problem
            key = "+".join(sorted((value, number), key=int)) if value.isdigit() and number else value
            parts = key.split(", ") if key.replace(", ", "").isalpha() else [key]
            if problem.family != "from-roman":
                assert {split_of(part) for part in parts} == {split}, problem


def _check_steps(problem: Problem) -> None:
    """The steps lead from the payload to the answer, and their orders stand in the prompt, one after the other."""
    first = problem.steps[0]
    value = by_hand.solved(first.family, *by_hand.read(first.family, first.task))
    assert value == first.answer
    at = problem.prompt.lower().index(first.task.lower().rstrip("."))
    for step in problem.steps[1:]:
        if SKILLS[step.family].takes in ("word", "number") and ", " in value:
            assert "first one" in step.task or "last one" in step.task, problem
            value = value.split(", ")[0 if "first one" in step.task else -1]
        else:
            assert not re.search("(first|last) one", step.task), problem
        value = by_hand.solved(step.family, value, *by_hand.parameters(step.family, step.task))
        assert value == step.answer, problem
        at = problem.prompt.lower().index(step.task.lower().rstrip("."), at + 1)
    assert value == problem.answer


@pytest.mark.parametrize("unseen", [False, True])
def test_composites_lead_to_their_answer(unseen: bool) -> None:
    """Worked step by step by other code, every composite gives its answer; the payload is of the split."""
    for problem in composites("test", 400, 6, steps=(2, 3), unseen_pairs=unseen, unseen_wordings=unseen):
        _check_steps(problem)
        assert problem.family == "+".join(step.family for step in problem.steps)
        parts = by_hand.payload(
            Problem("", problem.steps[0].family, problem.steps[0].task, "", "", problem.split)
        )
        assert {split_of(part) for part in parts} == {"test"}


def test_unseen_pairs_are_never_trained_on() -> None:
    """Of all pairs about one in six is held out; composites have one exactly where they are asked to."""
    held = set(UNSEEN_PAIRS)
    assert held < set(PAIRS)
    assert 0.1 < len(held) / len(PAIRS) < 0.25
    for unseen in (False, True):
        for problem in composites("train", 500, 2, steps=(2, 3), unseen_pairs=unseen):
            pairs = set(itertools.pairwise(step.family for step in problem.steps))
            assert pairs <= set(PAIRS)
            assert bool(pairs & held) == unseen


def test_composites_use_every_pair_and_every_form() -> None:
    """Among a few thousand composites each pair and each way to join the steps appears; the unseen ways never do."""
    made = composites("train", 3000, 1)
    pairs = {(problem.steps[0].family, problem.steps[1].family) for problem in made}
    assert pairs == set(PAIRS) - set(UNSEEN_PAIRS)
    for steps, forms in AFTERWARDS.items():
        assert not set(forms) & set(AFTERWARDS_UNSEEN[steps])
        used = {_form(problem) for problem in composites("train", 600, 1, steps=(steps,))}
        assert used == {form[0].upper() + form[1:] for form in forms}


def _form(problem: Problem) -> str:
    text = problem.prompt
    for number, step in enumerate(problem.steps):
        order = step.task.removesuffix(".")
        for spelled in (order, order[0].lower() + order[1:]):
            if spelled in text:
                text = text.replace(spelled, f"{{{number}}}", 1)
                break
    return text[0].upper() + text[1:]


def test_no_step_is_idle() -> None:
    """No pair whose first step leaves the second's answer as it was, tried on many payloads."""
    idle = dict.fromkeys(PAIRS, 0)
    count = dict.fromkeys(PAIRS, 0)
    for problem in [*composites("train", 4000, 3), *composites("train", 1000, 3, unseen_pairs=True)]:
        first, second = problem.steps
        if SKILLS[first.family].takes != SKILLS[second.family].takes:
            continue
        value = by_hand.read(first.family, first.task)[0]
        number, letter = by_hand.parameters(second.family, second.task)
        pair = (first.family, second.family)
        count[pair] += 1
        try:
            idle[pair] += by_hand.solved(second.family, value, number, letter) == problem.answer
        except (ValueError, StopIteration):
            pass
    # after the vowels are gone a consonant is as often there as before, and half of the smaller numbers divide the larger ones
    known = {("drop-vowels", "count-letter"), *(pair for pair in PAIRS if pair[0] == "gcd")}
    assert {pair for pair, n in idle.items() if n > 0.5 * max(1, count[pair])} <= known


def test_prompts_fit_the_trained_context() -> None:
    """A prompt with its worked answer stays below 150 tokens, a composite's below 200."""
    made = [*problems(FAMILIES, "train", 2000, 4), *handovers(FAMILIES, "train", 2000, 4)]
    assert max(len(prompt_tokens(problem.prompt)) + len(problem.worked) for problem in made) < 150
    chained = composites("train", 1000, 4, steps=(2, 3))
    assert max(len(prompt_tokens(problem.prompt)) for problem in chained) < 200


def test_unknown_names_are_refused() -> None:
    """A family, split or number of steps that does not exist is named in the error, with those that do."""
    with pytest.raises(ValueError, match=r"lcm.*spell-backward"):
        problems(["lcm"], "test", 1, 1)
    with pytest.raises(ValueError, match=r"dev.*calibration"):
        problems(["addition"], "dev", 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        handovers([], "test", 1, 1)
    with pytest.raises(ValueError, match=r"2 or 3 steps, not \[4\]"):
        composites("test", 1, 1, steps=(4,))
