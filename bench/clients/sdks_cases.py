"""What every client is put through, and what must be true of what it brings back. Standard library only: clients' own
environments import this.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "ASKS",
    "CITIES",
    "FEATURES",
    "PARAMETERS",
    "QUESTION",
    "STRICT_SCHEMA",
    "WEATHER",
    "Case",
    "same_id",
]

FEATURES: Final = ("chat", "stream", "tools", "structured", "turns")
"""One question; the same streamed; a forced tool call, whole and streamed; a JSON schema; a tool loop to its end."""

QUESTION: Final = "What is the weather in Rome and in Oslo?"
ASKS: Final = "Describe the city of Rome."
CITIES: Final = ("Rome", "Oslo")
PARAMETERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": list(CITIES)}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Final[Mapping[str, Any]] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": PARAMETERS,
    },
}
STRICT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"name": {"type": "string", "enum": list(CITIES)}, "population": {"type": "integer"}},
    "required": ["name", "population"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One cell: whom to ask what, and what must come.

    `says`: part of the answer to `prompt`. `echoes`: whether tool results are repeated in the last answer (else it is
    `concludes`), and questions decide calls. `usage`: the exact tokens in and out of one answer, where the policy makes one call.
    """

    base: str
    model: str
    policy: str
    upstream: str
    prompt: str
    says: str
    concludes: str
    echoes: bool
    usage: tuple[int, int] | None = None
    key: str = "sk-none"

    @property
    def v1(self) -> str:
        """For OpenAI's clients."""
        return f"{self.base}/v1"

    def spoke(self, text: Any, finish: str | None = None, stops: Iterable[str] = ("stop",)) -> None:
        """The answer says what it should, and ended of itself."""
        assert isinstance(text, str), f"{text!r} is no text"
        assert self.says in text, f"{self.says!r} is not in {text[:200]!r}"
        if finish is not None:
            assert finish in tuple(stops), f"finished by {finish!r}"

    def counted(self, given: Any, written: Any, total: Any = None) -> None:
        """Usage is there, adds up, and is exact where one call was made."""
        assert isinstance(given, int), f"{given!r} input tokens"
        assert isinstance(written, int), f"{written!r} output tokens"
        assert given > 0, "no input tokens"
        assert written > 0, "no output tokens"
        if self.usage is not None:
            assert (given, written) == self.usage, f"usage {given}, {written}, not {self.usage}"
        if total is not None:
            assert total == given + written, f"total {total}, not {given} + {written}"

    def called(self, calls: Iterable[tuple[Any, Any, Any]], name: str = "weather") -> list[str]:
        """Calls (id, name, arguments as text or object) are whole; returns their cities."""
        found, ids = [], []
        for id, tool, arguments in calls:
            assert tool == name, f"{tool!r} was called"
            assert isinstance(id, str), f"{id!r} is no id"
            assert id, "an empty id"
            read = json.loads(arguments) if isinstance(arguments, str) else arguments
            assert set(read) == {"city"}, f"arguments {read}"
            assert read["city"] in CITIES, f"arguments {read}"
            found.append(read["city"])
            ids.append(id)
        assert found, "no call"
        assert len(set(ids)) == len(ids), f"ids {ids}"
        if self.echoes:
            assert found == list(CITIES), f"called for {found}"
        return found

    def described(self, name: Any, population: Any) -> None:
        """A structured answer fits its schema."""
        assert name in CITIES, f"name {name!r}"
        assert type(population) is int, f"population {population!r}"
        if self.echoes:
            assert name == "Rome", f"name {name!r}"

    def result(self, city: str) -> str:
        """What the tool says."""
        return f"sunny in {city}, 25 degrees"

    def concluded(self, text: Any, cities: Iterable[str]) -> None:
        """The answer after the tool results rests on every one of them."""
        assert isinstance(text, str), f"{text!r} is no text"
        wanted = [self.result(city) for city in cities] if self.echoes else [self.concludes]
        for part in wanted:
            assert part in text, f"{part!r} is not in {text[:200]!r}"


def same_id(ids: Iterable[Any]) -> None:
    """Every piece of a stream has one and the same id."""
    found = set(ids)
    assert len(found) == 1, f"ids {found}"
    assert all(found), "an empty id"
