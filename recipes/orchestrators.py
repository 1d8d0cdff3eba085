"""What the orchestrators are worth on the sparring pool: every contender and control on the same held-out problems, live.

    python recipes/orchestrators.py --trained FOLDER [--n 1000] [--docs docs] [--only PATTERN]

FOLDER holds a sub-folder for each artefact, as `stretto train trinity|conductor --out` leaves it: `trinity-1`, `trinity-2`, ...
(seeds), `trinity-stage-1` and the like (ablations), `conductor-1`, ...; `conductor-less-list-north` was trained without that
worker, `trinity-added-list-north` got it back by its profile alone, `trinity-reduced-...` had the budget of `trinity-reduced`.
Every run goes through the engine, its policy and llama.cpp; a question at temperature 0 is asked once and its reply kept
(OUT/replies.jsonl). Answers are kept as they come (OUT/answers.jsonl), so a run that was killed goes on. `--only` plays the
contenders whose names match, beside the workers. Tables and pictures go to OUT, and with `--docs` into the documentation.
"""

import argparse
import asyncio
import fnmatch
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from orchestrators_kept import Kept, known
from orchestrators_shown import Answers, chosen, show

from stretto import artifacts
from stretto.app import World, find_workers, open_world
from stretto.catalog import equipped
from stretto.cli.progress import progress
from stretto.config import parse
from stretto.engine.run import Engine
from stretto.evaluation.runner import Asking, Contender, Log, play
from stretto.evaluation.sets import sparring_items, sub_pool
from stretto.evaluation.tasks import Item
from stretto.ledger.memory import MemoryStore
from stretto.policies.coordinator import TRINITY_SCHEMA
from stretto.policies.solo import Solo
from stretto.sparring import FAMILIES, entries
from stretto.types import Card, Limits

SETS = ("simple", "composite", "pairs", "wordings")
MIX = ("simple", "composite")
CONTROLS = ("stage-1", "random-search")
"""Ablations that TRINITY has to beat, so on as many problems."""
LEARNED = {
    kind: f'[policy.learned-{kind}]\ntype = "{kind}"\nalone = 1\n'
    for kind in ("trinity", "conductor", "ultra")
}
"""The learned part alone: nobody answers without it, whatever the route table knows. By their own names both are as shipped."""
LONGER = (5, 7, 9)
"""Turns that TRINITY may take for three skills; it was trained with the first of them."""
DOMINATED: dict[str, Any] = {"pool": "dominated", "sets": ("simple",)}
REMOVED = ("digits-south", "list-north")
"""The workers that are taken away in turn."""
LIMITS = Limits(calls=24)
"""The same for everybody. No contender comes near it on purpose: five turns are at most ten calls and two more."""
ASKING = Asking(seed=2, params={"temperature": 0}, max_tokens=160, limits=LIMITS)
DRAWN = 0.7
"""The temperature of the best single worker's further samples."""
SAMPLES = 5
MANY = 26
"""Drawn answers of the worker that is best at composites: what one answer of the Conductor costs there."""
AT_ONCE = 250
"""Items between two fresh ledgers: what has been graded is in the answers' file, and memory is not endless."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One contender: the `policy` of that name in a world with these artefacts, policies of its own (`toml`), and workers."""

    name: str
    policy: str
    kind: str
    folder: Path | None = None
    toml: str = ""
    without: tuple[str, ...] = ()
    pool: str = ""
    sets: tuple[str, ...] = SETS
    sample: int = 0
    n: int = 1_000_000
    """At most so many problems of a set."""


def solvers() -> list[str]:
    """The sparring models that solve problems."""
    return [entry.id for entry in entries() if entry.role == "solver"]


