"""What `stretto eval` runs: the recorded, the own, reasoning-gym's and the sparring items, through the one engine."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import settings_of
from stretto.cli.progress import progress
from stretto.cli.terminal import dump, table
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.app import World
    from stretto.catalog import Learned
    from stretto.evaluation.comparison import Comparison
    from stretto.evaluation.graders import Grader
    from stretto.evaluation.runner import Asking, Contender, Log, Result
    from stretto.evaluation.sets import SubPool
    from stretto.evaluation.tables import Table
    from stretto.evaluation.tasks import Item
    from stretto.pool.discover import Found
    from stretto.steps import Policy

__all__ = ["Wanted", "evaluated"]

_CHOOSING = 200
"""Calibration problems on which the best single sparring worker is chosen; fewer where fewer are asked."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line. `sets` and `pool` are of the sparring problems."""

    source: str
    path: Path | None
    families: tuple[str, ...]
    n: int | None
    policies: tuple[str, ...]
    workers: tuple[str, ...]
    artefact: Path | None
    samples: int
    grader: str
    out: Path
    concurrency: int
    asking: "Asking"
    config: Path | None
    data: Path | None
    sets: tuple[str, ...] = ()
    pool: str | None = None
    retry_errors: bool = False
    split: str = ""


def evaluated(wanted: Wanted, as_json: bool) -> None:
    """Evaluate, save, and show what came of it."""
    from stretto.evaluation.runner import Log

    log = Log(wanted.out / "results.jsonl")
    try:
        run = _recorded if wanted.source == "recorded" else _live
        if wanted.retry_errors and (failed := log.forget_errors()):
            click.echo(f"{failed} answers that failed are asked anew", err=as_json)
        comparison, names = asyncio.run(run(wanted, log))
        if aside := log.settle():
            told = f"{aside} answers of earlier evaluations in {wanted.out} are put aside (results.stale)"
            click.echo(f"{told} until they are asked for again", err=as_json)
    except KeyboardInterrupt:
        click.echo(f"\nStopped. {wanted.out} keeps what was answered: the same command goes on.", err=True)
        raise SystemExit(130) from None
    finally:
        log.close()
    if "results.parquet" not in names:
        click.echo("no results.parquet: that needs pyarrow (pip install 'stretto[evidence]')", err=True)
    if as_json:
        dump(
            {
                "verdict": comparison.verdict,
                "n": comparison.n,
                "best": comparison.best,
                "out": str(wanted.out),
            }
        )
        return
    _show(comparison)
    click.echo(f"\n{comparison.verdict}")
    for note in comparison.notes:
        click.echo(f"- {note}")
    click.echo(f"\n{wanted.out}: {', '.join(names)}")


async def _recorded(wanted: Wanted, log: "Log") -> "tuple[Comparison, list[str]]":
    from stretto.catalog import Catalog
    from stretto.config import Settings
    from stretto.engine.run import Engine
    from stretto.evaluation import tables
    from stretto.evaluation.comparison import compare, recorded_columns
    from stretto.evaluation.recorded import RecordedPool
    from stretto.evaluation.runner import play
    from stretto.evaluation.tasks import recorded_items
    from stretto.ledger.memory import MemoryStore
    from stretto.pool.repute import repute

    assert wanted.path is not None
    whole = tables.read(wanted.path, texts=True)
    known = whole.only(workers=wanted.workers or whole.covering(), complete=True)
    asked = _asked(wanted, whole.workers)
    gaps = tuple(w for w in asked if w in whole.partly() and not wanted.workers)
    left = [w for w in whole.workers if w not in (*known.workers, *gaps)]
    notes = [
        "Answers, scores and costs are the recorded ones; nothing was asked. A call that asks something else than an item (of a "
        "judge, of a verifier) is on no record and fails.",
    ]
    if len(known.items) < len(whole.items) or (left and not wanted.workers):
        lost = len(whole.items) - len(known.items)
        notes.append(
            f"Left out, since not everything is recorded: {lost} items, workers: {', '.join(left) or 'none'}."
        )
    if gaps:
        notes.append(
            "Workers with gaps may be asked (where there is no record, a call fails and costs nothing), but are no controls: "
            f"{', '.join(gaps)}."
        )
    if not known.items or len(known.workers) < 2:
        raise ConfigError(f"{wanted.path}: no two workers were recorded on the same items")
    ids = {i.id for i in known.items}
    everybody = whole.only(lambda item: item.id in ids, workers=(*known.workers, *gaps))
    items = recorded_items(everybody)
    if wanted.split:
        items = [i for i in items if i.split in ("train", wanted.split)]
    dev = [i for i in items if i.split != "train"]
    if wanted.split and not dev:
        raise ConfigError(f"{wanted.path}: no item is of split {wanted.split}")
    held, single = _beforehand(wanted, everybody.workers), None
    if not dev or len(dev) == len(items):  # no split that could serve: cross-fitted
        items = dev = [replace(i, split="") for i in items]
        single = _measure(wanted, held, known, notes)
    if wanted.n is not None:
        dev = dev[: wanted.n]
        kept = {i.id for i in dev}
        items = [i for i in items if i.split == "train" or i.id in kept]
    ids = {i.id for i in items}
    known = known.only(lambda item: item.id in ids)
    pool, store = RecordedPool(everybody, repute=repute), MemoryStore()
    engine = Engine(pool, store)
    catalog = Catalog(pool.cards(), Settings(), held)
    names = wanted.policies or tuple(_named(wanted, everybody.workers)) or ("cascade", "fuse")
    contenders = _contenders(names, catalog.resolve, wanted, everybody.workers)
    with progress(len(dev) * len(contenders), "evaluating") as tick:
        found = await play(
            engine,
            store,
            pool.cards(),
            dev,
            contenders,
            log,
            wanted.asking,
            concurrency=wanted.concurrency,
            tick=tick,
        )
    notes += [*_familiar(wanted, dev), *_promised(held)]
    columns, asking = recorded_columns(known), wanted.asking
    comparison = compare(
        items, columns, found, seed=asking.seed, notes=notes, single=single, dial=asking.dial
    )
    if held.evidence is not None:
        comparison = replace(comparison, certified=held.evidence.data.get("certified"))
    return comparison, _save(wanted, comparison, items, found, f"{known.name}, recorded")


