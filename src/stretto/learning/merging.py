"""Evolutionary merging of models in weight space: two or three GGUF files of one architecture become one.

The genome says, for every block of the network, how much of each parent goes in; CMA-ES (Hansen 2016, `cmaes`) moves it towards
what scores best. Two ways to mix, after Akiba et al. 2024 (arXiv 2403.13187) and Ilharco et al. 2023 (arXiv 2212.04089):

- `weights`: a logit for each (block, parent); softmax over the parents; the weighted mean of the tensors.
- `arithmetic`: a factor for each (block, parent); base + sum of factor x (parent - base).

Every score is written down as it comes. A search that was stopped, even by kill -9, is played again from those and goes on: the
generator's state needs no file of its own. Needs the `evolve` extra (cmaes, gguf, numpy), not torch.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import gguf
import numpy as np
from cmaes import CMA

from stretto.errors import ConfigError

__all__ = [
    "SCHEMA",
    "Evaluation",
    "Method",
    "Model",
    "Plan",
    "Score",
    "Search",
    "Space",
    "evolve",
    "read_model",
    "space_of",
    "write_model",
]

SCHEMA: Final = "stretto.merge/1"
"""Of the log of a search, and of the note that a merged file carries under the key `stretto.merge`."""

Method = Literal["weights", "arithmetic"]

Score = Callable[[Path], Awaitable[float]]
"""How good the model in a file is, higher is better. Equal files must score alike."""

_FLOATS: Final = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)
_FINALISTS: Final = 5
_NEAR: Final = 3.0
"""The logit of a parent at whose corner a search starts: 95 % of it beside one other."""

_DESCRIBES: Final = (
    "general.name",
    "general.description",
    "general.version",
    "general.base_model.",
    "stretto.merge",
)
"""What a file says about itself, which is not true of a mixture."""

_IDENTITY: Final = ("general.architecture", "tokenizer.")
"""Metadata that must be equal in all parents, beside everything that begins with the architecture's name."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A GGUF file in memory: its metadata (key -> type, type of items, value) and its tensors as 32-bit floats."""

    name: str
    path: Path
    sha256: str
    fields: Mapping[str, tuple[Any, Any, Any]]
    tensors: Mapping[str, Any]
    types: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        """What llama.cpp calls its kind, such as `llama`."""
        return str(self.fields["general.architecture"][2])


def read_model(path: Path, name: str = "") -> Model:
    """The model in a file. Raises `ConfigError` for what cannot be averaged: no GGUF file, or quantised tensors."""
    try:
        reader = gguf.GGUFReader(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there") from None
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(f"{path} cannot be read as a GGUF file: {error}") from None
    quantised = [t for t in reader.tensors if t.tensor_type not in _FLOATS]
    if quantised:
        first = quantised[0]
        raise ConfigError(
            f"{path}: {first.name} is quantised ({first.tensor_type.name}); rounded weights cannot be averaged: "
            "take the F16 or F32 file"
        )
    fields = {
        key: (found.types[0], found.types[-1] if len(found.types) > 1 else None, found.contents())
        for key, found in reader.fields.items()
        if not key.startswith("GGUF.")
    }
    return Model(
        name or path.stem,
        path,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        fields,
        {t.name: np.array(t.data, dtype=np.float32) for t in reader.tensors},
        {t.name: t.tensor_type for t in reader.tensors},
    )


def write_model(
    like: Model, tensors: Mapping[str, Any], target: Path, notes: Mapping[str, Any] | None = None
) -> None:
    """Write `tensors` with the metadata, the types and the order of `like`; `notes` says how they came about.

    `notes`: `name`, `description`, and anything else, kept as JSON under `stretto.merge`. Equal arguments give equal bytes; the
    file is there whole or not at all.
    """
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, like.architecture)
    if notes is not None:
        writer.add_name(str(notes["name"]))
        writer.add_description(str(notes["description"]))
        writer.add_base_model_count(len(notes["parents"]))
        for place, parent in enumerate(notes["parents"]):
            writer.add_base_model_name(place, parent["name"])
        writer.add_string("stretto.merge", json.dumps({"schema": SCHEMA, **notes}, sort_keys=True))
    for key, (kind, inner, value) in like.fields.items():
        if key != "general.architecture" and not key.startswith(_DESCRIBES):
            writer.add_key_value(key, value, kind, inner)
    for name, kind in like.types.items():
        half = kind == gguf.GGMLQuantizationType.F16
        writer.add_tensor(name, np.ascontiguousarray(tensors[name], dtype=np.float16 if half else np.float32))
    target.parent.mkdir(parents=True, exist_ok=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)


