"""`stretto keys`: virtual keys, their ceilings, and what they have spent."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import database, folder_options, json_option, labels_of, settings_of, usd_option
from stretto.cli.terminal import dump, money, table, when
from stretto.types import Key, usd

if TYPE_CHECKING:
    from stretto.ledger.book import Statement

__all__ = ["keys"]

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@click.group(
    epilog="\b\nExamples:\n"
    "  stretto keys create alice --total 5 --day 1\n"
    "  stretto keys create ci --model stretto --model 'gpt*' --require region=eu --expires 30d\n"
    "  stretto keys list\n"
    "  stretto keys revoke key_7Hq...\n"
)
def keys() -> None:
    """Virtual keys: who may ask for what, and for how much money. Only their hashes are kept."""


@keys.command()
@click.argument("name")
@usd_option("--total", "Ceiling for the key's whole life.")
@usd_option("--day", "Ceiling for a day (UTC).")
@usd_option("--month", "Ceiling for a month (UTC).")
@click.option("--model", "models", multiple=True, help="A name or `prefix*` it may ask for; default all.")
@click.option(
    "--scope", "scopes", multiple=True, help="models, runs, feedback or admin; default the first three."
)
@click.option("--expires", help="When it ends: 12h, 30d, 8w, or a date such as 2027-01-31 (UTC).")
@click.option(
    "--require", "required", multiple=True, metavar="LABEL=VALUE", help="Only workers with this label."
)
@click.option(
    "--exclude", "excluded", multiple=True, metavar="LABEL=VALUE", help="No workers with this label."
)
@folder_options
@json_option
def create(
    name: str,
    total: int | None,
    day: int | None,
    month: int | None,
    models: tuple[str, ...],
    scopes: tuple[str, ...],
    expires: str | None,
    required: tuple[str, ...],
    excluded: tuple[str, ...],
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Make a key for NAME. Its secret is printed once, on standard output, and kept nowhere."""
    from stretto.ledger.keys import Keys

    given: dict[str, Any] = {"scopes": scopes} if scopes else {}
    with database(settings_of(config, data).data) as connection:
        key, secret = Keys(connection).create(
            name,
            total=total,
            day=day,
            month=month,
            models=models,
            expires=None if expires is None else _moment(expires, time.time()),
            require=labels_of(required, "--require"),
            exclude=labels_of(excluded, "--exclude"),
            **given,
        )
    if as_json:
        dump({"id": key.id, "name": key.name, "key": secret})
        return
    click.echo(secret)
    click.echo(f"{key.id} for {key.name}: keep the secret above, it cannot be shown again.", err=True)


@keys.command("list")
@folder_options
@json_option
def list_(config: Path | None, data: Path | None, as_json: bool) -> None:
    """All keys with their ceilings and what they have spent."""
    from stretto.ledger.book import statement
    from stretto.ledger.keys import Keys
    from stretto.ledger.sqlite import index_path

    folder = settings_of(config, data).data
    found: list[tuple[Key, Statement]] = []
    if index_path(folder).exists():
        with database(folder) as connection:
            found = [(key, statement(connection, key, time.time())) for key in Keys(connection).list()]
    if as_json:
        dump([_plain(key, account) for key, account in found])
        return
    if not found:
        click.echo("There are no keys. `stretto keys create NAME` makes one.", err=True)
        return
    table(
        ("id", "name", "state", "models", "scopes", "spent and reserved / ceiling", "ends"),
        (
            (
                key.id,
                key.name,
                _state(key, time.time()),
                ", ".join(key.models) or "all",
                ", ".join(sorted(key.scopes)),
                _ceilings(account),
                "-" if key.expires is None else when(key.expires),
            )
            for key, account in found
        ),
    )


@keys.command()
@click.argument("id")
@folder_options
def revoke(id: str, config: Path | None, data: Path | None) -> None:
    """End a key for good. Running gateways refuse it within half a second."""
    from stretto.ledger.keys import Keys

    with database(settings_of(config, data).data) as connection:
        key = Keys(connection).revoke(id)
    click.echo(f"{key.id} ({key.name}) is revoked.")


def _moment(written: str, now: float) -> float:
    """Unix seconds of `30d` or `2027-01-31`."""
    if found := re.fullmatch(r"(\d+)([mhdw])", written):
        return now + int(found[1]) * _UNITS[found[2]]
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise click.BadParameter(
            "takes 12h, 30d, 8w, or a date such as 2027-01-31", param_hint="--expires"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _state(key: Key, now: float) -> str:
    if key.revoked is not None:
        return "revoked"
    return "expired" if key.expires is not None and key.expires <= now else "live"


def _ceilings(account: "Statement") -> str:
    told = [
        f"{money(window.spent + window.reserved)} / {money(window.ceiling)} ({window.name})"
        for window in account.windows
        if window.ceiling is not None
    ]
    return ", ".join(told) or "no ceiling"


def _plain(key: Key, account: "Statement") -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "state": _state(key, time.time()),
        "scopes": sorted(key.scopes),
        "models": list(key.models),
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
        "require": {label: list(values) for label, values in key.require.items()},
        "exclude": {label: list(values) for label, values in key.exclude.items()},
        "windows": [
            {
                "name": window.name,
                "ceiling_usd": None if window.ceiling is None else usd(window.ceiling),
                "spent_usd": usd(window.spent),
                "reserved_usd": usd(window.reserved),
            }
            for window in account.windows
        ],
    }
