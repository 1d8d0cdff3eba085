"""A progress bar for commands that ask many problems."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stretto.cli.terminal import console

__all__ = ["progress"]


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[str], None]]:
    """A bar on standard error that leaves no trace. What it yields is called once an item with a name to show."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda name: bar.update(task, advance=1, description=name)
