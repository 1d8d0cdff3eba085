"""Whose word stands, so that nobody is asked whose reply could not change the answer.

What is left to ask is worth nothing where the posterior would keep the present answer though everybody left said together that it
is another one. And where the likeliest worker's word would stand like that against all others, asking one of them first can save
that worker's price at most, and bring no better answer. More replies would also change how sure the answer is said to be: that is
nothing to pay for. Numpy only, imported late; the arrays have the items first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from stretto.artifacts import packed, unpacked
from stretto.policies.evidence.beliefs import Posterior

__all__ = ["Moves", "Scene", "barred"]

_GOOD: Final = 0.6
_SMALL: Final = 0.12
"""Nobody is asked in vain before a worker that is right at least so often, and costs at most so many points of the score. The
dearer asking is, the better the learned values know what an opening by a cheap one saves (measured: without these bounds the
cheapest prices lost 6 points of worth on the sparring pool)."""


@dataclass(frozen=True, slots=True)
class Moves:
    """How far a reply moves the log-odds of its worker: nine in ten raise them by no more than `up`, nine in ten lower them by no
    more than `down` (a number a worker). Zeros where nothing is heeded of a reply but its value.
    """

    up: Any
    down: Any

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Moves":
        """From an artefact's data."""
        return cls(unpacked(data["up"]), unpacked(data["down"]))

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        return {"up": packed(self.up), "down": packed(self.down)}


@dataclass(frozen=True, slots=True)
class Scene:
    """What has been said of each item, and who is left.

    `classes` (items, workers): which answer each worker gave, where it was `asked`; `odds`: the log-odds of the workers as they
    are now; `left`: who may be asked yet; `lengths`: of the replies, as for `Beliefs.after`; `chance`: of each answer to be right
    as things stand, as from `Posterior.chances`.
    """

    posterior: Posterior
    moves: Moves
    classes: Any
    odds: Any
    asked: Any
    left: Any
    lengths: Any
    chance: Any

    @classmethod
    def after(
        cls, posterior: Posterior, moves: Moves, classes: Any, odds: Any, asked: Any, left: Any, lengths: Any
    ) -> "Scene":
        """With the chances reckoned here."""
        import numpy as np

        some = bool(asked.any())
        chance = posterior.chances(classes, odds, asked, lengths) if some else np.zeros(classes.shape)
        return cls(posterior, moves, classes, odds, asked, left, lengths, chance)

    def at(self, rows: Any) -> "Scene":
        """Some of the items."""
        own = (self.classes, self.odds, self.asked, self.left, self.lengths, self.chance)
        return Scene(self.posterior, self.moves, *(a[rows] for a in own))

    def settled(self) -> Any:
        """Whether the answer stays though all who are left speak together for its rival, as surely as they ever do (items)."""
        _, best, first, rival = self._present()
        against = replace(self, odds=self.odds + self.moves.up * self.left)._chances(rival)
        return (first > 0) & (against.argmax(1) == best)

    def foremost(self, there: Any) -> Any:
        """The likeliest of `there` (items, workers), where it would stand against all others though it were as unsure as it ever
        is and they as sure; -1 where not.
        """
        import numpy as np

        rows, best, first, rival = self._present()
        one = np.where(there, self.odds, -np.inf).argmax(1)
        stance = np.where(first > 0, best, rival)
        used = self._used()
        used[rows, stance] = True
        own = (~used).argmax(1)
        odds = self.odds + self.moves.up * self.left
        odds[rows, one] = self.odds[rows, one] - self.moves.down[one]
        mine = np.minimum(own, self.classes.shape[1] - 1)
        chance = replace(self, odds=odds)._chances(stance, one, mine)
        stands = there.any(1) & (own < self.classes.shape[1]) & (chance.argmax(1) == mine)
        return np.where(stands, one, -1)

    def _used(self) -> Any:
        """Of each item which numbers of answers are taken; one more than there are workers."""
        import numpy as np

        items, workers = self.classes.shape
        used = np.zeros((items, workers + 1), dtype=bool)
        row, worker = (self.asked & (self.classes >= 0)).nonzero()
        used[row, self.classes[row, worker]] = True
        return used

    def _present(self) -> tuple[Any, Any, Any, Any]:
        """The items; the best answer and its chance; and its rival: the second best one, or one that nobody gave."""
        import numpy as np

        rows = np.arange(len(self.classes))
        chance = self.chance.copy()
        best = chance.argmax(1)
        first = chance[rows, best]
        chance[rows, best] = 0.0
        second = chance.argmax(1)
        fresh = (~self._used()).argmax(1)
        return rows, best, first, np.where(chance[rows, second] > 0, second, fresh)

    def _chances(self, stance: Any, one: Any = None, own: Any = None) -> Any:
        """Of each answer once all who are left have said `stance`, but `one` of them `own`."""
        import numpy as np

        classes = np.where(self.left, stance[:, None], self.classes)
        if one is not None:
            classes[np.arange(len(classes)), one] = own
        lengths = np.where(self.left, 0.0, self.lengths)
        return self.posterior.chances(classes, self.odds, self.asked | self.left, lengths)


def barred(foremost: Any, likely: Any, paid: Any) -> Any:
    """Whom to ask is in vain where one worker's word would stand (items, prices, workers).

    Not that worker; nor who is so cheap that, right as often as is `likely` (items, workers), it saves more than it costs; nor
    who alone is worth more. `paid` (prices, workers): what asking costs, in points of the score.
    """
    import numpy as np

    sure = likely[np.arange(len(foremost)), foremost]
    dear = paid.T[foremost]  # items, prices
    here = ((foremost >= 0) & (sure >= _GOOD))[:, None] & (dear <= _SMALL)
    saved = likely[:, None] * dear[:, :, None]
    alone = likely[:, None] - paid[None] > (sure[:, None] - dear)[:, :, None]
    others = np.arange(likely.shape[1]) != foremost[:, None]
    return here[:, :, None] & others[:, None] & ~(saved > paid[None]) & ~alone
