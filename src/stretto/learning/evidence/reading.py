"""Learns `evidence.reading.Reading` from recorded replies with their texts."""

from typing import Any, Final

import numpy as np

from stretto.learning.evidence.matrices import Matrix
from stretto.learning.evidence.trees import available, fit_trees
from stretto.policies.calls import tools_of
from stretto.policies.evidence.reading import MARKS, Asked, Reading, bare, marks, rows

__all__ = ["fit_reading", "read_replies", "reread"]

_ROUNDS: Final = (80, 160)
"""So many trees, whichever foretells better: the more where there are tens of thousands of replies."""

_ENOUGH: Final = 300
"""So many replies, right ones and wrong ones, have to have been read."""


def read_replies(data: Matrix) -> Any:
    """The marks of all replies (items, workers, marks), nan where there is no text beside the answer; `None`: nowhere is one."""
    if data.texts is None:
        return None
    found = np.full((*data.scores.shape, len(MARKS)), np.nan)
    for row, (item, said) in enumerate(zip(data.items, data.texts, strict=True)):
        asked, tools = Asked.of(item.prompt), tools_of(item.tools)
        for k, one in enumerate(said):
            if one is not None and not bare(one[0], one[1], tools):
                found[row, k] = marks(asked, *one)
    return None if np.isnan(found[:, :, 0]).all() else found


def fit_reading(logits: Any, read: Any, scores: Any, *, rounds: int = 80, seed: int = 0) -> Reading | None:
    """One model for all workers, from the replies that were read and whose score is known; `None` where those are too few."""
    known = ~np.isnan(read[:, :, 0]) & ~np.isnan(scores)
    y = scores[known]
    if not available() or len(y) < _ENOUGH or y.std() == 0:
        return None
    return Reading(fit_trees(rows(logits, read)[known], y, rounds=rounds, rate=0.1, least=60, seed=seed))


def reread(logits: Any, read: Any, scores: Any, fold: Any) -> tuple[Reading | None, Any]:
    """What all items teach, and the log-odds after reading as those teach who had not seen the item (cross-fitted)."""
    found: dict[float, tuple[int, Any]] = {}
    for rounds in _ROUNDS:
        after = np.array(logits, dtype=np.float64)
        for number in range(int(fold.max()) + 1):
            at = fold == number
            fit = fit_reading(logits[~at], read[~at], scores[~at], rounds=rounds)
            if fit is None:
                return None, logits
            after[at] = fit.after(logits[at], read[at])
        loss = np.logaddexp(0.0, after) - np.nan_to_num(scores) * after
        found[float(loss[~np.isnan(scores)].mean())] = rounds, after
    rounds, after = found[min(found)]
    return fit_reading(logits, read, scores, rounds=rounds), after