def schedule(trained: Path, out: Path) -> list[Entry]:
    """Everything that is measured, what matters most first. What was not trained is left out.

    The main contenders answer all four sets and three skills; seeds, ablations and other pools the mix of simple and composite.
    """
    folders = sorted(trained.iterdir()) if trained.is_dir() else []
    found = {path.name: path for path in folders if path.is_dir() and any(path.glob("*.json"))}
    every = (*SETS, "triples")
    plan = [Entry(name, name, "worker", sets=every) for name in solvers()]
    for kind in ("conductor", "trinity"):
        if first := found.get(f"{kind}-1"):
            plan.append(_learned(f"{kind}-1", kind, "policy", first, sets=every))
            plan.append(Entry(kind, kind, "policy", first, sets=every))
    plan += [Entry(name, name, "policy", sets=every) for name in ("route", "cascade")]
    if "conductor-1" in found:
        both = _together(found, out)
        plan.append(_learned("ultra-1", "ultra", "policy", both, sets=every))
        plan.append(Entry("stretto-ultra", "stretto-ultra", "policy", both, sets=every))
    if "trinity-1" in found:
        plan.append(
            _learned(
                "trinity-random-routing",
                "trinity",
                "control",
                _uniform(found["trinity-1"], out),
                sets=MIX,
                n=500,
            )
        )
    plan += [
        _learned(name, name.partition("-")[0], "seed", found[name], sets=MIX)
        for name in ("trinity-2", "trinity-3", "conductor-2", "conductor-3")
        if name in found
    ]
    plan += [
        Entry(
            f"trinity-1 turns {turns}",
            "longer",
            "turns",
            found["trinity-1"],
            _longer(found["trinity-1"], turns),
            sets=("triples",),
        )
        for turns in LONGER
        if "trinity-1" in found
    ]
    for name in ("trinity-1", "conductor-1"):
        if name in found:
            kind = name.partition("-")[0]
            plan.append(_learned(f"{name} dominated", kind, "dominated", found[name], **DOMINATED))
            plan.append(Entry(f"{kind} dominated", kind, "dominated", found[name], **DOMINATED))
            for worker in REMOVED:
                rest: dict[str, Any] = {"without": (worker,), "sets": MIX, "n": 500}
                plan.append(_learned(f"{name} without {worker}", kind, "pool", found[name], **rest))
    if "conductor-1" in found:
        plan.append(
            Entry("stretto-ultra dominated", "stretto-ultra", "dominated", _together(found, out), **DOMINATED)
        )
    if "trinity-1" in found or "conductor-1" in found:
        plan += [
            Entry(f"{name} dominated", name, "dominated", **DOMINATED)
            for name in sub_pool("dominated").workers
        ]
    for name in found:
        kind, _, what = name.partition("-")
        if kind not in ("trinity", "conductor") or what.isdigit():
            continue
        less = (what.removeprefix("less-"),) if what.startswith("less-") else ()
        n = 1_000_000 if what in CONTROLS else 500
        plan.append(_learned(name, kind, "ablation", found[name], without=less, sets=MIX, n=n))
        if kind == "conductor" and less:  # its prompt numbers whoever is there: nothing has to be put in
            plan.append(_learned(f"conductor-added-{less[0]}", kind, "ablation", found[name], sets=MIX, n=n))
    if taught := found.get("conductor-recursion", found.get("conductor-1")):
        for depth in (0, 1, 2):
            toml = f'[policy.deep]\ntype = "conductor"\nartifact = "{taught / "conductor.json"}"\ndepth = {depth}\nalone = 1\n'
            plan.append(Entry(f"{taught.name} depth {depth}", "deep", "depth", taught, toml, sets=MIX, n=500))
    return [*plan, Entry("fuse", "fuse", "policy", sets=SETS)]


def _learned(name: str, policy: str, kind: str, folder: Path, **more: Any) -> Entry:
    """What was trained, and nothing beside it."""
    return Entry(name, f"learned-{policy}", kind, folder, LEARNED[policy], **more)


def _longer(trained: Path, turns: int) -> str:
    """A policy like the trained one that may take more turns."""
    return f'[policy.longer]\ntype = "trinity"\nartifact = "{trained / "trinity.json"}"\nturns = {turns}\nalone = 1\n'


def _together(found: dict[str, Path], out: Path) -> Path:
    """A folder with the artefacts of both first seeds, for policies that read both."""
    target = out / "made" / "both"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("trinity-1", "conductor-1"):
        for file in found[name].iterdir() if name in found else ():
            if file.suffix in (".json", ".gguf"):
                shutil.copy(file, target)
    return target


def _uniform(trained: Path, out: Path) -> Path:
    """The same episodes with a head that knows nothing: roles and workers are drawn by lot, all alike."""
    import numpy as np

    target = out / "made" / "random-routing"
    target.mkdir(parents=True, exist_ok=True)
    for file in trained.glob("*.gguf"):
        shutil.copy(file, target)
    made = artifacts.read(trained / "trinity.json", TRINITY_SCHEMA)
    width = len(artifacts.unpacked(made.data["mean"])) if made.data.get("mean") else 128
    if made.data.get("whiten"):
        width = artifacts.unpacked(made.data["whiten"]).shape[0]
    rows = len(made.data["workers"]) + 3
    head = {
        "kind": "linear",
        "weight": artifacts.packed(np.zeros((rows, width + bool(made.data.get("bias"))), np.float32)),
    }
    data = {**made.data, "head": head, "sample": True}
    artifacts.write(replace(made, data=data), target / "trinity.json")
    return target


# --- playing -----------------------------------------------------------------------------------------------------


@cache
def _made(kind: str, n: int, seed: int, families: tuple[str, ...], choosing: int) -> list[Item]:
    """The problems of a set. Making a thousand takes a second, and everybody is asked the same."""
    made = sparring_items((kind,), n, seed, families, choosing=choosing)
    return [replace(item, task=kind) for item in made]


def items_of(entry: Entry, n: int, choosing: int) -> list[Item]:
    """The problems of an entry: `n` of each set, and calibration problems for workers, on which the best single is chosen."""
    families = sub_pool(entry.pool).families if entry.pool else FAMILIES
    asked = []
    for kind in entry.sets:
        some = min(n, entry.n, 300 if kind == "triples" else n)
        few = 0 if kind == "triples" else choosing
        made = _made(kind, some, 3 if entry.pool else 2, tuple(families), few)
        asked += [item for item in made if item.split == "dev" or entry.kind == "worker" or entry.pool]
    return asked