async def _live(wanted: Wanted, log: "Log") -> "tuple[Comparison, list[str]]":
    from stretto.app import find_workers, open_world
    from stretto.evaluation.comparison import columns_of, compare
    from stretto.evaluation.runner import Contender, play
    from stretto.evaluation.sets import sub_pool
    from stretto.policies.solo import Solo

    settings = settings_of(wanted.config, wanted.data)
    workers = await find_workers(settings)
    part = sub_pool(wanted.pool) if wanted.pool else None
    if part is not None:
        workers = _only(workers, part)
    async with open_world(settings, workers, artefacts=_folder(wanted)) as world:
        items, title = _items(wanted, world, part)
        names = wanted.workers or _alone(wanted, world)
        sure = {card.id for card in world.pool.cards() if "logprobs" in card.abilities}
        solos = [Contender(n, Solo(n, "logprobs" if n in sure else "text"), "worker") for n in names]
        usual = ("route", "cascade", "fuse") if wanted.source == "sparring" else ("stretto",)
        there = [card.id for card in world.pool.cards()]
        contenders = _contenders(wanted.policies or usual, world.catalog.resolve, wanted, there)
        dev = [item for item in items if item.split != "train"]

        async def ask(several: "Sequence[Contender]", those: "Sequence[Item]") -> "dict[str, list[Result]]":
            return await play(
                world.engine,
                world.store,
                world.pool.cards(),
                those,
                several,
                log,
                wanted.asking,
                concurrency=wanted.concurrency,
                tick=tick,
            )

        asks = len(items) * (len(solos) + wanted.samples - 1) + len(dev) * len(contenders)
        with progress(asks, "evaluating") as tick:
            alone = await ask(solos, items)
            best = max(alone, key=lambda name: sum(r.score for r in alone[name]))
            same = next(solo.policy for solo in solos if solo.name == best)
            again = [Contender(f"{best}#{k}", same, "worker", k) for k in range(2, wanted.samples + 1)]
            alone |= await ask(again, items)
            found = await ask(contenders, dev)
        notes = _familiar(wanted, dev, settings.data)
        asking, columns = wanted.asking, columns_of(items, alone)
        comparison = compare(items, columns, found, seed=asking.seed, notes=notes, dial=asking.dial)
    return comparison, _save(wanted, comparison, items, alone | found, title)


def _items(wanted: Wanted, world: "World", part: "SubPool | None") -> "tuple[list[Item], str]":
    """What is asked, and the title of the report."""
    from stretto.evaluation.graders import Judge
    from stretto.evaluation.sets import sparring_items
    from stretto.evaluation.tasks import own_items, reasoning_gym_items
    from stretto.sparring import FAMILIES

    def judged(worker: str, question: str) -> "Grader":
        world.catalog.resolve(worker)
        return Judge(world.engine, worker, question)

    if wanted.source == "sparring":
        n = wanted.n or 600
        families = part.families if part else FAMILIES
        items = sparring_items(wanted.sets, n, wanted.asking.seed, families, choosing=min(n, _CHOOSING))
        pool = f" on the pool {part.name}" if part else ""
        return items, f"{n} held-out sparring problems ({', '.join(wanted.sets)}){pool}"
    if wanted.path is not None:
        return own_items(wanted.path, default=wanted.grader, judge=judged)[: wanted.n], wanted.path.name
    items = reasoning_gym_items(wanted.families, wanted.n or 50, wanted.asking.seed)
    return items, f"reasoning-gym: {', '.join(wanted.families)}"


