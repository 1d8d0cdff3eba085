"""Learns `evidence.features.TextFeatures`: which buckets count, how much, and in which directions prompts differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stretto.artifacts import packed
from stretto.policies.evidence.features import BUCKETS, TextFeatures, buckets, counts

__all__ = ["data_of", "fit_features"]


def fit_features(
    texts: Sequence[str], *, dimensions: int = 128, least: int = 3, most: int = 40_000, seed: int = 0
) -> TextFeatures:
    """TF-IDF (sublinear, over buckets that at least `least` texts have), its leading directions, and counts; standardised.

    The directions come from a randomised range finder with two power steps (Halko, Martinsson and Tropp 2011).
    """
    from scipy import sparse

    found = [np.unique(buckets(text), return_counts=True) for text in texts]
    having = np.bincount(np.concatenate([b for b, _ in found]), minlength=BUCKETS)
    kept = np.flatnonzero(having >= min(least, max(1, len(texts) // 50)))
    if len(kept) > most:
        kept = np.sort(kept[np.argsort(-having[kept], kind="stable")[:most]])
    rows = np.full(BUCKETS, -1, dtype=np.int32)
    rows[kept] = np.arange(len(kept), dtype=np.int32)
    weights = np.log((1 + len(texts)) / (1 + having[kept])) + 1.0
    values, columns, ends = [], [], [0]
    for bucket, times in found:
        known = rows[bucket]
        value = (1.0 + np.log(times[known >= 0])) * weights[known[known >= 0]]
        values.append(value / (np.sqrt(value @ value) or 1.0))
        columns.append(known[known >= 0])
        ends.append(ends[-1] + len(value))
    matrix = sparse.csr_matrix(
        (np.concatenate(values).astype(np.float32), np.concatenate(columns), ends),
        shape=(len(texts), len(kept)),
    )
    projection = _directions(matrix, min(dimensions, min(matrix.shape) - 1), seed)
    raw = np.hstack([matrix @ projection, np.array([counts(t) for t in texts], dtype=np.float32)])
    deviation = raw.std(axis=0)
    return TextFeatures(
        rows,
        weights.astype(np.float32),
        projection,
        raw.mean(axis=0),
        np.where(deviation > 1e-6, deviation, 1.0),
    )


def _directions(matrix: Any, dimensions: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    wide = matrix @ rng.standard_normal((matrix.shape[1], dimensions + 8)).astype(np.float32)
    for _ in range(2):
        wide, _ = np.linalg.qr(wide)
        wide = matrix @ (matrix.T @ wide)
    basis, _ = np.linalg.qr(wide)
    _, _, right = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    return np.ascontiguousarray(right[:dimensions].T, dtype=np.float32)


def data_of(features: TextFeatures) -> dict[str, Any]:
    """The features as an artefact's data, half precision where that is enough."""
    return {
        "kept": packed(np.flatnonzero(features.rows >= 0).astype(np.int32)),
        "weights": packed(features.weights.astype(np.float16)),
        "projection": packed(features.projection.astype(np.float16)),
        "mean": packed(features.mean.astype(np.float32)),
        "deviation": packed(features.deviation.astype(np.float32)),
    }
