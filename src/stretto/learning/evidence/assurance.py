"""Learns `policies.assurance.Assurance` from recorded replies with their confidence, and how far replies move the log-odds."""

from typing import Any, Final

import numpy as np

from stretto.learning.evidence.posterior import logistic
from stretto.policies.assurance import Assurance, terms
from stretto.policies.standing import Moves

__all__ = ["assured", "fit_assurance", "moved"]

_ENOUGH: Final = 40
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


def moved(logits: Any, after: Any, there: Any) -> Moves:
    """How far nine replies in ten move the log-odds of their worker, up and down. `after`: cross-fitted, `None`: not at all."""
    away = np.where(there, 0.0 if after is None else after - logits, np.nan)
    down, up = np.nanquantile(away, (0.1, 0.9), axis=0)
    return Moves(np.maximum(up, 0.0), np.maximum(-down, 0.0))
