"""What was learned beforehand, where it is found, and the workers that it brings along."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stretto import artifacts, sparring
from stretto.artifacts import Artifact
from stretto.config import Settings
from stretto.errors import ConfigError
from stretto.policies.cascade import THRESHOLDS_SCHEMA
from stretto.policies.conductor import CONDUCTOR_SCHEMA
from stretto.policies.coordinator import TRINITY_SCHEMA
from stretto.policies.route import TABLE_SCHEMA
from stretto.policies.sequential import EVIDENCE_SCHEMA
from stretto.types import Card, Price

if TYPE_CHECKING:
    from stretto.pool.worker import Worker

__all__ = ["Learned", "equipped", "learned"]

_BRINGS: Final = {"trinity": TRINITY_SCHEMA, "conductor": CONDUCTOR_SCHEMA}
"""Types of policies whose artefacts may bring workers, and their schemas."""

_OF_THE_MODEL: Final = ("role", "vendor", "licence")
"""Labels that tell of a model, wherever it runs."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned about this pool: the table that `route` reads, the thresholds that `cascade` reads, the evidence that
    `stretto` buys answers by, the artefacts of `trinity` and `conductor`.

    `folders`: where the last two lie, since the files that they name are relative to that. `beside`: the ids of the workers
    that artefacts brought along, by the SHA-256 of their files.
    """

    table: Artifact | None = None
    thresholds: Artifact | None = None
    evidence: Artifact | None = None
    trinity: Artifact | None = None
    conductor: Artifact | None = None
    folders: Mapping[str, Path] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)

    def lengths(self) -> Mapping[str, float]:
        """How many tokens each worker's replies had on average in what evidence, or else the route table, was learned from."""
        told = {} if self.table is None else dict(self.table.data.get("tokens", {}))
        if self.evidence is None or "usual" not in self.evidence.data:
            return told
        means, deviations = artifacts.unpacked(self.evidence.data["usual"])  # of the logarithm
        found = zip(self.evidence.data["workers"], means, deviations, strict=True)
        return told | {
            worker: math.expm1(mean + deviation * deviation / 2) for worker, mean, deviation in found
        }


def learned(data: Path, workers: Iterable[str], folder: Path | None = None) -> Learned:
    """What was learned about these workers: in `folder`, else in the data folder's `artifacts`, else what ships.

    The shipped artefacts serve a pool of sparring models only: they know nothing of others, so others would never be chosen.
    """
    shipped = Path(sparring.__file__).parent / "artifacts"
    known = {entry.id for entry in sparring.entries()} if (shipped / "route-table.json").exists() else set()
    places = [(data / "artifacts", True), (shipped, set(workers) <= known)]
    if folder is not None:
        places.insert(0, (folder, True))
    folders: dict[str, Path] = {}

    def find(name: str, schema: str) -> Artifact | None:
        for place, usable in places:
            if usable and (place / f"{name}.json").exists():
                folders[name] = place
                return artifacts.read(place / f"{name}.json", schema)
        return None

    return Learned(
        find("route-table", TABLE_SCHEMA),
        find("thresholds", THRESHOLDS_SCHEMA),
        find("evidence", EVIDENCE_SCHEMA),
        find("trinity", TRINITY_SCHEMA),
        find("conductor", CONDUCTOR_SCHEMA),
        folders,
    )


def equipped(
    settings: Settings, workers: "Sequence[Worker]", folder: Path | None = None
) -> "tuple[tuple[Worker, ...], Learned]":
    """What was learned about these workers, and the pool with those that artefacts bring along (a backbone, a planner).

    Artefacts in `folder` go before those of the data folder. Raises `ConfigError` for one that is damaged, or whose file is
    absent or not the one that it was learned with.
    """
    # an embedder beside the workers that write text changes nothing of what was learned
    found = learned(settings.data, [w.id for w in workers if "text" in w.card.abilities], folder)
    pool, ids, here = list(workers), {}, _here(workers)
    taken = {worker.id for worker in workers}
    for artifact, folder in _bringing(found, settings):
        for row in artifact.data.get("beside", ()):
            if row["sha256"] in ids:
                continue
            made = _worker(row, folder, here)
            if made.id in taken:
                made = replace(made, id=f"{made.id}-{row['sha256'][:6]}")
                made = replace(made, card=replace(made.card, id=made.id))
            taken.add(made.id)
            ids[row["sha256"]] = made.id
            pool.append(made)
    return tuple(pool), replace(found, beside=ids)


def _bringing(found: Learned, settings: Settings) -> Iterator[tuple[Artifact, Path]]:
    """The artefacts that may bring workers, each with its folder: the learned ones, and those that the owner's policies name."""
    for name, artifact in (("trinity", found.trinity), ("conductor", found.conductor)):
        if artifact is not None:
            yield artifact, found.folders[name]
    base = settings.source.parent if settings.source else Path()
    for own in settings.policies.values():
        if own.type in _BRINGS and "artifact" in own.options:
            path = base / Path(own.options["artifact"]).expanduser()
            yield artifacts.read(path, _BRINGS[own.type]), path.parent


def _here(workers: "Sequence[Worker]") -> dict[str, str]:
    """The labels of this machine: those on which all workers that run on it agree, but for what tells of the model."""
    local = [w.card.labels for w in workers if all(place.gguf is not None for place in w.places)]
    return {
        label: value
        for label, value in (local[0] if local else {}).items()
        if label not in _OF_THE_MODEL and all(other.get(label) == value for other in local)
    }


def _worker(row: Mapping[str, Any], folder: Path, here: Mapping[str, str]) -> "Worker":
    """A worker that stands beside an artefact: a GGUF file with a job of its own, on this machine, whose labels are `here`."""
    from stretto.pool.worker import Place, Worker  # late: it loads the HTTP client

    path = (folder / row["file"]).resolve()
    try:
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); an artefact in {folder} needs it"
        ) from None
    if sha != row["sha256"]:
        raise ConfigError(
            f"{path} is not the file that the artefact in {folder} was learned with; copy both together"
        )
    price = row.get("price", {"input": 0.0, "output": 0.0})
    card = Card(
        row["id"],
        price=Price.per_million(price["input"], price["output"]),
        labels={"role": row["role"], **row.get("labels", {}), **here},
        abilities=frozenset({"text", "logprobs", "state"}),
        context=row.get("context", 2048),
        description=row.get("about", ""),
    )
    place = Place(f"{row['id']}/{sha[:6]}", gguf=path, labels={"host": "local"})
    return Worker(row["id"], row["id"], (place,), card, dense=True)