async def measure(plan: Sequence[Entry], n: int, choosing: int, out: Path, width: int) -> Answers:
    """The answers of every entry, in the order of its items."""
    answers: Answers = {}
    replies = known(out / "replies.jsonl")
    with ExitStack() as stack:
        log = Log(out / "answers.jsonl")
        stack.callback(log.close)
        for entry in plan:
            items = items_of(entry, n, choosing)
            async with _opened(entry, out) as (world, digests):
                contender = _contender(entry, world)
                kept = Kept(world.pool, out / "replies.jsonl", digests, replies)
                with progress(len(items), entry.name) as tick:
                    done = []
                    for start in range(0, len(items), AT_ONCE):
                        store = MemoryStore()
                        engine = Engine(kept, store, limits=world.settings.limits)
                        part = items[start : start + AT_ONCE]
                        found = await play(
                            engine,
                            store,
                            _cards(entry, world),
                            part,
                            [contender],
                            log,
                            ASKING,
                            concurrency=width,
                            tick=tick,
                        )
                        done += found[contender.name]
                kept.close()
            answers[entry.name] = (
                entry.kind,
                [(item, result) for item, result in zip(items, done, strict=True)],
            )
            print(f"{entry.name}: {len(items)} items, {kept.asked} asked, {kept.spared} spared", flush=True)
    return answers


@asynccontextmanager
async def _opened(entry: Entry, out: Path) -> AsyncIterator[tuple[World, dict[str, str]]]:
    """The world of an entry, without the workers that it has to do without, and the digest of each worker's file."""
    text = f'[server]\ndata = "{(out / "data").absolute()}"\n[pool]\nsparring = true\n{entry.toml}'
    settings = parse(text, file="orchestrators.toml", environ={})
    found = await find_workers(settings, {})
    only = sub_pool(entry.pool).workers if entry.pool else [worker.id for worker in found.workers]
    workers = tuple(w for w in found.workers if w.id in only and w.id not in entry.without)
    everybody, _ = equipped(settings, workers, entry.folder)
    digests = {w.id: _digest(Path(str(w.places[0].gguf))) for w in everybody}
    async with open_world(settings, replace(found, workers=workers), artefacts=entry.folder) as world:
        yield world, digests


def _cards(entry: Entry, world: World) -> list[Card]:
    """The pool that an answer depends on: of a worker's, the worker. So it is not asked anew when others come and go."""
    if entry.kind in ("worker", "sample"):
        return [card for card in world.pool.cards() if card.id == entry.policy]
    return [replace(card, labels=_role(card)) if _role(card) else card for card in world.pool.cards()]


def _role(card: Card) -> dict[str, str]:
    """The role of what an artefact brings along: its other labels change no answer here."""
    role = card.labels.get("role", "")
    return {"role": role} if role in ("planner", "coordinator") else {}


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()[:16]


def _contender(entry: Entry, world: World) -> Contender:
    if entry.sample:
        again = Solo(entry.policy, params={"temperature": DRAWN})
        return Contender(entry.name, again, "worker", entry.sample)
    return Contender(entry.name, world.catalog.resolve(entry.policy), entry.kind)


def samples(best: dict[str, str]) -> Iterator[Entry]:
    """The best single worker again and again, drawn: what as many calls to it, or as much money, are worth."""
    for number in range(1, SAMPLES + 1):
        yield Entry(f"{best['mix']} sample {number}", best["mix"], "sample", sets=MIX, sample=number)
    cheap = best["composite"]
    for number in range(1, MANY + 1 if cheap != best["mix"] else 1):
        yield Entry(f"{cheap} sample {number}", cheap, "sample", sets=("composite",), sample=number, n=300)


def _named(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern.strip()) for pattern in patterns.split(","))


async def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trained", type=Path, required=True, help="the folder of artefacts")
    parser.add_argument("--n", type=int, default=1000, help="problems of each set")
    parser.add_argument(
        "--choosing",
        type=int,
        default=200,
        help="calibration problems of each set, for the best single worker",
    )
    parser.add_argument(
        "--only",
        default="*",
        help="contenders to play beside the workers, such as 'trinity*,route'",
    )
    parser.add_argument("--out", type=Path, default=Path("orchestrator-figures"))
    parser.add_argument("--docs", type=Path, help="the folder of the documentation")
    parser.add_argument("--width", type=int, default=16, help="questions at a time")
    args = parser.parse_args()
    plan = schedule(args.trained, args.out)
    workers = [entry for entry in plan if entry.kind == "worker"]
    answers = await measure(workers, args.n, args.choosing, args.out, args.width)
    again = samples(chosen(answers, [entry.name for entry in workers]))
    rest = [entry for entry in (*plan, *again) if entry not in workers and _named(entry.name, args.only)]
    answers |= await measure(rest, args.n, args.choosing, args.out, args.width)
    show(answers, args.trained, args.out, args.docs)


if __name__ == "__main__":
    asyncio.run(main())