def _alone(wanted: Wanted, world: "World") -> tuple[str, ...]:
    """The workers that are compared alone: whoever writes text; of the sparring models, those that solve problems."""
    cards = [card for card in world.pool.cards() if "text" in card.abilities]
    if wanted.source != "sparring":
        return tuple(card.id for card in cards if card.labels.get("role", "solver") == "solver")
    from stretto.sparring import entries

    there = {card.id for card in cards}
    solvers = tuple(e.id for e in entries() if e.role == "solver" and e.id in there)
    if not solvers:
        raise ConfigError("this pool has no sparring model; set `sparring = true` under [pool]")
    return solvers


def _only(found: "Found", pool: "SubPool") -> "Found":
    """The workers that a named pool is made of."""
    workers = tuple(worker for worker in found.workers if worker.id in pool.workers)
    if len(workers) < len(pool.workers):
        raise ConfigError(
            f'the pool "{pool.name}" needs {", ".join(pool.workers)}; set `sparring = true` under [pool]'
        )
    return replace(found, workers=workers)


def _folder(wanted: Wanted) -> Path | None:
    """The folder of artefacts that was named, if it is one."""
    return wanted.artefact if wanted.artefact is not None and wanted.artefact.is_dir() else None


def _contenders(
    names: "Sequence[str]", resolve: Any, wanted: Wanted, there: "Sequence[str]"
) -> "list[Contender]":
    """Policies by name; `NAME@DIAL` sets the dial of one. `there`: the workers of the pool."""
    from stretto.evaluation.comparison import turned_of
    from stretto.evaluation.runner import Contender

    learned = _named(wanted, there)
    about = _asked(wanted, there)
    if about and _folder(wanted) is None and not set(about) & set(there):
        raise ConfigError(
            f"{wanted.artefact}: was learned about {_few(about)}; none of them is in this pool ({_few(there)})"
        )
    found = []
    for name in dict.fromkeys(names):
        base, turned = (name, None) if name in there else turned_of(name)
        if ("@" in base and base not in there) or not 0 <= (turned or 0.0) <= 1:
            raise ConfigError(f'--policy {name}: what follows "@" is the dial, a number from 0 to 1')
        if base == "sequential" and base not in learned and wanted.source == "recorded":
            raise ConfigError(
                f"--policy {name}: goes by what was learned; name it by --artefact FILE, made by `stretto train evidence`"
            )
        policy: Policy = learned.get(base) or resolve(base)
        found.append(Contender(name, policy, dial=turned))
    return found


def _named(wanted: Wanted, there: "Sequence[str]") -> "dict[str, Policy]":
    """The policies of the artefacts that were named, under the names of their types."""
    from stretto.policies.route import Route, Table
    from stretto.policies.sequential import Evidence, Sequential

    if wanted.artefact is None:
        return {}
    held = _beforehand(wanted, there)
    found: dict[str, Policy] = {}
    if held.evidence is not None:
        found["sequential"] = Sequential(Evidence(held.evidence))
    if held.table is not None and not wanted.artefact.is_dir():  # a folder's serves as it does in a gateway
        found["route"] = Route(table=Table(held.table))
    return found


def _asked(wanted: Wanted, there: "Sequence[str]") -> tuple[str, ...]:
    """The workers that the evidence which was named may ask."""
    held = _beforehand(wanted, there)
    return () if held.evidence is None else tuple(held.evidence.data["workers"])


def _measure(wanted: Wanted, held: "Learned", table: "Table", notes: list[str]) -> tuple[str, str] | None:
    """The best single worker of what the named artefact was learned from, and that in words, for items that come without
    others on which one could be chosen; one of those whose costs `table` knows.
    """
    if wanted.artefact is None:
        return None
    outcomes = ((w, table.said(i.id, w)) for w in table.workers for i in table.items)
    known = {w for w, one in outcomes if one is not None and one.cost is not None} or set(table.workers)
    best = ""
    if held.evidence is not None:
        best = str(held.evidence.provenance.get("cross_fitted", {}).get("against", ""))
    elif held.table is not None:
        right: dict[str, list[float]] = {}
        for task in held.table.data["tasks"].values():
            for worker, (good, tried) in task["workers"].items():
                total = right.setdefault(worker, [0.0, 0.0])
                total[0], total[1] = total[0] + good, total[1] + tried
        best = max((w for w in right if w in known), key=lambda w: right[w][0] / right[w][1], default="")
    if best in known:
        return best, f"what {wanted.artefact.name} was learned from"
    if best:
        told = f"{best}, the best single worker of what {wanted.artefact.name} was learned from, is not recorded here with"
        notes.append(f"{told} its costs on nearly all items: the measure is the best of those that are.")
    return None


