"""`stretto pool`: who can be asked, and whether they answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import folder_options, json_option
from stretto.cli.terminal import dump, duration, money, short, table
from stretto.config import load
from stretto.errors import ConfigError
from stretto.pool.worker import Worker
from stretto.types import Limits, Message, Request, usd

if TYPE_CHECKING:
    from stretto.sparring import PoolEntry

__all__ = ["pool"]


@click.group(
    epilog="\b\nExamples:\n  stretto pool list\n  stretto pool check\n  stretto pool check opus --json\n"
)
def pool() -> None:
    """The workers of this deployment: configured, found on this machine, or the sparring models."""


@pool.command("list")
@folder_options
@json_option
def list_(config: Path | None, data: Path | None, as_json: bool) -> None:
    """Every worker with its places, price and labels. Nobody is asked."""
    from stretto.app import find_workers

    found = asyncio.run(find_workers(load(config, data=data)))
    if as_json:
        dump([_plain(worker) for worker in found.workers])
        return
    for line in found.announcements:
        click.echo(line, err=True)
    table(
        ("worker", "model", "in / out per 1M tokens", "context", "abilities", "labels", "where"),
        (
            (
                worker.id,
                worker.model,
                _price(worker),
                str(worker.card.context or "-"),
                ", ".join(sorted(worker.card.abilities)),
                ", ".join(f"{label}={value}" for label, value in worker.card.labels.items()),
                "\n".join(place.gguf.name if place.gguf else place.base_url for place in worker.places),
            )
            for worker in found.workers
        ),
        right=("context",),
    )


@pool.command()
@click.argument("workers", nargs=-1)
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Time for each."
)
@folder_options
@json_option
def check(
    workers: tuple[str, ...], seconds: float, config: Path | None, data: Path | None, as_json: bool
) -> None:
    """Really ask WORKERS (default: all) a tiny question and report how long it took, or what went wrong.

    These are calls like any other: they cost what they cost and are in the ledger. Exit code 1 if one failed.
    """
    found = asyncio.run(_check(workers, seconds, config, data))
    if as_json:
        dump([check.as_json() for check in found])
    else:
        table(
            ("worker", "state", "took", "money", "said"),
            (
                (
                    check.worker,
                    "failed" if check.error else "answers",
                    duration(check.seconds),
                    money(check.cost),
                    short(check.error or check.said, 100),
                )
                for check in found
            ),
            right=("took", "money"),
        )
    if any(check.error for check in found):
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class _Check:
    """What became of asking one worker. `cost` in pico-dollars."""

    worker: str
    seconds: float
    cost: int
    said: str = ""
    error: str = ""
    run: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "worker": self.worker,
            "ok": not self.error,
            "seconds": self.seconds,
            "cost_usd": usd(self.cost),
            "said": self.said,
            "error": self.error or None,
            "run_id": self.run,
        }


async def _check(
    names: Sequence[str], seconds: float, config: Path | None, data: Path | None
) -> list[_Check]:
    from stretto.app import open_world
    from stretto.cli.retrained import asked_of

    questions = {e.id: asked_of(e, "train", 1, 1)[0].prompt for e in _shipped()}
    async with open_world(load(config, data=data)) as world:

        async def one(name: str) -> _Check:
            policy = world.catalog.resolve(name)
            request = Request(
                messages=(Message("user", questions.get(name, "Reply with the word ok.")),),
                model=name,
                max_tokens=64,
                limits=Limits(seconds=seconds),
            )
            run = await world.engine.run(policy, request, name=name, purpose="check")
            error = run.answer.error
            said = "" if error else run.answer.text
            return _Check(
                name, run.seconds, run.cost, said, f"{error.kind}: {error.message}" if error else "", run.id
            )

        return list(
            await asyncio.gather(*(one(name) for name in names or [card.id for card in world.pool.cards()]))
        )


def _shipped() -> "tuple[PoolEntry, ...]":
    """The sparring models: each is asked something of the little it knows. An installation without them has none."""
    from stretto.sparring import entries

    try:
        return entries()
    except ConfigError:
        return ()


def _price(worker: Worker) -> str:
    price = worker.card.price
    if not worker.card.priced:
        return "unknown"
    return f"{money(price.input * 1_000_000)} / {money(price.output * 1_000_000)}"


def _plain(worker: Worker) -> dict[str, Any]:
    card = worker.card
    return {
        "id": worker.id,
        "model": worker.model,
        "wire": worker.wire,
        "price": {"input": usd(card.price.input * 1_000_000), "output": usd(card.price.output * 1_000_000)}
        if card.priced
        else None,
        "context": card.context,
        "max_output": card.max_output,
        "abilities": sorted(card.abilities),
        "labels": dict(card.labels),
        "description": card.description,
        "endpoints": [
            {"name": place.name, "path": str(place.gguf)}
            if place.gguf
            else {"name": place.name, "base_url": place.base_url}
            for place in worker.places
        ],
    }
