"""What the sparring models are asked in roles: thinker, verifier, judge. Prompts, and problems that teach the roles.

The prompts are the frozen ones of `wordings`. The problems are graded like all others: the thinker's answer is the next
sub-problem or `done`, the verifier's `yes` or `no`, the judge's the number of a candidate.
"""

import random
from collections.abc import Callable, Sequence

from stretto.sparring.problems import FAMILIES, Problem, Split, composites, problems
from stretto.sparring.wordings import (
    DONE,
    GIVEN,
    JUDGE,
    JUDGE_CANDIDATE,
    THINKER,
    THINKER_FIRST,
    VERDICTS,
    VERIFIER,
)

__all__ = [
    "handed_over",
    "judge_prompt",
    "judgements",
    "thinker_prompt",
    "thoughts",
    "verifications",
    "verifier_prompt",
    "wrong",
]


def handed_over(task: str, replies: Sequence[str]) -> str:
    """A sub-problem with the earlier replies that its worker may see, the latest last."""
    return "".join(GIVEN.format(reply=reply) for reply in replies) + task


def thinker_prompt(question: str, done: str = "", reply: str = "") -> str:
    """What the thinker is asked: at first, or after the sub-problem `done` was answered with `reply`."""
    if not done:
        return THINKER_FIRST.format(question=question)
    return THINKER.format(question=question, done=done, reply=reply)


def verifier_prompt(question: str, answer: str) -> str:
    """What the verifier is asked about one answer."""
    return VERIFIER.format(question=question, answer=answer)


def judge_prompt(question: str, answers: Sequence[str]) -> str:
    """What the judge is asked about several answers."""
    listed = (JUDGE_CANDIDATE.format(number=n, answer=answer) for n, answer in enumerate(answers, 1))
    return JUDGE.format(question=question, candidates="".join(listed))


# --- problems that teach the roles -------------------------------------------------------------------------------


def thoughts(split: Split, n: int, seed: int, *, unseen_pairs: bool = False) -> list[Problem]:
    """`n` questions for the thinker: two of three about composites at any stage, the others about simple problems."""
    chained = composites(split, n, seed, steps=(2, 2, 3), unseen_pairs=unseen_pairs)
    simple = problems(FAMILIES, split, n, seed)
    return [_thought(chained[i], simple[i], split, seed, i) for i in range(n)]


def _thought(chained: Problem, simple: Problem, split: Split, seed: int, index: int) -> Problem:
    rng = random.Random(f"thinker/{split}/{seed}/{index}")
    source = chained if rng.random() < 0.67 else simple
    tasks = [step.task for step in source.steps] or [source.prompt]
    replies = [step.answer for step in source.steps] or [source.answer]
    stage = rng.randint(0, len(tasks))
    if stage == 0:
        prompt = thinker_prompt(source.prompt)
    elif source.steps and rng.random() < 0.1:  # the whole was asked of one worker: begin at the beginning
        prompt, stage = thinker_prompt(source.prompt, source.prompt, wrong(source, rng)), 0
    else:
        reply = replies[stage - 1] if rng.random() < 0.9 else wrong(source, rng)
        prompt = thinker_prompt(source.prompt, tasks[stage - 1].lower(), reply)
    answer = tasks[stage].lower() if stage < len(tasks) else DONE
    return Problem(f"thinker/{seed}/{index}", "thinker", prompt, answer, "", split)


def verifications(
    split: Split, n: int, seed: int, *, families: Sequence[str] = FAMILIES, chained: float = 0.1
) -> list[Problem]:
    """`n` answers to verify, half of them right; a share of `chained` is about composites."""
    return [_verification(p, split, seed, i) for i, p in enumerate(_mixed(split, n, seed, families, chained))]


def _mixed(split: Split, n: int, seed: int, families: Sequence[str], chained: float) -> list[Problem]:
    mixed = problems(families, split, n, seed)
    rng = random.Random(f"mixed/{split}/{seed}")
    places = [i for i in range(n) if rng.random() < chained]
    for place, problem in zip(places, composites(split, len(places), seed), strict=True):
        mixed[place] = problem
    return mixed


def _verification(problem: Problem, split: Split, seed: int, index: int) -> Problem:
    rng = random.Random(f"verifier/{split}/{seed}/{index}")
    right = rng.random() < 0.5
    shown = problem.answer if right else wrong(problem, rng)
    prompt = verifier_prompt(problem.prompt, shown)
    return Problem(f"verifier/{seed}/{index}", "verifier", prompt, VERDICTS[right], "", split)


def judgements(
    split: Split, n: int, seed: int, *, families: Sequence[str] = FAMILIES, chained: float = 0.1
) -> list[Problem]:
    """`n` times two or three candidates to judge, exactly one of them right."""
    return [_judgement(p, split, seed, i) for i, p in enumerate(_mixed(split, n, seed, families, chained))]


def _judgement(problem: Problem, split: Split, seed: int, index: int) -> Problem:
    rng = random.Random(f"judge/{split}/{seed}/{index}")
    answers = [problem.answer]
    while len(answers) < rng.choice((2, 3)):
        answers.append(wrong(problem, rng))
    rng.shuffle(answers)
    number = str(answers.index(problem.answer) + 1)
    prompt = judge_prompt(problem.prompt, answers)
    return Problem(f"judge/{seed}/{index}", "judge", prompt, number, "", split)


# --- wrong answers -----------------------------------------------------------------------------------------------


def wrong(problem: Problem, rng: random.Random) -> str:
    """A wrong answer of the kind that workers give: an item or character lost, changed, doubled or in the wrong place."""
    answer = problem.answer
    kinds: tuple[Callable[[str, random.Random], str], ...]
    if ", " in answer:
        kinds = (_items_swapped, _items_swapped, _item_lost, _changed, _swapped)
    elif answer.isdigit():
        kinds = (_near, _near, _changed, _swapped, _lost)
    else:
        kinds = (_swapped, _swapped, _changed, _lost, _doubled)
    while True:
        made = rng.choice(kinds)(answer, rng)
        if made and made != answer:
            return made


def _items_swapped(answer: str, rng: random.Random) -> str:
    items = answer.split(", ")
    i, j = rng.sample(range(len(items)), 2)
    items[i], items[j] = items[j], items[i]
    return ", ".join(items)


def _item_lost(answer: str, rng: random.Random) -> str:
    items = answer.split(", ")
    del items[rng.randrange(len(items))]
    return ", ".join(items)


def _near(answer: str, rng: random.Random) -> str:
    return str(max(0, int(answer) + rng.choice((-10, -2, -1, 1, 2, 10, 100))))


def _changed(answer: str, rng: random.Random) -> str:
    at = rng.randrange(len(answer))
    known = "0123456789" if answer[at].isdigit() else "abcdefghijklmnopqrstuvwxyz"
    return answer if answer[at] in ", " else answer[:at] + rng.choice(known) + answer[at + 1 :]


def _swapped(answer: str, rng: random.Random) -> str:
    if len(answer) < 2:
        return ""
    at = rng.randrange(len(answer) - 1)
    if set(answer[at : at + 2]) & set(", "):
        return ""
    return answer[:at] + answer[at + 1] + answer[at] + answer[at + 2 :]


def _lost(answer: str, rng: random.Random) -> str:
    at = rng.randrange(len(answer))
    return answer[:at] + answer[at + 1 :]


def _doubled(answer: str, rng: random.Random) -> str:
    at = rng.randrange(len(answer))
    return answer[:at] + answer[at] + answer[at:]
