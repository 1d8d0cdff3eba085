"""TRINITY with scripted states: the artefact's head hands the state through, so a state names who plays and as what."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from stretto.artifacts import Artifact, packed
from stretto.policies.coordinator import ROLES, TRINITY_SCHEMA
from stretto.policies.trinity import Trinity
from stretto.pool.scripted import Said, Scripted, ScriptedPool
from stretto.steps import Ask
from stretto.types import Card, Price

WORKERS = ("a", "b", "c")
ABLE = frozenset({"text", "tools", "json", "logprobs"})


def artifact(workers: tuple[str, ...] = WORKERS, **data: Any) -> Artifact:
    """A coordinator whose state is its logits."""
    head = {"kind": "linear", "weight": packed(np.eye(len(workers) + 3))}
    return Artifact(TRINITY_SCHEMA, {}, {"workers": list(workers), "head": head, "forms": "given", **data})


def trinity(*, otherwise: str = "", workers: tuple[str, ...] = WORKERS, **data: Any) -> Trinity:
    """The policy of such an artefact."""
    return Trinity.of(artifact(workers, **data), otherwise=otherwise)


def state(move: str, workers: tuple[str, ...] = WORKERS, *, sure: float = 5.0) -> tuple[float, ...]:
    """The state that picks this move: `a thinker`, or `b` (as worker)."""
    who, _, role = move.partition(" ")
    names = (*workers, *ROLES)
    return tuple(sure if name in (who, role or "worker") else 0.0 for name in names)


def readings(*moves: str) -> Callable[[Ask], Said]:
    """A backbone that sees to these moves, one a reading; after them it is down."""
    left = iter(moves)

    def reads(ask: Ask) -> Said:
        move = next(left, None)
        assert move is not None, "one reading more than the test expects"
        return Scripted(state=state(move))

    return reads


def pool(moves: Iterable[str] | Said | Callable[[Ask], Said], **scripts: Any) -> ScriptedPool:
    """Workers that say their scripts, and the backbone."""
    if callable(moves):
        backbone: Any = moves
    elif isinstance(moves, str | Scripted) or not isinstance(moves, Iterable):
        backbone = [moves]
    else:
        backbone = readings(*moves)
    price = Price.per_million(1, 2)
    cards = {w: Card(w, price, abilities=ABLE) for w in scripts}
    cards["coordinator"] = Card(
        "coordinator", Price.per_million(1, 0), {"role": "coordinator"}, frozenset({"text", "state"})
    )
    return ScriptedPool({**scripts, "coordinator": backbone}, cards=cards)