# --- the space of mixtures ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """All mixtures of some parents. A genome is a flat array of one number for each (block, parent), block by block."""

    parents: tuple[Model, ...]
    base: Model | None
    blocks: tuple[str, ...]

    @property
    def method(self) -> Method:
        """With a base, differences to it are added up; without, tensors are averaged."""
        return "weights" if self.base is None else "arithmetic"

    @property
    def size(self) -> int:
        """Numbers of a genome."""
        return len(self.blocks) * len(self.parents)

    def shares(self, genome: Any) -> Any:
        """How much of each parent goes into each block: an array (blocks, parents)."""
        found = np.asarray(genome, dtype=np.float64).reshape(len(self.blocks), len(self.parents))
        if self.base is not None:
            return found
        raised = np.exp(found - found.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)

    def mixed(self, genome: Any) -> dict[str, Any]:
        """The tensors of a mixture, 32-bit."""
        return self._mixed(self.shares(genome))

    def mean(self) -> dict[str, Any]:
        """The tensors of the plain mean of all parents."""
        return {name: sum(p.tensors[name] for p in self.parents) / len(self.parents) for name in self._names}

    def starts(self) -> dict[str, Any]:
        """Where a search can begin: the mean, at each parent, and, with a base, all differences added up whole."""
        count = len(self.parents)
        if self.base is None:
            found = {"mean": np.zeros(self.size)}
            corners = _NEAR * np.eye(count)
        else:
            found = {"mean": np.full(self.size, 1 / count), "sum": np.ones(self.size)}
            corners = np.eye(count)
        names = (parent.name for parent in self.parents)
        return found | {name: np.tile(corners[k], len(self.blocks)) for k, name in enumerate(names)}

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.parents[0].tensors)

    def _mixed(self, shares: Any) -> dict[str, Any]:
        place = {block: row for row, block in enumerate(self.blocks)}
        made = {}
        for name in self._names:
            row = shares[place[_block(name)]].astype(np.float32)
            ground = 0.0 if self.base is None else self.base.tensors[name]
            made[name] = ground + sum(
                share * (parent.tensors[name] - ground)
                for share, parent in zip(row, self.parents, strict=True)
            )
        return made


def _block(tensor: str) -> str:
    """The block of a tensor: `blk.3` for what is in a layer, else its own name without `.weight` and `.bias`."""
    parts = tensor.split(".")
    return ".".join(parts[:2]) if parts[0] == "blk" else parts[0]


def space_of(parents: Sequence[Model], base: Model | None = None) -> Space:
    """The mixtures of `parents`. Raises `ConfigError` where these cannot be averaged tensor by tensor."""
    if not 2 <= len(parents) <= 3:
        raise ConfigError(f"merging takes two or three models, not {len(parents)}")
    names = [parent.name for parent in parents]
    if len({parent.sha256 for parent in parents}) < len(parents) or len(set(names)) < len(names):
        raise ConfigError(f"merging needs different models with different names, not {', '.join(names)}")
    first = parents[0]
    for other in (*parents[1:], *([base] if base else [])):
        _alike(first, other)
    return Space(tuple(parents), base, tuple(dict.fromkeys(map(_block, first.tensors))))


def _alike(a: Model, b: Model) -> None:
    if a.architecture != b.architecture:
        raise ConfigError(
            f"{a.name} is a {a.architecture}, {b.name} a {b.architecture}; only one architecture can be merged"
        )
    for name in sorted({*a.tensors, *b.tensors}):
        left, right = (tuple(m.tensors[name].shape) if name in m.tensors else None for m in (a, b))
        if left != right:
            told = " and ".join(f"{_shape(shape)} in {m.name}" for shape, m in ((left, a), (right, b)))
            raise ConfigError(f"{name} is {told}; only models of one shape can be merged")
    words = (*_IDENTITY, f"{a.architecture}.")
    for key in sorted({*a.fields, *b.fields}):
        if key == "tokenizer.chat_template":  # the first parent's is taken
            continue
        if key.startswith(words) and a.fields.get(key, (0, 0, None))[2] != b.fields.get(key, (0, 0, None))[2]:
            what = (
                "their vocabularies are not the same"
                if key.startswith("tokenizer.ggml")
                else "they differ in it"
            )
            raise ConfigError(f"{a.name} and {b.name} cannot be merged: {what} ({key})")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape[::-1]))


