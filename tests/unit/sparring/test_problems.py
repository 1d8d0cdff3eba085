"""Sparring problems: made from a seed, one right answer, splits that never share a payload."""

import pytest

from stretto.sparring.graders import grade
from stretto.sparring.problems import FAMILIES, Problem, problems, split_of
from stretto.sparring.vocabulary import prompt_tokens
from stretto.sparring.wordings import TEMPLATES


def test_same_seed_same_problems() -> None:
    """Equal arguments give equal problems, another seed gives others."""
    assert problems(FAMILIES, "test", 40, 7) == problems(FAMILIES, "test", 40, 7)
    assert problems(FAMILIES, "test", 40, 7) != problems(FAMILIES, "test", 40, 8)


def test_families_take_turns() -> None:
    """The families come in the order asked for, in turns."""
    assert [problem.family for problem in problems(FAMILIES, "train", 8, 1)] == [*FAMILIES, *FAMILIES]


def _payload(problem: Problem) -> str:
    words = problem.prompt.replace("?", " ").replace(".", " ").split()
    numbers = [word for word in words if word.isdigit()]
    if problem.family == "addition":
        return "+".join(sorted(numbers, key=int))
    if problem.family == "to-binary":
        return numbers[0]
    if problem.family == "spell-backward":
        return problem.answer[::-1]
    return next(word.strip("\"'") for word in words if sorted(word.strip("\"'")) == list(problem.answer))


@pytest.mark.parametrize("split", ["train", "calibration", "test"])
def test_payload_decides_split(split: str) -> None:
    """Every payload, read back from the prompt, belongs to the split that was asked for."""
    made = problems(FAMILIES, split, 400, 3)  # type: ignore[arg-type]
    assert {problem.split for problem in made} == {split}
    assert all(split_of(_payload(problem)) == split for problem in made)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_wording_is_used(family: str) -> None:
    """Each wording of a family appears among a few hundred problems."""
    starts = {template.split("{", maxsplit=1)[0].lower() for template in TEMPLATES[family]}
    prompts = [
        problem.prompt.lower().removeprefix("please ") for problem in problems([family], "train", 400, 1)
    ]
    assert all(any(prompt.startswith(start) for prompt in prompts) for start in starts)


def test_answers_are_right() -> None:
    """The answers of all families agree with Python's own computation."""
    for problem in problems(FAMILIES, "test", 400, 9):
        payload = _payload(problem)
        right = {
            "spell-backward": lambda text: text[::-1],
            "sort-letters": lambda text: "".join(sorted(text)),
            "addition": lambda text: str(sum(map(int, text.split("+")))),
            "to-binary": lambda text: format(int(text), "b"),
        }[problem.family](payload)
        assert problem.answer == right
        assert grade(problem, problem.worked) == 1.0


def test_working_lines() -> None:
    """Binary numbers are worked by halving, sums in columns from the right, with the carry."""
    halving = {problem.answer: problem.worked for problem in problems(["to-binary"], "train", 2000, 2)}
    assert halving["1100"] == "12:0 6:0 3:1 1:1 = 1100"
    columns = {problem.prompt: problem.worked for problem in problems(["addition"], "train", 2000, 2)}
    prompt, worked = next(item for item in columns.items() if "+1=" in item[1])
    total = sum(int(word.strip("?.")) for word in prompt.split() if word.strip("?.").isdigit())
    digits = [column.rpartition("=")[2] for column in worked.split(" = ")[0].split()]
    assert worked.endswith(f" = {total}")
    assert digits[-1] + "".join(digit[-1] for digit in reversed(digits[:-1])) == str(total)


def test_prompts_fit_the_trained_context() -> None:
    """A prompt with its worked answer stays below 100 tokens."""
    made = problems(FAMILIES, "train", 2000, 4)
    assert max(len(prompt_tokens(problem.prompt)) + len(problem.worked) for problem in made) < 100


def test_unknown_names_are_refused() -> None:
    """A family or split that does not exist is named in the error, with those that do."""
    with pytest.raises(ValueError, match=r"gcd.*spell-backward"):
        problems(["gcd"], "test", 1, 1)
    with pytest.raises(ValueError, match=r"dev.*calibration"):
        problems(["addition"], "dev", 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        problems([], "test", 1, 1)
