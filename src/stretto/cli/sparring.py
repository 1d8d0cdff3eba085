"""`stretto sparring`: the small models that ship with Stretto, their problems, and how they are trained."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from stretto.cli.calibrate import calibrate
from stretto.cli.options import writable
from stretto.cli.terminal import console, dump, money, table
from stretto.errors import ConfigError, StrettoError

if TYPE_CHECKING:
    from stretto.sparring import PoolEntry, Problem, Split

__all__ = ["sparring"]


@click.group(
    epilog="\b\nExamples:\n  stretto sparring list\n  stretto sparring problems --family addition -n 3 --answers\n"
    "  stretto sparring problems --set composite --answers\n"
    "  stretto sparring train words-south --out fresh --check\n  stretto sparring train --all --jobs 2\n"
)
def sparring() -> None:
    """Small real models, and problems with one right answer: what you can try everything with, without any key."""


sparring.add_command(calibrate)


@sparring.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """The shipped models: what they were trained on, their nominal prices, their files."""
    from stretto.sparring import entries
    from stretto.types import usd

    shipped = entries()
    if as_json:
        dump(
            [
                {
                    "id": entry.id,
                    "families": entry.families,
                    "description": entry.card.description,
                    "labels": dict(entry.card.labels),
                    "price": {
                        "input": usd(entry.card.price.input * 1_000_000),
                        "output": usd(entry.card.price.output * 1_000_000),
                    },
                    "path": str(entry.path),
                    "sha256": entry.sha256,
                    "provenance": dict(entry.provenance),
                }
                for entry in shipped
            ]
        )
        return
    table(
        ("model", "made for", "in / out per 1M tokens", "region", "file"),
        (
            (
                entry.id,
                _made_for(entry),
                f"{money(entry.card.price.input * 1_000_000)} / {money(entry.card.price.output * 1_000_000)}",
                entry.card.labels.get("region", "-"),
                f"{entry.path.stat().st_size / 1e6:.1f} MB" if entry.path.is_file() else "missing",
            )
            for entry in shipped
        ),
    )


def _made_for(entry: "PoolEntry") -> str:
    from stretto.sparring import FAMILIES

    if entry.role != "solver":
        return {"thinker": "the next step of a composite", "checker": "verifying and judging"}[entry.role]
    return "everything" if len(entry.families) == len(FAMILIES) else ", ".join(entry.families)


@sparring.command()
@click.option(
    "--set",
    "kind",
    type=click.Choice(["simple", "handover", "composite", "triple", "thinker", "verifier", "judge"]),
    default="simple",
    show_default=True,
    help="What kind of problem.",
)
@click.option("--family", "families", multiple=True, help="Only this family; may be given again.")
@click.option(
    "--split", type=click.Choice(["train", "calibration", "test"]), default="test", show_default=True
)
@click.option(
    "--unseen", is_flag=True, help="Wordings, or forms of composites, that no model was trained on."
)
@click.option(
    "--pairs", is_flag=True, help="Pairs of skills that no model was trained on (composite, triple)."
)
@click.option(
    "-n", "count", type=click.IntRange(1, 1_000_000), default=8, show_default=True, help="How many."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds give equal problems.")
@click.option("--answers", is_flag=True, help="Show the right answers as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, answers included.")
def problems(
    kind: str,
    families: tuple[str, ...],
    split: str,
    unseen: bool,
    pairs: bool,
    count: int,
    seed: int,
    answers: bool,
    as_json: bool,
) -> None:
    """Problems in plain English, made from a seed."""
    import json

    from stretto.config import near
    from stretto.sparring import FAMILIES

    for family in families:
        if family not in FAMILIES:
            hint = near(family, FAMILIES) or "."
            raise ConfigError(f'There is no problem family "{family}"{hint} There are: {", ".join(FAMILIES)}')
    if families and kind not in ("simple", "handover"):
        raise click.UsageError(f"--family is for simple problems and hand-overs; a {kind} has its own.")
    if pairs and kind not in ("composite", "triple"):
        raise click.UsageError("--pairs is for composites and triples.")
    if unseen and kind not in ("simple", "composite", "triple"):
        raise click.UsageError("--unseen is for simple problems, composites and triples.")
    for problem in _made(kind, families or FAMILIES, split, count, seed, unseen=unseen, pairs=pairs):
        if as_json:
            fields = ("id", "family", "prompt", "answer", "split")
            steps = [asdict(step) for step in problem.steps]
            told = {name: getattr(problem, name) for name in fields}
            click.echo(json.dumps(told | ({"steps": steps} if steps else {})))
            continue
        click.echo(f"{problem.prompt}    {problem.answer}" if answers else problem.prompt)
        if "\n" in problem.prompt:
            click.echo()


def _made(
    kind: str, families: Sequence[str], split: str, n: int, seed: int, *, unseen: bool, pairs: bool
) -> "list[Problem]":
    from stretto.sparring import problems as made
    from stretto.sparring.problems import composites, handovers
    from stretto.sparring.roles import judgements, thoughts, verifications

    part = cast("Split", split)
    match kind:
        case "simple":
            return made(families, part, n, seed, unseen_wordings=unseen)
        case "handover":
            return handovers(families, part, n, seed)
        case "thinker":
            return thoughts(part, n, seed)
        case "verifier":
            return verifications(part, n, seed)
        case "judge":
            return judgements(part, n, seed)
    steps = (2,) if kind == "composite" else (3,)
    return composites(part, n, seed, steps=steps, unseen_pairs=pairs, unseen_wordings=unseen)


@sparring.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every model, then write them into the package.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("sparring-weights"),
    show_default=True,
    help="Where checkpoints are kept; a stopped training goes on from there.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Models trained at a time, one core each.",
)
@click.option("--minutes", type=click.FloatRange(min=0.01), help="Stop each model after so much CPU time.")
@click.option("--check", is_flag=True, help="Then compare each with the shipped one, on held-out problems.")
def train(
    names: tuple[str, ...], everything: bool, out: Path, jobs: int, minutes: float | None, check: bool
) -> None:
    """Train sparring models from their seeds, on one CPU thread each, and export them as GGUF.

    With names: only those and what they start from, into OUT. With --all: every model, and the shipped ones are replaced.
    """
    try:
        from stretto.learning.sparring_export import export, ship
        from stretto.learning.sparring_jobs import train_together
        from stretto.learning.sparring_recipes import models, recipe
    except ModuleNotFoundError as error:
        raise StrettoError(
            f"training needs {error.name}, which is not installed: pip install 'stretto[train]' "
            "(take the CPU build of torch: its default build brings several GB of CUDA packages)"
        ) from None
    import stretto.sparring

    if everything == bool(names):
        raise click.UsageError(
            "Give either names of models or --all; `stretto sparring list` shows the names."
        )
    if everything and check:
        raise click.UsageError("--check compares with the shipped models, which --all replaces; give names.")
    writable(out / "checkpoint.pt")
    wanted = list(models()) if everything else [recipe(name) for name in names]
    with _Bars() as told:
        reached = train_together(wanted, out, jobs=jobs, minutes=minutes, progress=told)
    for trained in reached:
        chosen = trained.recipe
        if not trained.done:
            click.echo(
                f"{chosen.name}: {trained.step} of {chosen.steps} steps; run this again to go on", err=True
            )
        elif not everything:
            click.echo(str(export(chosen, out, out / f"{chosen.name}.gguf")))
    if everything:
        click.echo(str(ship(out, Path(stretto.sparring.__file__).parent)))
    elif check:
        _checked([trained.recipe.name for trained in reached if trained.done], out)


def _checked(names: Sequence[str], out: Path) -> None:
    from stretto.cli.retrained import compared
    from stretto.sparring import entries

    shipped = {entry.id: entry for entry in entries()}
    held = True
    for name in names:
        if name not in shipped:
            raise ConfigError(f"{name} is no shipped model, so there is nothing to compare it with")
        found = compared(shipped[name], out / f"{name}.gguf", 500)
        click.echo(found.told())
        held = held and found.holds
    if not held:
        raise SystemExit(1)


class _Bars:
    """A bar per model on standard error while training runs."""

    def __enter__(self) -> "_Bars":
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(
            *columns, TextColumn("loss {task.fields[loss]:.3f}"), console=console(stderr=True)
        )
        self._tasks = dict[str, int]()
        self._bars.start()
        return self

    def __call__(self, name: str, step: int, steps: int, loss: float) -> None:
        if name not in self._tasks:
            self._tasks[name] = int(self._bars.add_task(name, total=steps, loss=loss))
        from rich.progress import TaskID

        self._bars.update(TaskID(self._tasks[name]), completed=step, loss=loss)

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()
