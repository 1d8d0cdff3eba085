"""Stored responses: what a later request goes on from, and what GET tells of. In `States`, for its owner only, for a while.

A response is kept with the input of its own request; the conversation before it is found by going back from one to the next.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from stretto.errors import PreviousNotFound, RequestError, ResponseNotFound
from stretto.steps import States
from stretto.types import Key, record
from stretto.wire.responses_items import PROGRESS, references

__all__ = ["ENDED", "Item", "Kept", "Shelf", "owner_of"]

Item = Mapping[str, Any]

ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
"""Statuses after which nothing more happens to a response."""

_LONGEST: Final = 64 << 20
"""Bytes of responses that a request may go on from."""
_HEX: Final = re.compile(r"_([0-9a-f]{32})(?:_|$)")


@record
class Kept:
    """A response with all its seals, the input items of its request, and whether its events are kept beside it.

    `context` stands for everything before its output where the conversation was compacted. `until` is in Unix seconds, `size` in
    bytes as it is kept.
    """

    response: Item
    input: Sequence[Item]
    context: Sequence[Item] | None = None
    logged: bool = False
    until: float = 0.0
    size: int = 0

    @property
    def items(self) -> list[Item]:
        """Input and output, as a later request sees them."""
        if self.context is None:
            return [*self.input, *self.response["output"]]
        return [*self.context, *(item for item in self.response["output"] if item["type"] != "compaction")]


def owner_of(key: Key | None) -> str:
    """Whose a state is."""
    return key.id if key is not None else ""


class Shelf:
    """Stored responses in `states`, for `lifetime` seconds after they were last gone on from. Raises `LedgerUnavailable`.

    Without states, or without a lifetime, nothing is kept.
    """

    def __init__(
        self, states: States | None, lifetime: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._states = states if lifetime > 0 else None
        self._lifetime = lifetime
        self._clock = clock

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._states is not None

    async def put(self, kept: Kept, owner: str) -> None:
        """Keep a response from now on."""
        if self._states is None:
            return
        body = {
            "response": kept.response,
            "input": list(kept.input),
            "context": None if kept.context is None else list(kept.context),
            "logged": kept.logged,
            "until": self._clock() + self._lifetime,
        }
        await self._states.put(_state(kept.response["id"]), owner, orjson.dumps(body), self._lifetime)

    async def find(self, id: str, owner: str) -> Kept | None:
        """A response of this owner, `None` if there is none."""
        if self._states is None or (body := await self._states.get(_state(id), owner)) is None:
            return None
        try:
            raw = orjson.loads(body)
            return Kept(raw["response"], raw["input"], raw["context"], raw["logged"], raw["until"], len(body))
        except (ValueError, KeyError, TypeError):
            return None  # another version of Stretto wrote it

    async def get(self, id: str, owner: str) -> Kept:
        """A response of this owner. Raises `ResponseNotFound`."""
        if (found := await self.find(id, owner)) is None:
            raise ResponseNotFound(f"Response with id {id[:100]!r} not found.", param="response_id")
        return found

    async def delete(self, id: str, owner: str) -> bool:
        """Forget a response and its events; whether there was one."""
        if self._states is None or not await self._states.delete(_state(id), owner):
            return False
        number = 0
        while await self._states.delete(_chunk(id, number), owner):
            number += 1
        return True

    # --- what a request goes on from ---

    async def context(self, id: str, owner: str, near: Mapping[str, Sequence[Item]]) -> list[Item]:
        """All items of the conversation up to the end of response `id`; `near` holds conversations that are at hand.

        Raises `PreviousNotFound` when a response on the way back is not there, `RequestError` when one brought no answer, or
        when it has become too much to go on from.
        """
        pieces: list[Sequence[Item]] = []
        room = _LONGEST
        at: str | None = id
        while at:
            if at in near:
                pieces.append(near[at])
                break
            kept = await self.find(at, owner)
            if kept is None:
                raise PreviousNotFound(
                    f"Previous response with id {at[:100]!r} not found.", param="previous_response_id"
                )
            status = kept.response["status"]
            if status not in ("completed", "incomplete"):
                raise RequestError(
                    f"Previous response with id {at[:100]!r} is {status}: there is no answer to go on from.",
                    param="previous_response_id",
                )
            pieces.append(kept.items)
            room -= kept.size
            if room < 0:
                raise RequestError(
                    f"The conversation up to {id[:100]!r} has more than {_LONGEST >> 20} MiB: compact it, or begin anew.",
                    param="previous_response_id",
                )
            if kept.until - self._clock() < self._lifetime / 2:  # in use: it must not expire under its heirs
                await self.put(kept, owner)
            at = None if kept.context is not None else kept.response.get("previous_response_id")
        return [item for piece in reversed(pieces) for item in piece]

    async def resolved(self, own: Sequence[Item], context: Sequence[Item], owner: str) -> list[Item]:
        """Items with each reference replaced by the item it names: one of the conversation, or of a response of this owner.

        Raises `RequestError` for a reference to what is not there.
        """
        known = {item["id"]: item for item in context if isinstance(item.get("id"), str)}
        found: list[Item] = []
        for index, item in enumerate(own):
            named = references([item])
            if not named:
                found.append(item)
                continue
            id = named[0]
            if id.endswith(PROGRESS):
                continue  # told what orchestration was doing: no part of a conversation
            if id not in known and (made := _HEX.search(id)) is not None:
                kept = await self.find(f"resp_{made[1]}", owner)
                for each in () if kept is None else [*kept.input, *kept.response["output"]]:
                    known.setdefault(each.get("id", ""), each)
            if id not in known:
                raise RequestError(f"Item with id {id[:100]!r} not found.", param=f"input[{index}].id")
            found.append(known[id])
        return found

    # --- responses in the background: events, signs of life, the wish to cancel ---

    async def log(self, id: str, owner: str, number: int, events: Sequence[bytes]) -> None:
        """Keep the next events of a response, as chunk `number`."""
        if self._states is not None:
            await self._states.put(_chunk(id, number), owner, b"".join(events), self._lifetime)

    async def logged(self, id: str, owner: str, number: int) -> list[bytes]:
        """The events in chunk `number`; none if it is not there."""
        body = None if self._states is None else await self._states.get(_chunk(id, number), owner)
        return [] if body is None else [event + b"\n\n" for event in body.split(b"\n\n") if event]

    async def beat(self, id: str, owner: str, seconds: float) -> None:
        """A sign that somebody works on the response, good for `seconds`."""
        if self._states is not None:
            await self._states.put(f"{_state(id)}/alive", owner, b"1", seconds)

    async def lives(self, id: str, owner: str) -> bool:
        """Whether there is such a sign."""
        return self._states is not None and await self._states.get(f"{_state(id)}/alive", owner) is not None

    async def still(self, id: str, owner: str) -> None:
        """Nobody works on it any more."""
        if self._states is not None:
            await self._states.delete(f"{_state(id)}/alive", owner)
            await self._states.delete(f"{_state(id)}/cancel", owner)

    async def wish_cancelled(self, id: str, owner: str) -> None:
        """Ask whoever works on it to stop."""
        if self._states is not None:
            await self._states.put(f"{_state(id)}/cancel", owner, b"1", 3600.0)

    async def cancel_wished(self, id: str, owner: str) -> bool:
        """Whether somebody asked for that."""
        return self._states is not None and await self._states.get(f"{_state(id)}/cancel", owner) is not None


def _state(id: str) -> str:
    return f"response/{id}"


def _chunk(id: str, number: int) -> str:
    return f"response/{id}/events/{number}"
