"""The test sets of the sparring problems, by name, and the named pools to compare on them.

Payloads are held out in every set. `mix` is half simple problems, half composites.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from stretto import sparring
from stretto.errors import ConfigError
from stretto.evaluation.graders import Grade, Grader
from stretto.evaluation.tasks import Item
from stretto.sparring.graders import grade
from stretto.sparring.problems import FAMILIES, Problem, Split, composites, handovers, problems
from stretto.types import Answer, Message

__all__ = ["SETS", "SubPool", "problem_set", "sets_named", "sparring_items", "sub_pool"]

_Make = Callable[[Sequence[str], Split, int, int], list[Problem]]


def _unseen_wordings(families: Sequence[str], split: Split, n: int, seed: int) -> list[Problem]:
    simple = problems(families, split, (n + 1) // 2, seed, unseen_wordings=True)
    chained = composites(split, n // 2, seed, unseen_wordings=True)
    return [*simple, *chained]


SETS: Final[Mapping[str, _Make]] = MappingProxyType(
    {
        "simple": problems,
        "handovers": handovers,
        "composite": lambda families, split, n, seed: composites(split, n, seed),
        "triples": lambda families, split, n, seed: composites(split, n, seed, steps=(3,)),
        "pairs": lambda families, split, n, seed: composites(split, n, seed, unseen_pairs=True),
        "wordings": _unseen_wordings,
    }
)
"""Every set: simple problems; later steps as they are handed over; two skills in sequence; three; two that were not trained on
together; and, half simple problems and half composites, wordings that nothing was trained on."""

_OF_FAMILIES: Final = ("simple", "handovers")


def sets_named(names: Sequence[str]) -> tuple[str, ...]:
    """The sets that `names` mean: `mix` stands for `simple` and `composite`, and names may be joined by commas.

    Raises `ConfigError` for one that does not exist.
    """
    parts = [part.strip() for name in names for part in name.split(",")]
    found = [each for part in parts for each in (("simple", "composite") if part == "mix" else (part,))]
    if unknown := [each for each in found if each not in SETS]:
        raise ConfigError(f'there is no problem set "{unknown[0]}"; there are {", ".join(SETS)} and mix')
    return tuple(dict.fromkeys(found))


def problem_set(
    names: Sequence[str], split: Split, n: int, seed: int, families: Sequence[str] = FAMILIES
) -> list[Problem]:
    """`n` problems, the sets taking turns; equal arguments give equal problems. An id begins with the name of its set.

    Raises `ConfigError` where `families` are limited and a set holds others, too.
    """
    if set(families) != set(FAMILIES) and (whole := [name for name in names if name not in _OF_FAMILIES]):
        raise ConfigError(
            f'the set "{whole[0]}" is of all families; with some only, ask {" or ".join(_OF_FAMILIES)}'
        )
    shares = [n // len(names) + (place < n % len(names)) for place in range(len(names))]
    made = [
        [replace(problem, id=f"{name}/{problem.id}") for problem in SETS[name](families, split, share, seed)]
        for name, share in zip(names, shares, strict=True)
    ]
    return [made[index % len(names)][index // len(names)] for index in range(n)]


def sparring_items(
    sets: Sequence[str], n: int, seed: int, families: Sequence[str] = FAMILIES, *, choosing: int = 200
) -> list[Item]:
    """The same as items of an evaluation: `n` held-out problems to report (`dev`), and before them `choosing` calibration
    problems on which the best single worker is chosen (`train`). The task of an item is its set, or, where only simple problems
    are asked, its family.
    """
    made = [("train", p) for p in problem_set(sets, "calibration", choosing, seed, families)]
    made += [("dev", p) for p in problem_set(sets, "test", n, seed, families)]
    by_family = list(sets) == ["simple"]
    return [
        Item(
            f"{split}/{problem.id}",
            (Message("user", problem.prompt),),
            _graded(problem),
            "sparring",
            problem.answer,
            problem.family if by_family else problem.id.partition("/")[0],
            split,
        )
        for split, problem in made
    ]


def _graded(problem: Problem) -> Grader:
    async def check(answer: Answer, reference: str) -> Grade:
        if answer.error is not None:
            return Grade(0.0, f"no answer: {answer.error.kind}")
        score = grade(problem, answer.text)
        return Grade(score, "equal to the right answer" if score else f"not {reference}")

    return check


@dataclass(frozen=True, slots=True)
class SubPool:
    """Some of the sparring models and the families to compare them on; `about` says what for."""

    name: str
    about: str
    workers: tuple[str, ...]
    families: tuple[str, ...]


def sub_pool(name: str) -> SubPool:
    """The pool called `name` that ships beside the sparring models, or, where `name` ends in `.toml`, that of a file.

    Raises `ConfigError`.
    """
    shipped = Path(sparring.__file__).parent
    path = Path(name) if name.endswith(".toml") else shipped / f"{name}.toml"
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        pool = SubPool(path.stem, told["about"], tuple(told["workers"]), tuple(told["families"]))
    except OSError:
        raise ConfigError(f'there is no pool "{name}"; "dominated" ships, others are files in TOML') from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} needs `about`, `workers` and `families` ({error!r})") from None
    known = {entry.id for entry in sparring.entries()}
    for kind, given, there in (("sparring model", pool.workers, known), ("family", pool.families, FAMILIES)):
        if unknown := [each for each in given if each not in there]:
            raise ConfigError(f'{path}: there is no {kind} "{unknown[0]}"')
    if not pool.workers or not pool.families:
        raise ConfigError(f"{path}: `workers` and `families` must name somebody and something")
    return pool
