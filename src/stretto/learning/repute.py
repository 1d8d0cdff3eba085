"""What models are believed to be good for, learned from recorded outcomes: a random-effects fit over sets, in log-odds.

    log-odds = what the part of a set asks for + price, age, whether it reasons + family + model
               + model at that kind of task + model in that set + what is left

The first is free, the next three are slopes, the others are deviations around nothing, whose sizes are read off the outcomes by
likelihood. So a model that was seen often keeps its own figures, one that was seen once is drawn to its family, price and age; a
standard error tells how much is known. Numbers only: the names are the caller's (`pool.repute`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

__all__ = ["Cell", "Facts", "Fitted", "fit"]

_SIZES: Final = (0.0, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.2)
"""Standard deviations that are tried, in log-odds."""


@dataclass(frozen=True, slots=True)
class Cell:
    """How often a model was right in a part of a set: `part` items of one difficulty and one `kind`."""

    set: str
    part: str
    kind: str
    model: str
    n: int
    right: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model beside its outcomes: log10 of USD per million tokens, year of release."""

    price: float
    year: float
    thinks: bool = False
    family: str = ""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Log-odds and standard errors at a part of average difficulty. `sizes`: the deviations of family, model, kind, set, rest.

    `models`: at any kind of task. `slopes`: level, price, year, thinks. `families`: their deviations.
    """

    sizes: tuple[float, ...]
    slopes: Mapping[str, tuple[float, float]]
    families: Mapping[str, tuple[float, float]]
    models: Mapping[str, tuple[float, float]]
    centre: Facts
    cells: int


def fit(cells: Sequence[Cell], facts: Mapping[str, Facts]) -> Fitted:
    """The fit. Every model of `cells` has `facts`."""
    parts = sorted({(c.set, c.part) for c in cells})
    models = sorted({c.model for c in cells})
    families = sorted({facts[m].family for m in models} - {""})
    centre = Facts(*np.mean([(facts[m].price, facts[m].year) for m in models], axis=0).tolist())
    rate = np.array([(c.right * c.n + 0.5) / (c.n + 1) for c in cells])
    y = np.log(rate / (1 - rate))
    noise = 1 / (np.array([c.n for c in cells]) * rate * (1 - rate))

    def slopes(m: str) -> list[float]:
        return [facts[m].price - centre.price, facts[m].year - centre.year, float(facts[m].thinks)]

    x = np.array([[*(float((c.set, c.part) == p) for p in parts), *slopes(c.model)] for c in cells])
    groups = [
        [facts[c.model].family or f"alone {c.model}" for c in cells],
        [c.model for c in cells],
        [f"{c.model} {c.kind}" for c in cells],
        [f"{c.model} {c.set}" for c in cells],
    ]
    alike = [np.array(g)[:, None] == np.array(g)[None, :] for g in groups]
    sizes = _sizes(y, x, noise, alike)
    spread = _spread(sizes, noise, alike)
    inverse = np.linalg.inv(spread)
    error = np.linalg.inv(x.T @ inverse @ x + 1e-9 * np.eye(x.shape[1]))
    found = error @ x.T @ inverse @ y
    rest = inverse @ (y - x @ found)
    count = len(parts)
    level = np.zeros(x.shape[1])
    level[:count] = _level(parts)

    def told(fixed: Any, shared: Any, own: float) -> tuple[float, float]:
        """The best linear prediction of `fixed` x slopes + a deviation that shares `shared` with each cell, and its error."""
        free = fixed - x.T @ inverse @ shared
        variance = own - shared @ inverse @ shared + free @ error @ free
        return float(fixed @ found + shared @ rest), float(np.sqrt(max(variance, 0.0)))

    def of(model: str) -> tuple[float, float]:
        fixed = level.copy()
        fixed[count:] = slopes(model)
        same = np.array(
            [facts[c.model].family == facts[model].family != "" or c.model == model for c in cells]
        )
        mine = np.array([c.model == model for c in cells])
        return told(fixed, sizes[0] ** 2 * same + sizes[1] ** 2 * mine, sizes[0] ** 2 + sizes[1] ** 2)

    def of_family(name: str) -> tuple[float, float]:
        same = np.array([facts[c.model].family == name for c in cells])
        return told(np.zeros(x.shape[1]), sizes[0] ** 2 * same, sizes[0] ** 2)

    def slope(place: int) -> tuple[float, float]:
        fixed = np.zeros(x.shape[1]) if place else level
        if place:
            fixed[count + place - 1] = 1.0
        return told(fixed, np.zeros(len(cells)), 0.0)

    return Fitted(
        tuple(sizes),
        {name: slope(place) for place, name in enumerate(("level", "price", "year", "thinks"))},
        {name: of_family(name) for name in families},
        {m: of(m) for m in models},
        centre,
        len(cells),
    )


def _level(parts: Sequence[tuple[str, str]]) -> list[float]:
    """Every set counts alike, and every part in it."""
    sets = [name for name, _ in parts]
    return [1 / len(set(sets)) / sets.count(name) for name in sets]


def _spread(sizes: Sequence[float], noise: Any, alike: Sequence[Any]) -> Any:
    shared = sum(size * size * same for size, same in zip(sizes, alike, strict=False))
    return shared + np.diag(noise + sizes[-1] ** 2)


def _sizes(y: Any, x: Any, noise: Any, alike: Sequence[Any]) -> list[float]:
    """The sizes of the deviations that are likeliest (restricted likelihood), one after the other until none moves."""

    def surprise(sizes: Sequence[float]) -> float:
        spread = _spread(sizes, noise, alike)
        try:
            root = np.linalg.cholesky(spread)
        except np.linalg.LinAlgError:
            return float("inf")
        a, b = np.linalg.solve(root, x), np.linalg.solve(root, y)
        inner = a.T @ a
        best = np.linalg.lstsq(a, b, rcond=None)[0]
        left = b - a @ best
        return float(2 * np.log(np.diag(root)).sum() + np.linalg.slogdet(inner)[1] + left @ left)

    sizes, least = [0.3] * (len(alike) + 1), float("inf")
    for _ in range(6):
        before = list(sizes)
        for place in range(len(sizes)):
            for size in _SIZES[1 if place == len(alike) else 0 :]:
                tried = [*sizes[:place], size, *sizes[place + 1 :]]
                if (now := surprise(tried)) < least - 1e-6:
                    least, sizes = now, tried
        if sizes == before:
            break
    return sizes
