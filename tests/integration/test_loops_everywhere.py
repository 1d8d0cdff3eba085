"""Tool loops in every policy, for every client format, at workers of every format: across a restart, and after the state is gone.

The upstreams are strict as vendors are: a result must follow its call, under the id that this very model gave it.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stretto.app import World, open_world
from stretto.config import parse
from tests.acceptance.speakers import Speakers, speakers
from tests.asgi import Exchange
from tests.dialects import ALL, PATHS, SPEAK, Piece, Talk

SIDES = {"type": "object", "properties": {"at": {"type": "string", "enum": ["left", "right"]}}}
TALK = Talk(
    (("user", "text", "Please look left."),), ("Be short.",), (("look", "Look.", SIDES),), parallel=False
)
OURS = re.compile(r"[A-Za-z0-9_-]{1,40}")
POLICIES = ("one", "line", "ruled", "dice", "ladder", "vote", "pick", "write")


def config(wire: str, url: str) -> str:
    """Three workers of one wire, and a policy of every kind over them."""
    workers = "".join(
        f'[[worker]]\nid = "{id}"\nwire = "{wire}"\nmodel = "{id}-1"\n'
        f'endpoints = [{{ base_url = "{url}" }}]\nprice = {{ input = {price}, output = {price} }}\n'
        for id, price in (("one", 1), ("two", 2), ("three", 3))
    )
    return f"""
[server]
data = "data"

[pool]
discover = false
sparring = false

{workers}
[[rule]]
when = {{ contains = ["look"] }}
use = "three"

[policy.line]
type = "fallback"
workers = ["two", "one"]

[policy.ruled]
type = "route"
default = "one"

[policy.dice]
type = "random"

[policy.ladder]
type = "cascade"
rungs = ["one", "two"]
check = "agreement"

[policy.vote]
type = "fuse"
panel = ["one", "two", "three"]

[policy.pick]
type = "fuse"
how = "select"
panel = ["one", "two"]
judge = "three"

[policy.write]
type = "fuse"
how = "synthesise"
panel = ["one", "two"]
writer = "three"
"""


@dataclass
class Loop:
    """A caller's loop: what has been said in it, and who has answered so far."""

    policy: str
    client: str
    talk: Talk = TALK
    served: str = ""

    async def step(self, world: World) -> Any:
        """Send the conversation; what the model said becomes part of it. Gives the text of the answer."""
        body = {**SPEAK[self.client](self.talk), "model": self.policy}
        headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
        path = PATHS[self.client]
        done = await Exchange(world.gateway(), "POST", path, json.dumps(body).encode(), headers).run()
        assert done.status == 200, (self, done.body)
        self.served = done.json["stretto"]["served_by"]
        pieces = said(self.client, done.json)
        self.talk = replace(self.talk, pieces=(*self.talk.pieces, *pieces))
        return "".join(piece[2] for piece in pieces if piece[0] == "assistant")

    @property
    def calls(self) -> list[Piece]:
        """The calls that are not answered yet."""
        answered = {piece[1] for piece in self.talk.pieces if piece[0] == "result"}
        return [piece for piece in self.talk.pieces if piece[0] == "call" and piece[1] not in answered]

    def answer(self, *calls: Piece) -> None:
        """Run the tools."""
        results = tuple(("result", call[1], f"nothing for {self.client}") for call in calls)
        self.talk = replace(self.talk, pieces=(*self.talk.pieces, *results))


def said(client: str, body: Any) -> list[Piece]:
    """Texts and calls of an answer."""
    pieces: list[Piece] = []
    if client == "chat":
        message = body["choices"][0]["message"]
        pieces += [("assistant", "text", message["content"])] if message["content"] else []
        for call in message.get("tool_calls", ()):
            pieces.append(("call", call["id"], call["function"]["name"], call["function"]["arguments"]))
    elif client == "responses":
        for item in body["output"]:
            if item["type"] == "function_call":
                pieces.append(("call", item["call_id"], item["name"], item["arguments"]))
            elif item["type"] == "message":
                pieces.append(("assistant", "text", item["content"][0]["text"]))
    else:
        for block in body["content"]:
            if block["type"] == "tool_use":
                pieces.append(("call", block["id"], block["name"], json.dumps(block["input"])))
            elif block["type"] == "text":
                pieces.append(("assistant", "text", block["text"]))
    return pieces


