"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stretto.config import Settings, load

__all__ = ["folder_options", "json_option", "settings_of", "usd_option"]

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
        from stretto.types import PICO

        return None if value is None else round(value * PICO)

    return click.option(name, type=click.FloatRange(min=0), metavar="USD", callback=pico, help=about)


def settings_of(config: Path | None, data: Path | None) -> Settings:
    """The settings of a command that asks no model, so that no provider key is needed."""
    return load(config, data=data, needs_keys=False)
