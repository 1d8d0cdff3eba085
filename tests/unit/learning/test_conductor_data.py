"""What the Conductor's planner learns from: prompts with ordinals, workflows in the frozen format, masks by lot."""

import itertools
import random

import pytest

from stretto.learning.conductor.data import (
    NOTHING,
    by_lot,
    cases,
    lessons,
    mask,
    plan_text,
    prompt_again,
    prompt_of,
    tasks_of,
)
from stretto.policies.workflow import Allowed, Workflow, parse
from stretto.sparring.problems import UNSEEN_PAIRS, composites, problems
from stretto.sparring.vocabulary import answer_tokens, decode, encode, prompt_tokens

WORKERS = {number: f"w{number}" for number in range(7)}


def test_prompts_are_the_frozen_ones_with_anonymous_ordinals() -> None:
    """A worker that may not be used is left out of the list; the second prompt shows the last answer."""
    assert prompt_of("Reverse tree.", (0, 2, 6)) == "Models: 0 2 6\nTask: Reverse tree.\nPlan?"
    assert prompt_again("Reverse tree.", (1,), "eert") == "Models: 1\nTask: Reverse tree.\nGiven: eert\nPlan?"


def test_a_workflow_is_written_as_the_policy_reads_it() -> None:
    """Sub-tasks as the thinker writes them; later steps see all that was replied before; the first sees nothing."""
    [problem] = composites("train", 1, 1)
    read = parse(plan_text((4, 0), tasks_of(problem)), Allowed(WORKERS))
    assert isinstance(read, Workflow)
    assert [step.worker for step in read.steps] == ["w4", "w0"]
    assert [step.subtask for step in read.steps] == [step.task.lower() for step in problem.steps]
    assert [step.access for step in read.steps] == [(), "all"]


def test_three_empty_lists_mean_that_the_answer_stands() -> None:
    """They are a workflow only where an answer was shown."""
    assert parse(NOTHING, Allowed(WORKERS, returns=True)) == Workflow()
    assert parse(NOTHING, Allowed(WORKERS)) != Workflow()


def test_writing_a_sub_task_is_copying_the_prompt() -> None:
    """A sub-task's tokens are those of the order in the prompt, so that a small model need not learn to spell words."""
    [problem] = problems(("sort-letters",), "train", 1, 4)
    task = tasks_of(problem)[0].rstrip(".")
    whole = encode(plan_text((1,), (task,)))
    part = encode(" " + task)
    assert any(whole[at : at + len(part)] == part for at in range(len(whole)))
    assert part in [prompt_tokens(problem.prompt)[a : a + len(part)] for a in range(3)]


def test_every_lesson_is_a_valid_workflow_for_its_prompt() -> None:
    """Whatever is drawn: only workers that the prompt names, sub-tasks without quotes, and the text survives the vocabulary."""
    for step in range(12):
        for prompt, text in lessons(1, step, 20, 7):
            named = [int(word) for word in prompt.splitlines()[0].split()[1:]]
            shown = "\nGiven: " in prompt
            read = parse(text, Allowed({n: WORKERS[n] for n in named}, 7, returns=shown))
            assert isinstance(read, Workflow), (prompt, text, read)
            assert decode(answer_tokens(text, in_words=True)).strip() == text


def test_lessons_are_the_same_for_the_same_numbers_and_others_for_others() -> None:
    """A training that goes on sees what it would have seen."""
    assert lessons(1, 5, 16, 7) == lessons(1, 5, 16, 7)
    assert lessons(1, 5, 16, 7) != lessons(1, 6, 16, 7)
    assert lessons(1, 5, 16, 7) != lessons(2, 5, 16, 7)


def test_nothing_that_is_held_out_is_learned_from() -> None:
    """Training problems only, and none with a pair of skills that is held out."""
    held = {"+".join(pair) for pair in UNSEEN_PAIRS}
    for case in cases("train", (40, 60, 40), 61, 7):
        assert case.problem.split == "train"
        families = [step.family for step in case.problem.steps]
        assert not held & {f"{a}+{b}" for a, b in itertools.pairwise(families)}


def test_cases_that_are_skipped_are_other_problems() -> None:
    """What is decided on is not what the curve was read on."""
    first = cases("calibration", (6, 6, 3), 62, 7)
    others = cases("calibration", (6, 6, 3), 62, 7, skip=(6, 6, 3))
    assert len(first) == len(others) == 15
    assert not {c.problem.prompt for c in first} & {c.problem.prompt for c in others}
    assert all(case.allowed == tuple(range(7)) for case in first)


def test_a_worker_that_is_left_out_keeps_its_number_but_is_never_named() -> None:
    """So that a planner trained without it can be compared with one that knows it, ordinal by ordinal."""
    those = cases("train", (20, 5, 0), 61, 7, without=(2,))
    assert {case.allowed for case in those} == {(0, 1, 3, 4, 5, 6)}
    assert all(2 not in case.allowed for case, _ in by_lot(those, (2, 2, 2), 1))


def test_workers_by_lot_keep_to_each_mask() -> None:
    """So many workflows for each problem by its steps, each with a mask of its own, all possible pools among them."""
    those = cases("train", (20, 10, 5), 61, 7)
    lots = by_lot(those, (3, 4, 0), 1)
    assert len(lots) == 20 * 3 + 10 * 4
    for case, text in lots:
        allowed = Allowed({n: WORKERS[n] for n in case.allowed}, 7)
        assert isinstance(parse(text, allowed), Workflow)
    sizes = {len(case.allowed) for case, _ in lots}
    assert sizes == {3, 4, 5, 6, 7}


@pytest.mark.parametrize(("n", "least"), [(7, 3), (2, 2), (1, 3)])
def test_a_mask_names_workers_that_there_are(n: int, least: int) -> None:
    """In rising order, no fewer than asked for, all of them where there are no more."""
    for seed in range(30):
        found = mask(random.Random(seed), range(n), least, 0.3)
        assert list(found) == sorted(set(found))
        assert min(n, least) <= len(found) <= n
        assert set(found) <= set(range(n))