@asynccontextmanager
async def gateway(folder: Path, wire: str, upstream: Speakers) -> AsyncIterator[World]:
    """A gateway process on the data folder."""
    file = folder / "stretto.toml"
    file.write_text(config(wire, upstream.base_url))
    async with open_world(parse(file.read_text(), file=str(file))) as world:
        yield world


@pytest.mark.parametrize("wire", ALL)
def test_a_result_finds_the_worker_that_asked(wire: str, tmp_path: Path) -> None:
    """After a restart it goes to that worker, under its own id, whatever the policy would choose now; all loops interleaved."""

    async def scene() -> None:
        loops = [Loop(policy, client) for policy in POLICIES for client in ALL]
        async with speakers() as upstream:
            async with gateway(tmp_path, wire, upstream) as world:
                await asyncio.gather(*(loop.step(world) for loop in loops))
            asked = {id(loop): loop.served for loop in loops}
            for loop in loops:
                (call,) = loop.calls
                assert OURS.fullmatch(call[1]), call
                loop.answer(call)
            async with gateway(tmp_path, wire, upstream) as world:
                texts = await asyncio.gather(*(loop.step(world) for loop in loops))
            assert upstream.wrong == []
            for loop, text in zip(loops, texts, strict=True):
                assert text == f"The tools say: nothing for {loop.client}", loop
                assert loop.served == asked[id(loop)], loop
            assert {loop.served for loop in loops if loop.policy == "ruled"} == {"three"}

    asyncio.run(scene())


@pytest.mark.parametrize("wire", ALL)
def test_a_loop_whose_state_is_gone_is_read_from_its_transcript(wire: str, tmp_path: Path) -> None:
    """After its lifetime, or with ids that nobody here ever gave, a loop is decided afresh: no error, and the results arrive."""

    async def scene() -> None:
        foreign = (
            *TALK.pieces,
            ("call", "toolu_01AbC", "look", "{}"),
            ("result", "toolu_01AbC", "from elsewhere"),
        )
        loops = [Loop(policy, client) for policy in POLICIES for client in ALL]
        strangers = [Loop(policy, "chat", replace(TALK, pieces=foreign)) for policy in POLICIES]
        async with speakers() as upstream:
            async with gateway(tmp_path, wire, upstream) as world:
                await asyncio.gather(*(loop.step(world) for loop in loops))
            for loop in loops:
                loop.answer(*loop.calls)
            for file in (tmp_path / "data").glob("states.sqlite3*"):
                file.unlink()
            upstream.own_ids = False
            async with gateway(tmp_path, wire, upstream) as world:
                texts = await asyncio.gather(*(loop.step(world) for loop in loops))
                others = await asyncio.gather(*(loop.step(world) for loop in strangers))
            assert upstream.wrong == []
            assert texts == [f"The tools say: nothing for {loop.client}" for loop in loops]
            assert set(others) == {"The tools say: from elsewhere"}

    asyncio.run(scene())


@pytest.mark.parametrize("wire", ALL)
def test_parallel_calls_answered_one_after_the_other(wire: str, tmp_path: Path) -> None:
    """A caller may send the first result alone: it goes to the worker that asked; and so do both, later."""

    async def scene() -> None:
        pieces = (("user", "text", "Please look left and right."),)
        async with speakers() as upstream, gateway(tmp_path, wire, upstream) as world:
            for client in ALL:
                loop = Loop("dice", client, replace(TALK, pieces=pieces, parallel=True))
                await loop.step(world)
                asked, (first, second) = loop.served, loop.calls
                assert first[1] != second[1]
                early = Loop("dice", client, loop.talk)
                early.answer(first)
                await early.step(world)
                assert early.served == asked
                loop.answer(first, second)
                text = await loop.step(world)
                assert (loop.served, text) == (
                    asked,
                    "The tools say: " + "; ".join([f"nothing for {client}"] * 2),
                )
            assert upstream.wrong == []

    asyncio.run(scene())
