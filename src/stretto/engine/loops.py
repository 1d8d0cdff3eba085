"""Tool loops: a worker asks for a tool, the caller runs it, and the result goes back to that worker, requests and restarts later.

Outgoing tool-call ids are ours: `call_`, the run, the step and the number of the call, in at most 40 characters that every
protocol allows. What they stand for (the worker, its own ids, the reasoning it wants back) is kept in `States` for a while.
A request that ends with results for ids of ours *continues* that step: the worker that asked is asked first, whatever the
policy, and sees its own ids again. An id that is unknown, expired or another key's is no error: the transcript has
everything, so the policy decides afresh and ids pass as they are.
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from stretto.engine.reasked import restored
from stretto.steps import Ask, Choice, Emit, Note, Option, Plan, States
from stretto.types import (
    Answer,
    Continues,
    Delta,
    Key,
    Message,
    Reply,
    Request,
    Thought,
    ToolCall,
    record,
)

__all__ = [
    "LIFETIME",
    "Live",
    "Loops",
    "Turn",
    "addressed",
    "call_id",
    "held",
    "outgoing",
    "renamed",
    "state_of",
]

LIFETIME: Final = 1800.0
"""Seconds that a tool loop may rest, unless the configuration says otherwise."""

LONGEST_ID: Final = 40
"""Chat Completions takes 40 characters, Messages any of `[A-Za-z0-9_-]`, Responses 64."""

_OURS: Final = re.compile(r"call_([A-Za-z0-9_-]{22})_(?:[0-9][0-9_-]*|h[A-Za-z0-9_-]{6}|)_[0-9]+")
_RUN: Final = re.compile(r"run_([0-9a-f]{32})")


@record
class Turn:
    """An answer with tool calls that went out: the step it came from, and what its worker wants to see again.

    `name` is the model name that the caller used, `calls` maps our ids to the worker's own, `until` is Unix seconds, `asked` how
    what the worker was asked differs from the caller's conversation.
    """

    run: str
    step: str
    worker: str
    name: str
    calls: Mapping[str, str]
    reasoning: str
    thoughts: tuple[Thought, ...]
    until: float
    asked: Mapping[str, Any] | None = None


@record
class Live:
    """A step of the engine's own plans: an ask whose answer may stream to the caller although the plan goes on if it fails."""

    ask: Ask


# --- ids ---------------------------------------------------------------------------------------------------------


def call_id(run: str, at: str, index: int) -> str:
    """Our id for the tool call number `index` of the answer that the step at `at` gave. A function of the three alone."""
    head, tail = f"call_{_handle(run)}_", f"_{index}"
    step = at.replace(".", "-").replace("/", "_")
    if len(head) + len(step) + len(tail) > LONGEST_ID:
        step = "h" + _short(hashlib.blake2b(at.encode(), digest_size=4).digest())
    return head + step + tail


def state_of(run: str) -> str:
    """Under which id a run's tool calls are kept in `States`."""
    return f"loop/{_handle(run)}"


def _handle(run: str) -> str:
    """The run's 128 bits in 22 characters."""
    found = _RUN.fullmatch(run)
    return _short(
        bytes.fromhex(found[1]) if found else hashlib.blake2b(run.encode(), digest_size=16).digest()
    )


