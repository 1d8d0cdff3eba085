"""Options that several commands share."""

import functools
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stretto.config import Settings, load
from stretto.errors import ConfigError
from stretto.types import PICO, Limits, Message, Request

__all__ = [
    "database",
    "folder_options",
    "json_option",
    "labels_of",
    "request_options",
    "settings_of",
    "usd_option",
    "writable",
]

if TYPE_CHECKING:
    import sqlite3

F = TypeVar("F", bound=Callable[..., Any])


def folder_options(command: F) -> F:
    """`--config` and `--data`."""
    command = click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        help="The data folder (default ~/.stretto; environment STRETTO_DATA).",
    )(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The configuration file (default ./stretto.toml if it exists; environment STRETTO_CONFIG).",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def usd_option(name: str, about: str) -> Callable[[F], F]:
    """A ceiling in USD; the command gets pico-dollars."""

    def pico(ctx: click.Context, parameter: click.Parameter, value: float | None) -> int | None:
        return None if value is None else round(value * PICO)

    return click.option(name, type=click.FloatRange(min=0), metavar="USD", callback=pico, help=about)


def writable(place: Path, option: str = "--out") -> None:
    """Try whether a new file can be made there; its folder may have to be made, too.

    Raises `ConfigError`. To be called before what takes long, so that nothing is lost at its end.
    """
    folder = place.parent
    try:
        while not folder.exists():
            folder = folder.parent
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(
            f"nothing can be written in {folder}: {error.strerror}; name another place by {option}"
        ) from None


def settings_of(config: Path | None, data: Path | None) -> Settings:
    """The settings of a command that asks no model, so that no provider key is needed."""
    return load(config, data=data, needs_keys=False)


@contextmanager
def database(folder: Path) -> "Iterator[sqlite3.Connection]":
    """The SQLite file of a data folder, with its tables made."""
    from stretto.ledger.sqlite import connect, index_path, migrate

    connection = connect(index_path(folder))
    try:
        migrate(connection)
        yield connection
    finally:
        connection.close()


def labels_of(pairs: Sequence[str], option: str) -> dict[str, tuple[str, ...]]:
    """`region=eu` and its like, by label. A label given twice lists alternatives."""
    labels: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not (name and found and value):
            raise click.BadParameter(f'"{pair}" is not LABEL=VALUE, such as region=eu', param_hint=option)
        labels[name] = (*labels.get(name, ()), value)
    return labels


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a request may carry; the command gets `text` and one `request` made of everything."""

    @click.option("-m", "--model", default="stretto", show_default=True, help="A worker or policy.")
    @click.option("--system", help="A system message.")
    @click.option("--max-tokens", type=click.IntRange(min=1), help="Bounds the final answer.")
    @click.option("--temperature", type=click.FloatRange(0, 2), help="0 is the most repeatable.")
    @click.option("--seed", type=int, default=0, show_default=True, help="Equal seeds make equal choices.")
    @click.option(
        "--dial", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="0 cheapest, 1 best."
    )
    @usd_option("--limit-usd", "Ceiling in USD for the whole call tree.")
    @click.option("--limit-calls", type=click.IntRange(min=1), help="Ceiling for the number of calls.")
    @click.option("--limit-seconds", type=click.FloatRange(min=0.001), help="Ceiling for the time.")
    @click.option(
        "--require", "required", multiple=True, metavar="LABEL=VALUE", help="Only workers with this label."
    )
    @click.option(
        "--exclude", "excluded", multiple=True, metavar="LABEL=VALUE", help="No workers with this label."
    )
    @functools.wraps(command)
    def with_request(
        text: str,
        model: str,
        system: str | None,
        max_tokens: int | None,
        temperature: float | None,
        seed: int,
        dial: float,
        limit_usd: int | None,
        limit_calls: int | None,
        limit_seconds: float | None,
        required: tuple[str, ...],
        excluded: tuple[str, ...],
        **others: Any,
    ) -> Any:
        text = sys.stdin.read() if text == "-" else text
        question = Message("user", text)
        request = Request(
            messages=(Message("system", system), question) if system else (question,),
            model=model,
            params={} if temperature is None else {"temperature": temperature},
            max_tokens=max_tokens,
            seed=seed,
            dial=dial,
            limits=Limits(limit_usd, limit_calls, limit_seconds),
            require=labels_of(required, "--require"),
            exclude=labels_of(excluded, "--exclude"),
        )
        return command(text=text, request=request, **others)

    return with_request
