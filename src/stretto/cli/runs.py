"""`stretto runs`: what has been recorded, how it came about, whether it is as it was written, and what it would be now."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import folder_options, json_option, settings_of
from stretto.cli.outcomes import outcomes
from stretto.cli.shadows import shadows
from stretto.cli.terminal import console, dump, duration, money, table, when
from stretto.config import load
from stretto.errors import RunError, RunNotFound
from stretto.types import usd

if TYPE_CHECKING:
    from stretto.engine.run import Run
    from stretto.ledger.archive import Archive
    from stretto.ledger.read import Source

__all__ = ["runs"]


@click.group(
    epilog="\b\nExamples:\n"
    "  stretto runs list\n"
    "  stretto runs show                      the latest run, as a tree\n"
    "  stretto runs show run_01... --texts    with what was asked and said\n"
    "  stretto runs replay run_01... --policy cascade\n"
    "  stretto runs verify\n"
)
def runs() -> None:
    """Recorded runs. A run's id is in every answer (`stretto.run_id`); without one, the latest is meant."""


runs.add_command(outcomes)
runs.add_command(shadows)


@runs.command("list")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@click.option("--before", metavar="RUN_ID", help="Only runs before this one.")
@click.option("--key", help="Only runs of this key (its id).")
@click.option("--purpose", help="Only runs made for this: serve, ask, evaluation, ...")
@folder_options
@json_option
def list_(
    count: int,
    before: str | None,
    key: str | None,
    purpose: str | None,
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """The latest runs, newest first."""
    from stretto.ledger.read import Reader

    with _archive(config, data) as archive:
        found = archive.runs(count, before, key, purpose)
        if as_json:
            dump(Reader(archive).runs(count, before, key, purpose))
            return
    if not found:
        click.echo(
            'Nothing has been recorded yet. Try: stretto ask "Spell the word planet backward."', err=True
        )
        return
    table(
        ("run", "time", "model", "served by", "status", "calls", "money", "took", "score"),
        (
            (
                run.run,
                when(run.time),
                run.model,
                (run.worker if run.status == "finished" else "") or "-",
                run.status,
                str(run.calls),
                money(run.cost),
                duration(run.seconds),
                "-" if run.score is None else f"{run.score:g}",
            )
            for run in found
        ),
        right=("calls", "money", "took", "score"),
    )


@runs.command()
@click.argument("run_id", required=False)
@click.option("--texts", is_flag=True, help="Also what was asked and said, where that was kept.")
@click.option("--events", is_flag=True, help="The record itself: one JSON object a line.")
@folder_options
@json_option
def show(
    run_id: str | None, texts: bool, events: bool, config: Path | None, data: Path | None, as_json: bool
) -> None:
    """How a run came about: every attempt with role, reason, money and time, every choice with what it passed over."""
    import json

    from stretto.cli.tree import tree
    from stretto.ledger.read import Reader, event_json

    with _archive(config, data) as archive:
        run_id = run_id or _latest(archive)
        if events:
            for event in archive.events(run_id):
                click.echo(json.dumps(event_json(event, include_content=texts), ensure_ascii=False))
            return
        receipt = Reader(archive).receipt(run_id, include_content=texts)
    if as_json:
        dump(receipt)
    else:
        console().print(tree(receipt), soft_wrap=not sys.stdout.isatty())


@runs.command()
@click.option(
    "--witness",
    metavar="NUMBER:HASH",
    help="A checkpoint that was kept elsewhere; this command prints the last one.",
)
@folder_options
@json_option
def verify(witness: str | None, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Check that everything on disk is as it was written. Exit code 1 if something is not."""
    from dataclasses import asdict

    from stretto.ledger.checkpoints import Mark
    from stretto.ledger.verify import verify as check

    mark = None
    if witness is not None:
        number, _, digest = witness.partition(":")
        if not (number.isdecimal() and digest):
            raise click.BadParameter("takes NUMBER:HASH, as this command prints it", param_hint="--witness")
        mark = Mark(int(number), digest)
    with _counting("records checked") as counted:
        report = check(settings_of(config, data).data, witness=mark, progress=counted)
    if as_json:
        dump(asdict(report) | {"ok": report.ok})
    else:
        for note in report.notes:
            click.echo(f"note: {note}", err=True)
        for problem in report.problems:
            click.secho(str(problem), fg="red")
        click.echo(
            f"{report.records} records and {report.contents} contents ({report.erased} erased) in {report.chains} chains: "
            f"{'all as written' if report.ok else _problems(len(report.problems))}, {duration(report.seconds)}"
        )
        click.echo(f"last checkpoint {report.mark.number}:{report.mark.hash}")
    if not report.ok:
        raise SystemExit(1)


@runs.command()
@click.argument("run_id", required=False)
@click.option("--policy", help="Replay it under this policy instead of the recorded one.")
@folder_options
@json_option
def replay(
    run_id: str | None, policy: str | None, config: Path | None, data: Path | None, as_json: bool
) -> None:
    """Run it again on what was recorded, without any call: the same answer, or what another policy would have made of it."""
    recorded, run = asyncio.run(_again(run_id, policy, config, data, resume=False))
    _tell(run, recorded, as_json)


@runs.command()
@click.argument("run_id")
@folder_options
@json_option
def resume(run_id: str, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Finish a run that was cut: what is recorded is used, only what is missing is asked."""
    recorded, run = asyncio.run(_again(run_id, None, config, data, resume=True))
    _tell(run, recorded, as_json)


@runs.command()
@folder_options
def reindex(config: Path | None, data: Path | None) -> None:
    """Build the SQLite index anew from the journals. Keys and their accounts are kept as they are."""
    from stretto.ledger.index import reindex as build

    with _counting("records indexed") as counted:
        made = build(settings_of(config, data).data, counted)
    click.echo(f"{made.records} records of {made.chains} chains in {duration(made.seconds)}")
    if made.aside:
        rescued = ", ".join(f"{count} {name}" for name, count in made.rescued.items()) or "nothing"
        click.echo(f"the damaged index is now {made.aside}; taken over from it: {rescued}")


@runs.command()
@click.argument("run_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@folder_options
def erase(run_id: str, yes: bool, config: Path | None, data: Path | None) -> None:
    """Overwrite the texts of a run for good, and those of shadow runs beside it.

    What they cost and which calls were made stays, and the chain stays valid.
    """
    from stretto.ledger.events import Opened
    from stretto.ledger.journal import JournalStore

    settings = settings_of(config, data)
    with _archive(config, data) as archive:
        opened = next((e for e in archive.events(run_id) if isinstance(e, Opened)), None)
        key = opened.key if opened is not None else ""
        beside = _beside(archive, run_id, opened.time if opened is not None else 0.0)
    if not yes:
        click.confirm(f"Erase the texts of {run_id} for good?", abort=True, err=True)
    store = JournalStore(settings.data, content="full" if settings.keeps_content else "digest")
    try:
        count = sum(store.erase(each) for each in (run_id, *beside))
    finally:
        store.close()
    asyncio.run(_forget_loop(settings.data, run_id, key))
    also = f" and of {', '.join(beside)}, beside it," if beside else ""
    click.echo(f"{count} texts of {run_id}{also} are erased.")


def _beside(archive: "Archive", run_id: str, time: float) -> list[str]:
    """The shadow runs that answered the same request; they began after it did."""
    from stretto.ledger.events import Opened

    found, before = list[str](), None
    while page := archive.runs(500, before, None, "shadow"):
        for each in page:
            events = archive.events(each.run) if each.time >= time else ()
            found += [each.run for e in events if isinstance(e, Opened) and e.beside == run_id]
        if page[-1].time < time:
            break
        before = page[-1].run
    return found


async def _forget_loop(data: Path, run_id: str, key: str) -> None:
    """Delete what is kept of a run's tool calls, and the stored response that it gave."""
    from stretto.engine.loops import state_of
    from stretto.gateway.shelf import Shelf
    from stretto.ledger.states import SqliteStates

    states = SqliteStates(data)
    try:
        if states.path.exists():
            await states.delete(state_of(run_id), key)
            await Shelf(states, 1.0).delete(f"resp_{run_id.removeprefix('run_')}", key)
    finally:
        states.close()


def _problems(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"


# --- inside ------------------------------------------------------------------------------------------------------


@contextmanager
def _archive(config: Path | None, data: Path | None) -> "Iterator[Archive]":
    from stretto.ledger.archive import Archive

    archive = Archive(settings_of(config, data).data)
    try:
        yield archive
    finally:
        archive.close()


def _latest(source: "Source") -> str:
    found = source.runs(1)
    if not found:
        raise RunNotFound('nothing has been recorded yet; try: stretto ask "Spell the word planet backward."')
    return found[0].run


async def _again(
    run_id: str | None, policy: str | None, config: Path | None, data: Path | None, *, resume: bool
) -> "tuple[str, Run]":
    """The policy's recorded name, and the run once more."""
    from stretto.app import open_world
    from stretto.ledger.events import Opened

    async with open_world(load(config, data=data, needs_keys=resume)) as world:
        run_id = run_id or _latest(world.store)
        opened = next(e for e in world.store.events(run_id) if isinstance(e, Opened))
        name = policy or opened.policy
        again = world.catalog.resolve(name)
        if not resume:
            return opened.policy, await world.engine.replay(run_id, again, name=name)
        if world.reader.receipt(run_id)["status"] == "running":
            raise RunError(f"run {run_id} is still under way; it can be resumed once its process has ended")
        key = world.keys.get(opened.key) if opened.key else None  # whose ceilings hold, also for the rest
        return opened.policy, await world.engine.resume(run_id, again, name=name, key=key)


def _tell(run: "Run", recorded: str, as_json: bool) -> None:
    answer, error = run.answer, run.answer.error
    if as_json:
        dump(
            {
                "run_id": run.id,
                "policy": run.policy,
                "recorded_policy": recorded,
                "answer": answer.text,
                "served_by": answer.worker,
                "why": answer.why,
                "error": None if error is None else {"kind": error.kind, "message": error.message},
                "cost_usd": usd(run.cost),
                "calls": run.calls,
                "missing": list(run.missing),
            }
        )
    elif error is not None:
        click.echo(f"no answer: {error.kind}: {error.message}")
    else:
        click.echo(answer.text)
    if not as_json:
        why = f": {answer.why}" if answer.why else ""
        click.secho(
            f"{run.policy}, {answer.worker or 'nobody'}, {run.calls} calls, {money(run.cost)}{why}",
            err=True,
            dim=True,
        )
        if run.missing:
            click.echo(f"the record holds nothing for: {', '.join(run.missing)}", err=True)


@contextmanager
def _counting(what: str) -> Iterator[Any]:
    """A running count on the terminal, for what may take long."""
    if not sys.stderr.isatty():
        yield None
        return
    total = 0

    def counted(more: int) -> None:
        nonlocal total
        total += more
        click.echo(f"\r{total} {what}", nl=False, err=True)

    yield counted
    click.echo("\r\033[K", nl=False, err=True)
