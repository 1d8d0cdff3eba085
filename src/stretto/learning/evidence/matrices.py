"""A table of recorded outcomes as arrays: which answer each worker gave to each prompt, how good it was, what it cost.

A worker that joined late, or that was asked only some of the prompts, has gaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stretto.evaluation.tables import Item, Table
from stretto.policies.answers import classes, comparable, value_of
from stretto.policies.answers import said as said_value
from stretto.policies.calls import tools_of
from stretto.types import Message

__all__ = ["Matrix", "is_exclusive", "matrix", "renumbered"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A table as arrays, items first: answer classes (-1: none), scores, costs in USD, log of 1 + tokens (nan: not known).

    Where a worker was not asked its score is nan, its class -1 and its cost 0. `confidence`: how sure each worker was of its
    reply (nan: it did not tell); `None` where nobody told. `texts`: of each reply its text and the value that it says, `None`
    where it was not recorded; `None` altogether where no text was.
    """

    workers: tuple[str, ...]
    items: tuple[Item, ...]
    classes: Any
    scores: Any
    costs: Any
    tokens: Any
    confidence: Any = None
    texts: Any = None

    @property
    def there(self) -> Any:
        """Whether each worker was asked each item."""
        return ~np.isnan(self.scores)

    @property
    def best(self) -> int:
        """The best single worker: of those without gaps the one with the highest mean score."""
        whole = self.there.all(0)
        return int(np.where(whole, np.where(self.there, self.scores, 0.0).mean(0), -1.0).argmax())

    def at(self, which: Any) -> "Matrix":
        """Some of the items (a mask)."""
        items = tuple(i for i, keep in zip(self.items, which, strict=True) if keep)
        return Matrix(
            self.workers,
            items,
            self.classes[which],
            self.scores[which],
            self.costs[which],
            self.tokens[which],
            None if self.confidence is None else self.confidence[which],
            None if self.texts is None else self.texts[which],
        )

    def of(self, workers: Sequence[int]) -> "Matrix":
        """Some of the workers, in this order; the classes are numbered anew among them."""
        w = list(workers)
        return Matrix(
            tuple(self.workers[k] for k in w),
            self.items,
            renumbered(self.classes[:, w]),
            self.scores[:, w],
            self.costs[:, w],
            self.tokens[:, w],
            None if self.confidence is None else self.confidence[:, w],
            None if self.texts is None else self.texts[:, w],
        )


def renumbered(numbers: Any) -> Any:
    """Class numbers below the number of workers: that of the first worker who gave the answer. -1 stays."""
    same = numbers[:, :, None] == numbers[:, None, :]
    return np.where(numbers >= 0, same.argmax(2), -1)


def matrix(
    table: Table, workers: Sequence[str], *, gaps: Sequence[str] = (), last_line: bool = False
) -> Matrix:
    """The items that all of `workers` answered; those of `gaps`, who come after them, need not have answered all of these.

    An unknown cost counts as nothing, so price the workers first. With `last_line` the recorded answers are whole replies, which
    count by their last line, as they do when it serves. Texts are there if the table was read with them, or with `last_line`.
    """
    everybody = (*workers, *gaps)
    known = {i.id for i in table.only(workers=workers, complete=True).items}
    table = table.only(lambda i: i.id in known, workers=everybody)
    numbers, scores, costs, tokens, sure = [], [], [], [], []
    texts = np.full((len(table.items), len(everybody)), None, dtype=object)
    for row, item in enumerate(table.items):
        said = [table.said(item.id, w) for w in everybody]
        values, tools = [], tools_of(item.tools)
        for k, (worker, one) in enumerate(zip(everybody, said, strict=True)):
            text = (one.answer if one else None) or ""
            if last_line:
                value = said_value(Message("assistant", text), last_line=True, tools=tools)
            else:
                value = value_of(text, tools) if comparable(text) else None
            values.append(f"only {worker}" if value is None else value)
            whole = None if one is None else one.text if one.text is not None or not last_line else text
            if whole is not None:
                texts[row, k] = (whole, value)
        numbers.append(classes(values))
        scores.append([one.score if one else np.nan for one in said])
        costs.append([(one.cost if one else None) or 0.0 for one in said])
        tokens.append([np.log1p(one.output) if one and one.output else np.nan for one in said])
        sure.append([np.nan if one is None or one.confidence is None else one.confidence for one in said])
    arrays = (np.array(numbers), np.array(scores), np.array(costs), np.array(tokens))
    told = np.array(sure, dtype=np.float64)
    unread = not any(one is not None for one in texts.flat)
    return Matrix(
        everybody, table.items, *arrays, None if np.isnan(told).all() else told, None if unread else texts
    )


def is_exclusive(data: Matrix, most: float = 0.02) -> bool:
    """Whether two different answers are hardly ever both right."""
    both = 0
    for numbers, scores in zip(data.classes, data.scores, strict=True):
        both += len(set(numbers[(scores >= 0.5) & (numbers >= 0)])) > 1
    return both <= most * len(data.classes)