def _short(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _run_of(id: str) -> str:
    """The handle of the run that an id of ours carries, else ""."""
    found = _OURS.fullmatch(id)
    return found[1] if found else ""


# --- on the way out ----------------------------------------------------------------------------------------------


def outgoing(run: str, answer: Answer) -> Answer:
    """The answer as the caller sees it: its tool calls under our ids."""
    message = answer.message
    calls = tuple(
        [
            ToolCall(call_id(run, answer.at, index), call.name, call.arguments, call.kind)
            for index, call in enumerate(message.tool_calls)
        ]
    )
    return replace(answer, message=replace(message, tool_calls=calls))


def renamed(emit: Emit, run: str, at: str) -> Emit:
    """`emit` with the tool calls of live pieces under the ids that `outgoing` will give them."""

    def pieces(deltas: Sequence[Delta]) -> Awaitable[None]:
        for delta in deltas:
            if delta.tool_calls:
                return emit([_renamed(each, run, at) if each.tool_calls else each for each in deltas])
        return emit(deltas)

    return pieces


def _renamed(delta: Delta, run: str, at: str) -> Delta:
    calls = tuple(
        (index, call_id(run, at, index) if id else "", name, text)
        for index, id, name, text in delta.tool_calls
    )
    return replace(delta, tool_calls=calls)


# --- on the way to a worker --------------------------------------------------------------------------------------


def addressed(ask: Ask, turns: Mapping[str, Turn]) -> Ask:
    """A bound ask as its worker may see it: its own ids and sealed thoughts in place of ours, those of others left out."""
    messages = ask.messages or ()
    own = [turn for turn in turns.values() if turn.worker == ask.worker]
    ids = {ours: theirs for turn in own for ours, theirs in turn.calls.items()}
    by_id = {ours: turn for turn in own for ours in turn.calls}
    fitted = tuple([_addressed(message, ask.worker, ids, by_id) for message in messages])
    if all(a is b for a, b in zip(messages, fitted, strict=True)):
        return ask
    return replace(ask, messages=fitted)


def _addressed(message: Message, worker: str, ids: Mapping[str, str], by_id: Mapping[str, Turn]) -> Message:
    if message.tool_call_id is not None and message.tool_call_id in ids:
        return replace(message, tool_call_id=ids[message.tool_call_id])
    thoughts = message.thoughts
    if thoughts and any(thought.worker != worker for thought in thoughts):
        thoughts = tuple([thought for thought in thoughts if thought.worker == worker])
    calls = message.tool_calls
    turn = by_id.get(calls[0].id) if calls else None
    if turn is None:
        return message if thoughts is message.thoughts else replace(message, thoughts=thoughts)
    return replace(
        message,
        tool_calls=tuple([ToolCall(ids.get(c.id, c.id), c.name, c.arguments, c.kind) for c in calls]),
        reasoning=message.reasoning or turn.reasoning,
        thoughts=thoughts or turn.thoughts,
    )


# --- what is kept ------------------------------------------------------------------------------------------------


class Loops:
    """The tool loops under way, in `states`. A turn is kept for `lifetime` seconds after it was last needed.

    `clock` gives Unix seconds. Raises `LedgerUnavailable` when they cannot be read or written.
    """

    def __init__(self, states: States, lifetime: float, clock: Callable[[], float] = time.time) -> None:
        self._states = states
        self._lifetime = lifetime
        self._clock = clock

    async def turns(self, messages: Sequence[Message], key: Key | None) -> dict[str, Turn]:
        """The earlier turns that are in a transcript and still known, by the run that their ids carry."""
        owner = key.id if key is not None else ""
        handles = dict.fromkeys(
            [handle for m in messages for call in m.tool_calls if (handle := _run_of(call.id))]
        )
        if not handles:
            return {}
        bodies = await self._states.get_all([f"loop/{handle}" for handle in handles], owner)
        found: dict[str, Turn] = {}
        for handle in handles:
            body = bodies.get(f"loop/{handle}")
            if body is None or (turn := _read(body)) is None:
                continue
            found[handle] = turn
            if turn.until - self._clock() < self._lifetime / 2:  # in use: it must not expire in mid-loop
                await self._put(handle, owner, turn)
        return found

    async def keep(
        self, run: str, name: str, answer: Answer, key: Key | None, asked: Mapping[str, Any] | None = None
    ) -> None:
        """Keep what the tool calls of this answer (as its worker gave it) will be needed for. `asked`: as in `Turn`."""
        message = answer.message
        theirs = [call.id for call in message.tool_calls]
        if len(set(theirs)) < len(theirs) or not all(theirs):
            theirs = []  # the worker does not tell its calls apart: it sees our ids
        ours = [call_id(run, answer.at, index) for index in range(len(message.tool_calls))]
        calls = dict(zip(ours, theirs or ours, strict=True))
        now = self._clock()
        turn = Turn(
            run, answer.at, answer.worker, name, calls, message.reasoning, message.thoughts, now, asked
        )
        await self._put(_handle(run), key.id if key is not None else "", turn)

    async def _put(self, handle: str, owner: str, turn: Turn) -> None:
        body = {
            "run": turn.run,
            "step": turn.step,
            "worker": turn.worker,
            "name": turn.name,
            "calls": turn.calls,
            "reasoning": turn.reasoning,
            "thoughts": [[t.text, t.signature, t.sealed, t.id, t.wire, t.worker] for t in turn.thoughts],
            "until": self._clock() + self._lifetime,
            "asked": turn.asked,
        }
        await self._states.put(f"loop/{handle}", owner, json.dumps(body).encode(), self._lifetime)

    @staticmethod
    def continued(messages: Sequence[Message], turns: Mapping[str, Turn], name: str) -> Continues | None:
        """The step that a transcript goes on from: after its last assistant message there is a result for a call of ours.

        What else the caller adds there (reminders, a word of the user's) does not change that; naming another model does.
        """
        results: list[str] = []
        for message in reversed(messages):
            if message.role == "assistant":
                asked = [call.id for call in message.tool_calls]
                turn = turns.get(_run_of(asked[0])) if asked else None
                if turn is None or turn.name != name or not turn.worker:
                    return None
                if any(id in turn.calls and id in asked for id in results):
                    return Continues(turn.run, turn.step, turn.worker, turn.asked)
                return None
            if message.tool_call_id:
                results.append(message.tool_call_id)
        return None


def _read(body: bytes) -> Turn | None:
    """The turn that was kept; `None` for what another version wrote in a way that this one cannot read."""
    try:
        raw = json.loads(body)
        thoughts = tuple([Thought(*each) for each in raw["thoughts"]])
        return Turn(
            raw["run"],
            raw["step"],
            raw["worker"],
            raw["name"],
            raw["calls"],
            raw["reasoning"],
            thoughts,
            raw["until"],
            raw.get("asked"),
        )
    except (ValueError, KeyError, TypeError):
        return None


# --- the plan of a request that continues ------------------------------------------------------------------------


def held(request: Request, plan: Callable[[Request], Plan]) -> Plan:
    """The plan of a request that continues a step: the worker that asked gets its results, and its answer is the answer.

    If it may not be used, or fails before anything was shown, the policy's own `plan` decides afresh, without it.
    """
    back = request.continues
    assert back is not None
    worker, whence = back.worker, f"step {back.step} of {back.run}"
    if request.card(worker) is None:
        gone = f"{worker}, which asked for these tool results in {whence}, may not be used"
        yield Note(Choice("decide afresh", (Option(worker, rejected=gone),), reason=gone, by="tool loop"))
        return (yield from plan(request))
    why = f"its tool results come back: it asked for them in {whence}"
    messages = restored(request.messages, back.asked) if back.asked else None
    why = why if messages is None else f"{why}, and goes on from what it was asked there"
    yield Note(Choice(worker, (Option(worker),), reason=why, by="tool loop"))
    reply: Reply = yield Live(Ask(worker, messages, speaks=True, reason=why))  # type: ignore[misc]
    failed = reply.error
    if failed is None or failed.kind in ("limit", "cancelled", "misfit"):
        return Answer.of(reply, why if failed is None else "")
    lost = f"{failed.kind}: {failed.message}"
    others = tuple(card for card in request.pool if card.id != worker)
    if not others:
        return Answer.of(reply)
    yield Note(
        Choice(
            "decide afresh",
            (Option(worker, rejected=lost), *(Option(card.id) for card in others)),
            reason=f"{worker} could not go on, so another worker gets the transcript",
            by="tool loop",
        )
    )
    last = yield from plan(request.admitted(others, request.limits, request.seed))
    if isinstance(last, Ask):
        return Answer.of(reply) if last.worker == worker else last
    return Answer.of(reply) if last.error is not None and last.error.kind == "denied" else last
