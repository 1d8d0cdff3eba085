"""A gate between what was learned and what is served: it refuses a tie and says why, keeps what was there, and can go back.

A candidate passes if it is better (the 95 % interval of the paired difference lies above zero), or if it is as good at a lower
cost: with 95 % confidence it loses at most the margin, and the whole 95 % interval of its relative cost lies below 1.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from stretto import artifacts
from stretto.artifacts import Artifact
from stretto.errors import ConfigError
from stretto.policies.cascade import THRESHOLDS_SCHEMA
from stretto.policies.route import TABLE_SCHEMA
from stretto.policies.sequential import EVIDENCE_SCHEMA

__all__ = [
    "FILES",
    "Promise",
    "Promotions",
    "Record",
    "Verdict",
    "item_mark",
    "judge",
    "judge_values",
    "relative_cost",
    "shown",
]

FILES: Final[Mapping[str, str]] = {
    EVIDENCE_SCHEMA: "evidence.json",
    TABLE_SCHEMA: "route-table.json",
    THRESHOLDS_SCHEMA: "thresholds.json",
}
"""What a promoted artefact of each schema is called in DATA/artifacts, where `stretto serve` looks for it."""

_Z: Final = 1.6448536269514722  # one-sided 95 %
_Z95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Verdict:
    """`passed`, in words why, and the figures it rests on. Differences and bounds are of 1, not points; `cost` is relative."""

    passed: bool
    reason: str
    n: int
    score: float = math.nan
    difference: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    loss_bound: float = math.nan
    cost: tuple[float, float, float] = (math.nan, math.nan, math.nan)


def relative_cost(costs: Any, base: Any) -> tuple[float, float, float]:
    """Sum of costs over that of the base, with its 95 % interval (delta method, paired); `nan` where the base costs nothing."""
    a, b = np.asarray(costs, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if not b.sum() > 0:
        return math.nan, math.nan, math.nan
    ratio = float(a.sum() / b.sum())
    half = _Z95 * float((a - ratio * b).std(ddof=1)) / (float(b.mean()) * math.sqrt(len(a)))
    return ratio, ratio - half, ratio + half


def judge(
    scores: Any, base_scores: Any, costs: Any, base_costs: Any, *, margin: float = 0.01, least: int = 300
) -> Verdict:
    """The gate over paired outcomes: scores (0..1) and costs of candidate and base on the same items.

    Normal intervals of paired differences. Fewer than `least` items pass nothing.
    """
    a, b = np.asarray(scores, dtype=np.float64), np.asarray(base_scores, dtype=np.float64)
    n = len(a)
    if n < max(least, 2):
        return Verdict(False, f"{n} paired items are too few: {least} are needed", n)
    gap = a - b
    mean, error = float(gap.mean()), float(gap.std(ddof=1)) / math.sqrt(n)
    difference = mean, mean - _Z95 * error, mean + _Z95 * error
    cost = relative_cost(costs, base_costs)
    return _decided(n, float(a.mean()), difference, _Z * error - mean, cost, margin)


def judge_values(
    score: float,
    difference: tuple[float, float, float],
    cost: tuple[float, float, float],
    n: int,
    *,
    margin: float = 0.01,
) -> Verdict:
    """The same gate over off-policy values: the difference to the base with its 95 % interval, and the relative cost with its."""
    mean, low, _ = difference
    loss = _Z * (mean - low) / _Z95 - mean
    return _decided(n, score, difference, loss, cost, margin)


def _decided(
    n: int,
    score: float,
    difference: tuple[float, float, float],
    loss: float,
    cost: tuple[float, float, float],
    margin: float,
) -> Verdict:
    mean, low, high = difference
    gap = f"{100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    at = "" if math.isnan(cost[0]) else f" at x{cost[0]:.2f} [{cost[1]:.2f}, {cost[2]:.2f}] of the cost"

    def told(passed: bool, why: str) -> Verdict:
        return Verdict(passed, f"{why}: {gap}{at}, {n} items", n, score, difference, loss, cost)

    if low > 0:
        return told(True, "better")
    if loss < margin and cost[2] < 1:
        points = f"{100 * margin:g} point{'s' * (margin != 0.01)}"
        return told(True, f"as good (loses less than {points} with 95 %) and cheaper")
    if high < 0:
        return told(False, "worse")
    if loss >= margin and cost[2] < 1:
        return told(False, f"cheaper, but a loss of up to {100 * loss:.1f} points is not ruled out")
    if loss < margin:
        known = "no cost is known" if math.isnan(cost[0]) else "it is not shown to be cheaper"
        return told(False, f"a tie: as good, but {known}")
    return told(False, "a tie: the interval of the difference holds zero")


# --- what is served ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """What a promotion rests on, kept in the artefact's provenance: whom it beat, by how much, at what cost, on what."""

    against: str
    evaluation: str
    n: int
    score: float
    difference: tuple[float, float, float]
    cost: tuple[float, float, float]
    margin: float
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """A line of the history: `hash` is served from `time` on instead of `previous` ("": nothing of its kind), and why."""

    what: Literal["promoted", "undone", "demoted"]
    file: str
    hash: str
    previous: str
    time: float
    reason: str
    promise: Mapping[str, Any] = field(default_factory=dict)


