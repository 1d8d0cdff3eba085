"""Singular-value scales baked into a GGUF file, so that serving a trained backbone needs nothing but llama.cpp.

A matrix W = U diag(s) V' becomes U diag((1 + delta) s) V' times (sum s) / (sum (1 + delta) s): its singular vectors stay, its
nuclear norm stays, only the proportions change (TRINITY, after SVF: arXiv 2512.04695, 2501.06252). Needs the `evolve` extra
(gguf, numpy).
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from stretto.errors import ConfigError

__all__ = ["rescaled", "scaled", "spectrum"]

_PLAIN: Final = {
    gguf.GGMLQuantizationType.F32: np.float32,
    gguf.GGMLQuantizationType.F16: np.float16,
}
_WIDE: Final = 1 << 24
"""Numbers of a matrix from which on its Gram matrix gives its spectrum: a vocabulary of 150,000 needs gigabytes otherwise."""


def spectrum(matrix: Any) -> tuple[Any, Any]:
    """The singular values of a matrix, the largest first, and its singular vectors on the shorter side, a column each."""
    rows, columns = matrix.shape
    if rows * columns < _WIDE:
        left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
        return values, left if rows < columns else right.T
    gram = np.zeros((min(rows, columns),) * 2)
    long = matrix if rows >= columns else matrix.T
    for start in range(0, len(long), 8192):
        part = long[start : start + 8192].astype(np.float64)
        gram += part.T @ part
    squares, vectors = np.linalg.eigh(gram)
    return np.sqrt(np.maximum(squares[::-1], 0.0)), vectors[:, ::-1]


def rescaled(matrix: Any, delta: Any, known: tuple[Any, Any] | None = None) -> Any:
    """The matrix with its singular values times 1 + `delta` (one a value, the largest first), brought back to its nuclear norm.

    `known` is its `spectrum`, if that was taken before. As float32. Raises `ValueError` for scales of another number, or if
    they leave nothing of it.
    """
    values, vectors = known or spectrum(matrix)
    scale = 1.0 + np.asarray(delta, dtype=np.float64)
    if scale.shape != values.shape:
        raise ValueError(f"a matrix of {matrix.shape} has {len(values)} singular values, not {scale.size}")
    norm = float(np.abs(scale * values).sum())
    if not norm > 0.0:
        raise ValueError("the scales leave nothing of the matrix")
    # with the vectors of one side that is the same as scaling the values: W V diag(scale) V' = U diag(scale s) V'
    turn = ((vectors * (scale * (values.sum() / norm))) @ vectors.T).astype(np.float32)
    plain = matrix.astype(np.float32)
    return turn @ plain if matrix.shape[0] < matrix.shape[1] else plain @ turn


def scaled(source: Path, scales: Mapping[str, Any], target: Path) -> Path:
    """Copy a GGUF file with these tensors rescaled; everything else stays as it is, byte for byte. Tensors keep their type.

    Whole or not at all. Equal input gives equal bytes. Raises `ConfigError` for a tensor that is not there, is no matrix, or
    is of a type that cannot be written (K-quants), and `ValueError` as `rescaled` does.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    shutil.copyfile(source, part)
    try:
        reader = gguf.GGUFReader(part, "r+")
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        for name, delta in scales.items():
            tensor = tensors.get(name)
            if tensor is None:
                raise ConfigError(f"{source}: has no tensor {name}")
            matrix = gguf.dequantize(tensor.data, tensor.tensor_type)
            if matrix.ndim != 2:
                raise ConfigError(f"{source}: {name} is no matrix")
            tensor.data[:] = _encoded(rescaled(matrix, delta), tensor.tensor_type, f"{source}: {name}")
        reader.data.flush()
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(target)
    return target


def _encoded(matrix: Any, kind: Any, where: str) -> Any:
    if kind in _PLAIN:
        return matrix.astype(_PLAIN[kind])
    try:
        return gguf.quantize(matrix, kind)
    except NotImplementedError:
        raise ConfigError(
            f"{where} is {kind.name}; only F32, F16, BF16 and Q8_0 and the like can be written"
        ) from None
