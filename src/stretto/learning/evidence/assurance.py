"""Learns `evidence.assurance.Assurance` from recorded replies with their confidence, how far replies
move the log-odds, and how often the answers are right that the policy stops at.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from stretto.learning.evidence.lattice import Walk
from stretto.learning.evidence.posterior import logistic
from stretto.learning.evidence.success import folds
from stretto.policies.evidence.assurance import Assurance, Stated, terms
from stretto.policies.evidence.standing import Moves

__all__ = ["assured", "calibration_error", "fit_assurance", "fit_stated", "moved", "stated", "stating"]

_ENOUGH: Final = 40
_EDGE: Final = 1e-3
_FEWEST: Final = 100
_AGREE: Final = 0.02
_PENALTY: Final = np.array([0.1, 1.0, 1.0, 1.0, 1.0])


def fit_assurance(logits: Any, confidence: Any, scores: Any) -> Assurance:
    """One regression a worker; a worker that told too seldom how sure it was keeps its log-odds."""
    x, rows = terms(logits, confidence), []
    for k in range(logits.shape[1]):
        told = ~np.isnan(confidence[:, k])
        if told.sum() < _ENOUGH:
            rows.append(np.array([0.0, 1.0, 0.0, 0.0, 0.0]))
        else:
            rows.append(logistic(x[told, k], scores[told, k], _PENALTY))
    return Assurance(np.array(rows))


def assured(logits: Any, confidence: Any, scores: Any, fold: Any) -> tuple[Assurance, Any]:
    """What all items teach, and the log-odds after each reply as those teach who had not seen the item (cross-fitted)."""
    after = np.empty_like(logits)
    for number in range(int(fold.max()) + 1):
        at = fold == number
        fit = fit_assurance(logits[~at], confidence[~at], scores[~at])
        after[at] = fit.after(logits[at], confidence[at])
    return fit_assurance(logits, confidence, scores), after


def moved(logits: Any, after: Any, there: Any, classes: Any) -> Moves | None:
    """How far nine replies in ten move the log-odds of their worker, up and down. `after`: cross-fitted, `None`: not at all.

    `None` where hardly ever two workers say the same, as of free texts that nobody compared: nobody knows what it would come to
    if all spoke against an answer together.
    """
    ordered = np.sort(np.where(there, classes, -1), axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(1).mean() < _AGREE:
        return None
    away = np.where(there, 0.0 if after is None else after - logits, np.nan)
    down, up = np.nanquantile(away, (0.1, 0.9), axis=0)
    return Moves(np.maximum(up, 0.0), np.maximum(-down, 0.0))


def calibration_error(sure: Any, right: Any, bins: int = 10) -> float:
    """The expected calibration error in equal bins."""
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, sure - right, bins)).sum() / len(sure))


def fit_stated(went: Walk, prices: Sequence[float]) -> Stated | None:
    """From what following the choices brought, a row a price; `None` where too little was, or where surer is not righter."""
    spoke = went.sure > 0
    if went.score.shape[1] < _FEWEST or not 0 < went.score[spoke].mean() < 1:
        return None
    known = np.clip(went.sure, _EDGE, 1 - _EDGE)
    level = np.broadcast_to(np.log(np.asarray(prices))[:, None], known.shape)
    x = np.stack([np.ones_like(known), np.log(known / (1 - known)), level], axis=2)[spoke]
    constant, slope, price = logistic(x, went.score[spoke], np.full(3, 1.0))
    silent = went.score[~spoke].sum() / max(1, (~spoke).sum())
    return Stated(float(constant), float(slope), float(price), float(silent)) if slope > 0 else None


def stated(found: Stated | None, went: Walk, prices: Sequence[float]) -> Walk:
    """The same walk, its chances as they are stated; `None`: as they are."""
    if found is None:
        return went
    said = [[found.chance(one, u) for one in row] for row, u in zip(went.sure.tolist(), prices, strict=True)]
    return Walk(went.score, went.cost, went.calls, np.array(said))


def stating(went: Walk, prices: Sequence[float], told: dict[str, Any]) -> tuple[Stated | None, Walk]:
    """What to state after a cross-fitted walk, if that is nearer to the truth (cross-fitted, mean over the prices) than the
    posterior itself; and the walk with its chances as items would state them that had not seen them.
    """
    fold = folds(went.score.shape[1], 5, 7)
    said = np.array(went.sure, dtype=np.float64)
    for number in range(5):
        at = fold == number
        seen = Walk(*(part[:, ~at] for part in (went.score, went.cost, went.calls, went.sure)))
        mine = Walk(*(part[:, at] for part in (went.score, went.cost, went.calls, went.sure)))
        said[:, at] = stated(fit_stated(seen, prices), mine, prices).sure
    pairs = (went.sure, went.score), (said, went.score)
    before, after = (
        float(np.mean([calibration_error(a, b) for a, b in zip(*pair, strict=True)])) for pair in pairs
    )
    told["calibration error at the stop"] = {"posterior": round(before, 4), "stated": round(after, 4)}
    if after >= before:
        return None, went
    return fit_stated(went, prices), Walk(went.score, went.cost, went.calls, said)