class Promotions:
    """The artefacts of a data folder: `artifacts/NAME.json` is served, `artifacts/versions/` keeps all, `promotions.jsonl` tells.

    Changes are whole or not at all, one at a time. Raises `ConfigError`.
    """

    def __init__(self, data: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = data / "artifacts"
        self._history = self.folder / "promotions.jsonl"
        self._clock = clock

    def current(self, file: str) -> Artifact | None:
        """What is served now, if anything."""
        path = self.folder / file
        schema = next(schema for schema, name in FILES.items() if name == file)
        return artifacts.read(path, schema) if path.exists() else None

    def history(self, file: str = "") -> list[Record]:
        """What was promoted, undone and demoted, oldest first; of one file if named."""
        try:
            lines = self._history.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError):
                continue  # the end of a line that a kill has cut off
            if not file or record.file == file:
                found.append(record)
        return found

    def promote(self, artifact: Artifact, promise: Promise) -> Record:
        """Serve this artefact from now on; what was served before is kept."""
        file = FILES.get(artifact.schema)
        if file is None:
            raise ConfigError(
                f"artefacts of schema {artifact.schema} are not promoted: put them where they are used"
            )
        with self._alone():
            before = self.current(file)
            if before is not None and before.hash == artifact.hash:
                raise ConfigError(f"{file} is served already (hash {artifact.hash})")
            if before is not None:
                self._keep(before, file)
            promised = Artifact(
                artifact.schema, {**artifact.provenance, "promotion": asdict(promise)}, artifact.data
            )
            self._keep(promised, file)
            return self._serve(
                Record(
                    "promoted",
                    file,
                    artifact.hash,
                    before.hash if before else "",
                    self._clock(),
                    promise.reason,
                    asdict(promise),
                )
            )

    def back(self, file: str, what: Literal["undone", "demoted"], reason: str, only: str = "") -> Record:
        """Serve again what was served before the artefact that is served now; nothing, if that was the first.

        `only`: the hash of that artefact, so that of two who find the same fault one alone acts.
        """
        with self._alone():
            now = self.current(file)
            if now is not None and only not in ("", now.hash):
                raise ConfigError(f"{file}: {only} is no longer served")
            if now is None:
                raise ConfigError(f"nothing was promoted to {file}: there is nothing to go back from")
            last = next(
                (r for r in reversed(self.history(file)) if r.what == "promoted" and r.hash == now.hash), None
            )
            if last is None:
                raise ConfigError(f"{file} was not put there by `stretto promote`: move it away by hand")
            self._keep(now, file)
            return self._serve(Record(what, file, last.previous, now.hash, self._clock(), reason))

    # --- inside ---

    def _version(self, file: str, hash: str) -> Path:
        return self.folder / "versions" / f"{Path(file).stem}-{hash}.json"

    def _keep(self, artifact: Artifact, file: str) -> None:
        path = self._version(file, artifact.hash)
        if not path.exists() or "promotion" in artifact.provenance:
            artifacts.write(artifact, path)

    def _serve(self, record: Record) -> Record:
        """Note it, then put the version in its place by one rename. A kill in between leaves a note of what was not done yet."""
        line = (json.dumps(asdict(record), ensure_ascii=False) + "\n").encode()
        handle = os.open(self._history, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
        target = self.folder / record.file
        if record.hash:
            partial = target.with_suffix(".partial")
            shutil.copyfile(self._version(record.file, record.hash), partial)
            partial.replace(target)
        else:
            target.unlink(missing_ok=True)
        return record

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def item_mark(prompt: str) -> str:
    """A short name of a prompt, by which an artefact can say from which items it was learned."""
    return hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()[:12]


def shown(
    against: str,
    u: float,
    outcomes: tuple[Any, Any, Any, Any],
    prompts: Iterable[str],
) -> dict[str, Any]:
    """For an artefact's provenance: from which prompts it was learned, and what it brought on items that each part had not seen.

    `outcomes`: cross-fitted scores, those of `against` (the best single worker), costs, its costs; at the price `u`.
    """
    verdict = judge(*outcomes, least=2)
    told: dict[str, Any] = {"against": against, "u": u, "n": verdict.n, "score": round(verdict.score, 5)}
    told |= {name: [round(x, 5) for x in getattr(verdict, name)] for name in ("difference", "cost")}
    return {"cross_fitted": told, "learned_from": " ".join(sorted({item_mark(p) for p in prompts}))}
