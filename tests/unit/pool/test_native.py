"""Asks as llama.cpp takes them."""

import asyncio
import json
from pathlib import Path
from typing import Any

from stretto.pool.http import HttpClient
from stretto.pool.native import suited
from stretto.pool.worker import Place, WorkerPool, describe
from stretto.steps import Ask, Tally
from stretto.types import Message
from tests.unit.pool.upstream import Upstream, answer, completion

TOOLS = tuple({"type": "function", "function": {"name": name, "parameters": {}}} for name in ("one", "two"))
USER = (Message("user", "hi"),)
NAMED = {"type": "function", "function": {"name": "two"}}


def test_a_tool_chosen_by_name_is_the_only_one() -> None:
    """llama.cpp knows only words for a choice: of several tools the named one alone goes out, and a call is required."""
    found = suited(Ask("a", USER, tools=TOOLS, tool_choice=NAMED), None)
    assert (found.tools, found.tool_choice, found.max_tokens) == (TOOLS[1:], "required", None)


def test_other_choices_stay_as_they_are() -> None:
    """Words, nothing, and a name that no tool has are left alone."""
    for choice in ("auto", "none", "required", None, {"type": "function", "function": {"name": "three"}}):
        ask = Ask("a", USER, tools=TOOLS, tool_choice=choice)
        assert suited(ask, None) == ask


def test_an_open_answer_is_bounded_by_the_worker() -> None:
    """`max_output` is the most a local model writes; what the ask says itself counts before it."""
    assert suited(Ask("a", USER), 300).max_tokens == 300
    assert suited(Ask("a", USER, max_tokens=20), 300).max_tokens == 20


def test_a_local_file_gets_both(tmp_path: Path) -> None:
    """A worker at a file is asked in llama.cpp's words."""

    class Local:
        async def socket_for(
            self, path: Path, *, purpose: str = "text", deadline: float | None = None
        ) -> str:
            return str(tmp_path / "s")

        def forget(self, path: Path, *, purpose: str = "text") -> None:
            raise AssertionError("the socket answers")

    async def run() -> Any:
        it = Upstream((answer(completion()),))
        server = await asyncio.start_unix_server(it.serve, str(tmp_path / "s"))
        client = HttpClient()
        abilities = frozenset({"text", "tools"})
        local = describe("a", "m", [Place("a", gguf=Path("m.gguf"))], abilities=abilities, max_output=77)
        pool = WorkerPool([local], client, local=Local())
        ask = Ask("a", USER, tools=TOOLS, tool_choice=NAMED)
        place = pool.candidates(ask).endpoints[0]
        outcome = await pool.attempt(ask, place, deadline=None, tally=Tally(), emit=None)
        assert outcome.error is None
        await client.close()
        server.close()
        return json.loads(it.requests[0].partition(b"\r\n\r\n")[2])

    body = asyncio.run(run())
    assert body["tools"] == list(TOOLS[1:])
    assert (body["tool_choice"], body["max_tokens"]) == ("required", 77)
