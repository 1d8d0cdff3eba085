"""A worker that a trained coordinator has never seen, put in by its answers to a probe set: nothing is trained."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from stretto import artifacts
from stretto.artifacts import Artifact, packed, unpacked
from stretto.errors import ConfigError
from stretto.learning.replies import Replies
from stretto.learning.trinity.backbone import Backbone, States
from stretto.learning.trinity.episodes import Graph
from stretto.learning.trinity.profiles import by_cluster, near, probes, row_for, successes
from stretto.learning.trinity.training import PROBLEMS, able, mixed
from stretto.learning.trinity.tree import explore
from stretto.policies.coordinator import ROLES, TRINITY_SCHEMA, Observation, head_matrix, whitened
from stretto.policies.episode import Rules, observed
from stretto.sparring import PoolEntry
from stretto.sparring.vocabulary import encode

__all__ = ["PROBES", "add"]

PROBES: Final = 150
"""Simple problems of the probe set, and as many composites: training problems, of which each step counts."""


def add(source: Path, newcomer: str, pool: Sequence[PoolEntry], book: Replies, out: Path) -> Artifact:
    """The coordinator in the folder `source` with `newcomer` beside its workers, written into `out`.

    Its backbone and all rows of its head stay as they are. Raises `ConfigError` where `newcomer` is no solver, or is one of its
    workers already.
    """
    found = artifacts.read(source / "trinity.json", TRINITY_SCHEMA)
    data: dict[str, Any] = dict(found.data)
    known = {entry.id: entry for entry in pool}
    if newcomer not in known or known[newcomer].role != "solver":
        raise ConfigError(f"{newcomer} is no solver of the sparring pool")
    if newcomer in data["workers"]:
        raise ConfigError(f"{newcomer} is one of the coordinator's workers already")
    playing = [*(known[name] for name in data["workers"]), known[newcomer]]
    workers = [entry.id for entry in playing]
    observation = Observation.of(data["observation"])
    graph = Graph(
        mixed("train", PROBES, PROBLEMS),
        Rules.of(data),
        lambda rules, episode: observed(observation, rules, episode),
        workers,
        book,
        able(playing),
    )
    thinking = [place for place, entry in enumerate(playing) if entry.role == "thinker"]
    nodes = probes(graph, explore(graph, range(len(graph.problems)), thinking))
    (beside,) = data["beside"]
    states = States(Backbone(source / beside["file"]), data["pooling"], encode)
    rows = states.rows([graph.texts[t] for t in graph.text[nodes].tolist()])
    features = whitened(rows, unpacked(data["mean"]), unpacked(data["whiten"]), bias=data["bias"])
    centres = unpacked(data["profiles"]["centres"]).astype(np.float64)
    right = successes(graph, nodes, [len(workers) - 1])[:, 0]
    fresh = by_cluster(right, near(features, centres), len(centres))
    head, split = head_matrix(data["head"]), len(workers) - 1
    solving = [place for place, entry in enumerate(playing[:-1]) if entry.role == "solver"]
    trained = [workers[place] for place in solving]
    row = row_for(head[solving], centres, data["profiles"]["success"], trained, fresh)
    whole = np.concatenate([head[:split], row[None], head[split:]]).astype(np.float32)
    data["head"] = {"kind": "linear", "weight": packed(whole)}
    data["workers"] = workers
    data["able"] = {
        role: [workers[int(i)] for i in np.flatnonzero(may)]
        for role, may in zip(ROLES, able(playing), strict=True)
    }
    data["best"] = [*data["best"], newcomer]
    success = {**data["profiles"]["success"], newcomer: [round(float(x), 4) for x in fresh]}
    data["profiles"] = {**data["profiles"], "success": success}
    out.mkdir(parents=True, exist_ok=True)
    target = out / "coordinator.gguf"
    shutil.copyfile(source / beside["file"], target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    data["beside"] = [{**beside, "file": target.name, "sha256": digest}]
    provenance = {**found.provenance, "added": newcomer, "added_to": found.hash, "probes": len(nodes)}
    made = replace(found, data=data, provenance=provenance)
    artifacts.write(made, out / "trinity.json")
    return made
