"""Workflows played over kept replies: what they are worth, and that they are worded as they are served."""

from collections.abc import Sequence

from stretto.learning.conductor.data import NOTHING, Case, plan_text, tasks_of
from stretto.learning.conductor.play import Played, alone, play, reward
from stretto.learning.replies import Pair, Said
from stretto.sparring.problems import Problem, composites, problems

WORKERS = ("able", "unable")


class Written:
    """Replies by rule: `able` solves every sub-problem of the given problems, `unable` says x; every prompt is noted."""

    def __init__(self, those: Sequence[Problem]) -> None:
        self.asked: list[Pair] = []
        self._answers: dict[str, str] = {}
        for problem in those:
            self._answers[problem.prompt.lower()] = problem.worked if not problem.steps else "whole"
            for step in problem.steps:
                self._answers[step.task.lower()] = f"1+1=2 = {step.answer}"

    def get(self, pairs: Sequence[Pair]) -> list[Said]:
        """The replies."""
        self.asked += pairs
        return [self._said(worker, prompt.rpartition("\n")[2].lower()) for worker, prompt in pairs]

    def _said(self, worker: str, task: str) -> Said:
        return Said(self._answers[task] if worker == "able" else "x", cost=2_000_000)


def case(problem: Problem) -> Case:
    """All workers may be used."""
    return Case(problem, (0, 1))


def test_the_right_workflow_is_right_and_later_steps_see_what_was_replied() -> None:
    """The value of a reply is handed on, without its working, in the frozen wording."""
    [problem] = composites("train", 1, 3)
    book = Written([problem])
    tasks = tasks_of(problem)
    [found] = play([case(problem)], [plan_text((0, 0), tasks)], book, WORKERS)
    assert found == Played(True, f"1+1=2 = {problem.answer}", (0, 0), calls=2, cost=4_000_000)
    assert book.asked == [
        ("able", tasks[0]),
        ("able", f"Given: {problem.steps[0].answer}\n{tasks[1]}"),
    ]


def test_rewards_tell_format_from_right_and_wrong() -> None:
    """0 for no workflow, half for a wrong answer, 1 for a right one; each micro-dollar may cost."""
    [problem] = problems(("sort-letters",), "train", 1, 3)
    texts = ["model_id = [0]", plan_text((1,), tasks_of(problem)), plan_text((0,), tasks_of(problem))]
    found = play([case(problem)] * 3, texts, Written([problem]), WORKERS)
    assert [one.valid for one in found] == [False, True, True]
    assert [reward(one) for one in found] == [0.0, 0.5, 1.0]
    assert [reward(one, 0.01) for one in found] == [0.0, 0.48, 0.98]


def test_a_worker_that_is_masked_is_a_fault_and_nobody_is_asked() -> None:
    """The planner was not told of it."""
    [problem] = problems(("sort-letters",), "train", 1, 3)
    book = Written([problem])
    [found] = play([Case(problem, (1,))], [plan_text((0,), tasks_of(problem))], book, WORKERS)
    assert (found.fault, found.calls, book.asked) == ("ineligible", 0, [])


def test_three_empty_lists_leave_the_earlier_answer() -> None:
    """Without an earlier answer they are a fault."""
    [problem] = problems(("sort-letters",), "train", 1, 3)
    book = Written([problem])
    kept, lost = play([case(problem)] * 2, [NOTHING] * 2, book, WORKERS, earlier=[problem.answer, None])
    assert (kept.right, kept.empty, kept.calls) == (True, True, 0)
    assert (lost.right, lost.fault) == (False, "empty")


def test_a_second_workflow_shows_the_first_ones_answer_to_steps_that_see_all() -> None:
    """As the policy does: before the replies of the second workflow."""
    [problem] = composites("train", 1, 3)
    book = Written([problem])
    tasks = tasks_of(problem)
    play([case(problem)], [plan_text((0, 0), tasks)], book, WORKERS, earlier=["first try"])
    assert book.asked[1][1] == f"Given: first try\nGiven: {problem.steps[0].answer}\n{tasks[1]}"


def test_each_worker_alone() -> None:
    """The whole problem, as it stands: what the best single worker is found by."""
    those = [case(p) for p in (*problems(("sort-letters",), "train", 2, 3), *composites("train", 1, 3))]
    found = alone(those, Written([c.problem for c in those]), WORKERS)
    assert found == [[True, True, False], [False, False, False]]
