"""Workers that are right exactly where they were trained: for tests of trainings, which need thousands of replies in no time."""

import hashlib
from collections.abc import Sequence

from stretto.learning.replies import Pair, Said
from stretto.sparring import PoolEntry, Problem
from stretto.sparring.roles import handed_over, thinker_prompt
from stretto.sparring.wordings import DONE


class Simulated:
    """Answers what `problems` and their steps ask: solvers on their own families, thinkers with the next sub-problem."""

    def __init__(self, pool: Sequence[PoolEntry], problems: Sequence[Problem]) -> None:
        self._families = {entry.id: set(entry.families) for entry in pool if entry.role == "solver"}
        self._thinkers = {entry.id for entry in pool if entry.role == "thinker"}
        self._solved: dict[str, tuple[str, str]] = {}
        self._thought: dict[str, str] = {}
        self.asked = 0
        for problem in problems:
            if not problem.steps:
                self._solved[problem.prompt.lower()] = problem.family, problem.answer
            steps = [(s.family, s.task, s.answer) for s in problem.steps] or [
                (problem.family, problem.prompt, problem.answer)
            ]
            prompt, given = thinker_prompt(problem.prompt), ""
            for family, task, answer in steps:
                self._thought[prompt] = task.lower()
                shown = handed_over(task, [given] if given else [])
                self._solved[shown.lower()] = family, answer
                prompt, given = thinker_prompt(problem.prompt, task.lower(), answer), answer
            self._thought[prompt] = DONE

    def __call__(self, pairs: Sequence[Pair]) -> list[Said]:
        """The replies."""
        self.asked += len(pairs)
        return [Said(self._said(*pair), -0.1, -0.1, 5, 5) for pair in pairs]

    def _said(self, worker: str, prompt: str) -> str:
        if worker in self._thinkers and prompt in self._thought:
            return self._thought[prompt]
        family, answer = self._solved.get(prompt.lower(), ("", ""))
        if family and family in self._families.get(worker, ()):
            return answer
        return "q" + hashlib.sha256(f"{worker} {prompt}".encode()).hexdigest()[:4]
