"""The sparring pool: the models that ship with Stretto, read from `pool.toml` beside this module."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stretto.errors import ConfigError
from stretto.types import Card, Price

__all__ = ["PoolEntry", "entries"]


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """One shipped model. `path` is the GGUF file, absolute; `families` are the problem families it was trained on.

    Prices and labels other than the licence are nominal: something to route, limit and filter by. `provenance` says how
    the file was made; `sha256` is of the file.
    """

    card: Card
    path: Path
    families: tuple[str, ...]
    sha256: str
    provenance: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The worker id, the name on the wire."""
        return self.card.id

    @property
    def role(self) -> str:
        """What it was made for: `solver`, `thinker` or `checker`. Policies read it off the card's label `role`."""
        return self.card.labels.get("role", "solver")


def entries(folder: Path | None = None) -> tuple[PoolEntry, ...]:
    """The pool listed in `folder/pool.toml`; without `folder`, the one that ships."""
    where = folder or Path(__file__).resolve().parent
    listing = where / "pool.toml"
    try:
        rows = tomllib.loads(listing.read_text(encoding="utf-8"))["model"]
        return tuple(_entry(row, where) for row in rows)
    except FileNotFoundError:
        raise ConfigError(f"{listing} is not there; `stretto sparring train --all` writes it") from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{listing} is not a list of sparring models ({error!r}); restore it or train anew"
        ) from error


def _entry(row: Mapping[str, Any], where: Path) -> PoolEntry:
    card = Card(
        id=row["id"],
        price=Price.per_million(row["price"]["input"], row["price"]["output"]),
        labels=dict(row["labels"]),
        abilities=frozenset({"text", "logprobs"}),
        context=row["context"],
        description=row["about"],
    )
    path = (where / row["file"]).resolve()
    return PoolEntry(card, path, tuple(row["families"]), row["sha256"], dict(row["provenance"]))
