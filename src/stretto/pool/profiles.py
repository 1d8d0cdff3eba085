"""Facts about models, shipped as data in `profiles.json`: dated list prices, and what else is known for certain."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from stretto.types import Price

__all__ = ["ASSUMED_ABILITIES", "Profile", "all_profiles", "as_of", "profile"]

ASSUMED_ABILITIES: Final = frozenset({"text", "tools", "json"})
"""What a chat endpoint is taken to do when nobody said."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One model. `None` and empty mean unknown, not absent. `long`: above so many input tokens another price applies.

    `lacks` are parameters that the model refuses.
    """

    id: str
    vendor: str
    name: str
    price: Price
    long: tuple[int, Price] | None = None
    context: int | None = None
    max_output: int | None = None
    abilities: frozenset[str] | None = None
    lacks: frozenset[str] = frozenset()


_DATED: Final = re.compile(
    r"-(?:latest|preview|exp|\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{4}|\d{3})(?:-v\d+(?:[-:]\d+)?)?|-v\d+[-:]\d+"
)
_PREFIX: Final = re.compile(r"(?:[a-z]{2,6}\.)?(?:anthropic|amazon|meta|mistral)\.")


def profile(model: str) -> Profile | None:
    """What is known of the model that a vendor, an aggregator or a cloud calls by this name; `None` if nothing is.

    Case, a vendor's prefix (`openai/...`, `us.anthropic....`), dots for hyphens, and a date or `latest` at the end do not matter.
    Anything else does: `gpt-5.3` is not `gpt-5`, and `:free` is another price.
    """
    table = _table()
    name = _normal(model)
    if (found := table.get(name)) is not None:
        return found
    cut = len(name)
    while (cut := name.rfind("-", 0, cut)) > 0:
        if _DATED.fullmatch(name[cut:]) and (found := table.get(name[:cut])) is not None:
            return found
    return None


def all_profiles() -> tuple[Profile, ...]:
    """Every shipped profile once."""
    return tuple(dict.fromkeys(_table().values()))


def as_of() -> str:
    """The date of the shipped prices."""
    return str(_data()["as_of"])


def _normal(model: str) -> str:
    name = model.strip().lower().rsplit("/", 1)[-1]
    name = _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name
    return name.partition("[")[0].replace(".", "-").replace("@", "-").replace("_", "-")


def _data() -> Any:
    return orjson.loads(Path(__file__).with_name("profiles.json").read_bytes())


@functools.cache
def _table() -> Mapping[str, Profile]:
    table: dict[str, Profile] = {}
    for id, row in _data()["models"].items():
        long = row.get("long")
        abilities = row.get("abilities")
        found = Profile(
            id,
            row["vendor"],
            row["name"],
            _price(row),
            (long["above"], _price(long)) if long else None,
            row.get("context"),
            row.get("max_output"),
            frozenset(abilities) if abilities else None,
            frozenset(row.get("lacks", ())),
        )
        for name in (id, *row.get("aliases", ())):
            table[_normal(name)] = found
    return table


def _price(row: Mapping[str, Any]) -> Price:
    return Price.per_million(row["input"], row["output"], row.get("cached"))