def _promised(held: "Learned") -> list[str]:
    """What the evidence promises, as a note."""
    found = None if held.evidence is None else held.evidence.data.get("certified")
    return (
        []
        if found is None
        else [f"Certified where it was learned, from dial 0.5 upwards: {found['reason']}."]
    )


def _familiar(wanted: Wanted, items: "Sequence[Item]", data: Path | None = None) -> list[str]:
    """Notes on what was learned from some of these very items: the artefact that was named, or those that a gateway serves."""
    from stretto.learning.promotion import item_mark

    named = wanted.artefact
    if named is None:
        files = sorted((data / "artifacts").glob("*.json")) if data is not None else []
    else:
        files = sorted(named.glob("*.json")) if named.is_dir() else [named]
    asked = [item_mark(item.prompt) for item in items]
    notes = []
    for file in files:
        try:
            marks = set(json.loads(file.read_bytes())["provenance"].get("learned_from", "").split())
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # whoever serves it says what is wrong with it
        if known := sum(mark in marks for mark in asked):
            notes.append(
                f"{file.name} was learned from {known} of these {len(asked)} items: what goes by it looks better here than it is."
            )
    return notes


def _few(names: "Sequence[str]") -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _learned(file: Path) -> "Learned":
    """What one file holds: a route table, else evidence."""
    from stretto import artifacts
    from stretto.catalog import Learned
    from stretto.policies.route import TABLE_SCHEMA
    from stretto.policies.sequential import EVIDENCE_SCHEMA

    if file.is_file() and TABLE_SCHEMA in file.read_text(encoding="utf-8", errors="replace"):
        return Learned(table=artifacts.read(file, TABLE_SCHEMA))
    return Learned(evidence=artifacts.read(file, EVIDENCE_SCHEMA))


def _beforehand(wanted: Wanted, workers: "Sequence[str]") -> "Learned":
    """What `stretto` goes by where nobody serves anything: the artefact that was named, or those of a folder.

    Those that bring a model along are left out: nobody recorded it.
    """
    from stretto.catalog import Learned, learned

    if wanted.artefact is None or not wanted.artefact.is_dir():
        return Learned() if wanted.artefact is None else _learned(wanted.artefact)
    found = learned(wanted.artefact, workers, wanted.artefact)
    return Learned(found.table, found.thresholds, found.evidence)


def _save(
    wanted: Wanted,
    comparison: "Comparison",
    items: "Sequence[Item]",
    results: "Mapping[str, Sequence[Result]]",
    title: str,
) -> list[str]:
    from stretto import __version__
    from stretto.evaluation.report import save

    made = {"stretto": __version__, "seed": wanted.asking.seed, "dial": wanted.asking.dial}
    if wanted.artefact is not None:
        made["artefact"] = wanted.artefact.name
        if not wanted.artefact.is_dir():
            made["artefact_hash"] = json.loads(wanted.artefact.read_text(encoding="utf-8"))["hash"]
    return save(wanted.out, comparison, items, results, title=title, provenance=made)


def _show(comparison: "Comparison") -> None:
    from stretto.evaluation.report import BETWEEN_TOLD, between_lines

    rows = []
    for r in sorted(comparison.rows, key=lambda r: ("policy", "control", "bound", "worker").index(r.kind)):
        d = r.compared.difference
        gap = f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
        cost = "-" if r.compared.cost != r.compared.cost else f"x{r.compared.cost:.2f}"
        rows.append(
            (r.name, r.kind, f"{100 * r.compared.score:.1f}", gap, cost, f"{r.compared.calls:.1f}", r.verdict)
        )
    columns = ("", "kind", "score", "to best single", "cost", "calls", "verdict")
    table(columns, rows, right=("score", "cost", "calls"))
    click.echo(
        f"\n{comparison.n} items; best single worker {comparison.best}, chosen on {comparison.chosen_on}."
    )
    if told := between_lines(comparison):
        click.echo("\n" + "\n".join([*told, BETWEEN_TOLD]))
    for doubt in comparison.doubts:
        click.echo(f"\nLook into this: {doubt}")