# --- the search --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search. `start` is one of the space's starts, or `best` for whichever scores best; `problems` names what the score
    is measured on, so that a log is never continued with other problems."""

    evaluations: int = 200
    sigma: float = 0.3
    seed: int = 1
    start: str = "best"
    problems: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One mixture that was scored; `start` names it if it is one of the space's starts."""

    genome: Any
    score: float
    start: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """All that was scored, in order, and what came of it: `chosen` did best among the finalists on other problems."""

    evaluations: tuple[Evaluation, ...]
    began: str
    chosen: Evaluation
    confirmed: float
    """The score of `chosen` on the other problems."""

    @property
    def starts(self) -> dict[str, float]:
        """The scores of the starts."""
        return {e.start: e.score for e in self.evaluations if e.start}


async def evolve(
    space: Space,
    score: Score,
    confirm: Score,
    plan: Plan,
    folder: Path,
    *,
    tick: Callable[[str], None] = lambda said: None,
) -> Search:
    """Search for the mixture that scores best; `folder/log.jsonl` keeps every score, `folder/candidate.gguf` is being scored.

    CMA-ES with populations of 4 + floor(3 ln n) (Hansen 2016), at most `plan.evaluations` scores beside those of the starts. The
    best of so many scores is partly luck, so the five best are scored again by `confirm`, on other problems, which choose.
    `tick(text)` is called after each score. Raises `ConfigError` for a log that belongs to another search.
    """
    log = _Log(folder / "log.jsonl", _header(space, plan))
    candidate = folder / "candidate.gguf"

    async def scored(kind: str, genome: Any, judge: Score) -> float:
        found = log.recall(kind, genome)
        if found is None:
            write_model(space.parents[0], space.mixed(genome), candidate)
            found = log.keep(kind, genome, await judge(candidate))
        tick(f"{kind} {found:.3f}")
        return found

    seen = [Evaluation(g, await scored(name, g, score), name) for name, g in space.starts().items()]
    began = plan.start
    if began == "best":
        began = max(seen, key=lambda e: e.score).start
    elif began not in space.starts():
        raise ConfigError(f'there is no start "{began}"; there are best, {", ".join(space.starts())}')
    search = CMA(mean=space.starts()[began], sigma=plan.sigma, seed=plan.seed)
    done = 0
    while done + search.population_size <= plan.evaluations and not search.should_stop():
        told = []
        for _ in range(search.population_size):
            genome = search.ask()
            seen.append(Evaluation(genome, await scored("evaluation", genome, score)))
            told.append((genome, -seen[-1].score))
        search.tell(told)
        done += len(told)
    names = {parent.name for parent in space.parents}
    mixtures = [e for e in seen if e.start not in names]
    best = sorted(mixtures, key=lambda e: -e.score)[:_FINALISTS]
    again = [(await scored("finalist", e.genome, confirm), e.score, -k) for k, e in enumerate(best)]
    first = max(again)
    candidate.unlink(missing_ok=True)
    return Search(tuple(seen), began, best[-first[2]], first[0])


def _header(space: Space, plan: Plan) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "method": space.method,
        "parents": [parent.sha256 for parent in space.parents],
        "base": space.base.sha256 if space.base else "",
        "sigma": plan.sigma,
        "seed": plan.seed,
        "start": plan.start,
        "problems": plan.problems,
    }


class _Log:
    """Scores by mixture: a search asks again from the beginning, for the same mixtures, and is told what is known."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        whole = lines[:-1]  # the last piece is empty, or a line that was cut off
        if whole and json.loads(whole[0]) != header:
            raise ConfigError(
                f"{path} is of another search (other models, problems or settings); remove it or name another folder"
            )
        rows = [json.loads(line) for line in whole[1:]]
        self._known = {_key(row["kind"], row["genome"]): float(row["score"]) for row in rows}
        kept = b"".join(line + b"\n" for line in whole) or json.dumps(header).encode() + b"\n"
        if not whole or lines[-1]:
            part = path.with_suffix(".part")
            part.write_bytes(kept)
            part.replace(path)

    def recall(self, kind: str, genome: Any) -> float | None:
        """The score of a mixture, if it was kept."""
        return self._known.get(_key(kind, genome))

    def keep(self, kind: str, genome: Any, score: float) -> float:
        """Write a new score down, at once."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"kind": kind, "genome": [float(x) for x in genome], "score": score}) + "\n")
        self._known[_key(kind, genome)] = score
        return score


def _key(kind: str, genome: Any) -> tuple[str, tuple[float, ...]]:
    return kind, tuple(float(x) for x in genome)
