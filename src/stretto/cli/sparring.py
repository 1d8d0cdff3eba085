"""`stretto sparring`: the small models that ship with Stretto, their problems, and how they are trained."""

from pathlib import Path

import click

from stretto.cli.calibrate import calibrate
from stretto.cli.terminal import console, dump, money, table
from stretto.errors import ConfigError, StrettoError

__all__ = ["sparring"]


@click.group(
    epilog="\b\nExamples:\n  stretto sparring list\n  stretto sparring problems --family addition -n 3 --answers\n"
    "  stretto sparring train --all --out weights\n"
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
        ("model", "trained on", "in / out per 1M tokens", "region", "file"),
        (
            (
                entry.id,
                ", ".join(entry.families),
                f"{money(entry.card.price.input * 1_000_000)} / {money(entry.card.price.output * 1_000_000)}",
                entry.card.labels.get("region", "-"),
                f"{entry.path.stat().st_size / 1e6:.1f} MB" if entry.path.is_file() else "missing",
            )
            for entry in shipped
        ),
    )


@sparring.command()
@click.option("--family", "families", multiple=True, help="Only this family; may be given again.")
@click.option(
    "--split", type=click.Choice(["train", "calibration", "test"]), default="test", show_default=True
)
@click.option(
    "-n", "count", type=click.IntRange(1, 1_000_000), default=8, show_default=True, help="How many."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds give equal problems.")
@click.option("--answers", is_flag=True, help="Show the right answers as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, answers included.")
def problems(
    families: tuple[str, ...], split: str, count: int, seed: int, answers: bool, as_json: bool
) -> None:
    """Problems in plain English, made from a seed."""
    import json
    from typing import cast

    from stretto.config import near
    from stretto.sparring import FAMILIES, Split
    from stretto.sparring import problems as make

    for family in families:
        if family not in FAMILIES:
            hint = near(family, FAMILIES) or "."
            raise ConfigError(f'There is no problem family "{family}"{hint} There are: {", ".join(FAMILIES)}')
    for problem in make(families or FAMILIES, cast(Split, split), count, seed):
        if as_json:
            fields = ("id", "family", "prompt", "answer", "split")
            click.echo(json.dumps({name: getattr(problem, name) for name in fields}))
        else:
            click.echo(f"{problem.prompt}    {problem.answer}" if answers else problem.prompt)


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
@click.option("--minutes", type=click.FloatRange(min=0.01), help="Stop each model after so much CPU time.")
def train(names: tuple[str, ...], everything: bool, out: Path, minutes: float | None) -> None:
    """Train sparring models from their seeds, on one CPU thread, and export them as GGUF.

    With names: only those, into OUT. With --all: every model, and the shipped ones are replaced by them.
    """
    try:
        from stretto.learning.sparring import models, recipe
        from stretto.learning.sparring import train as train_model
        from stretto.learning.sparring_export import export, ship
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
    recipes = list(models()) if everything else [recipe(name) for name in names]
    with _Bars() as told:
        for chosen in recipes:
            trained = train_model(chosen, out, minutes=minutes, progress=told)
            if not trained.done:
                click.echo(
                    f"{chosen.name}: {trained.step} of {chosen.steps} steps; run this again to go on",
                    err=True,
                )
            elif not everything:
                click.echo(str(export(chosen, out, out / f"{chosen.name}.gguf")))
    if everything:
        click.echo(str(ship(out, Path(stretto.sparring.__file__).parent)))


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
