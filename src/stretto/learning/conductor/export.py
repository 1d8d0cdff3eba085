"""From a trained planner to what serves it: the GGUF file that llama.cpp runs, and the artefact `stretto.conductor/1` beside it.

Needs the `train` extra.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch

from stretto import __version__, artifacts
from stretto.artifacts import Artifact
from stretto.learning.conductor.model import CONTEXT
from stretto.learning.sparring_export import write_gguf
from stretto.sparring.wordings import PLANNER, PLANNER_AGAIN, VERSION

__all__ = ["PRICE", "SCHEMA", "export"]

SCHEMA: Final = "stretto.conductor/1"

PRICE: Final = {"input": 0.6, "output": 2.4}
"""Nominal, USD per million tokens: that of a specialist, which has the planner's size."""


def export(
    weights: Mapping[str, Any],
    workers: Sequence[str],
    out: Path,
    *,
    depth: int,
    steps: int,
    tokens: int,
    seed: int,
    provenance: Mapping[str, Any],
    labels: Mapping[str, str] = MappingProxyType({}),
    models: str = "",
) -> Path:
    """Write `planner.gguf` and `conductor.json` into `out`; equal weights give equal bytes. The path of the artefact.

    `workers` are in the order of the ordinals; `steps` and `tokens` are the most that a workflow may have. `labels` are
    what the planner's card says beside its role; `models` is where the GGUF file goes, relative to `out`.
    """
    file = Path(models) / "planner.gguf"
    path = write_gguf(
        out / file,
        weights,
        name="planner",
        about=f"The planner of stretto {__version__}'s Conductor: writes a workflow for the sparring pool.",
        version=f"wordings {VERSION}, seed {seed}",
    )
    data = {
        "workers": list(workers),
        "plan": PLANNER,
        "again": PLANNER_AGAIN,
        "forms": "given",
        "steps": steps,
        "depth": depth,
        "tokens": tokens,
        "planner": "planner",
        "beside": [
            {
                "id": "planner",
                "file": str(file),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "role": "planner",
                "context": CONTEXT,
                "price": PRICE,
                **({"labels": dict(labels)} if labels else {}),
                "about": "Writes workflows for the sparring pool. Solves nothing.",
            }
        ],
    }
    code = {"stretto": __version__, "wordings": VERSION, "torch": torch.__version__}
    made = Artifact(SCHEMA, {**provenance, "seed": seed, "code": code}, data)
    artifacts.write(made, out / "conductor.json")
    return out / "conductor.json"
