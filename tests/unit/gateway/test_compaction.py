"""Compaction: what is cut, what stays word for word, and that whoever holds the item can go on from it anywhere."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.errors import RequestError
from stretto.gateway.compaction import compaction_item, expanded, question, said_by_caller, split, threshold
from stretto.steps import Ask, Emit, Outcome, Tally
from stretto.types import Request
from stretto.wire.responses_items import parse_items
from tests.gateway_world import World, fails, says
from tests.unit.gateway.test_stored import RESPONSES, create, heard, played, send

USER = {"role": "user", "content": "u"}
DEVELOPER = {"role": "developer", "content": "d"}
SAID = {"role": "assistant", "content": "a"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "r"}
ITEMS = st.lists(st.sampled_from([USER, DEVELOPER, SAID, CALL, RESULT]), max_size=12)


def test_a_summary_is_an_item_that_anybody_can_read() -> None:
    """Nothing is hidden in it; at any gateway it becomes text again, and other providers' items stay as they are."""
    item = compaction_item("cmp_1", "They met.", "run_1")
    head, _, body = item["encrypted_content"].rpartition(".")
    assert head == "stretto.compaction"
    assert json.loads(base64.urlsafe_b64decode(body)) == {"summary": "They met.", "run": "run_1"}
    theirs = {"type": "compaction", "id": "cmp_2", "encrypted_content": "gAAAA"}
    told, same = expanded([item, theirs])
    assert told["content"][0]["text"].endswith("They met.")
    assert same is theirs


@pytest.mark.parametrize("sealed", ["!!!", "e30=", "W10=", "AAAA", "eyJzdW1tYXJ5IjogN30="])
def test_a_damaged_item_is_a_request_error(sealed: str) -> None:
    """Never a failure of the gateway."""
    with pytest.raises(RequestError):
        expanded([{"type": "compaction", "encrypted_content": f"stretto.compaction.{sealed}"}])


def test_the_last_words_and_a_tool_round_stay() -> None:
    """The user's last words stay; a round of tool calls that is open stays with its results and with what was asked."""
    cut = split([DEVELOPER, USER, SAID, USER])
    assert (cut.head, cut.before, cut.after) == ((USER, SAID), (DEVELOPER,), (USER,))
    cut = split([USER, SAID, USER, CALL, RESULT])
    assert (cut.head, cut.after) == ((USER, SAID, USER), (USER, CALL, RESULT))
    assert split([USER, USER]).head == ()


@given(ITEMS)
def test_no_call_is_parted_from_its_results(items: list[dict[str, Any]]) -> None:
    """Whatever the conversation: nothing is lost, and a result that stays has its call before it, if there was one."""
    cut = split(items)
    assert len(cut.head) + len(cut.before) + len(cut.after) >= len(items)
    if CALL in items and cut.head and RESULT in cut.after and items.index(CALL) < items.index(RESULT):
        assert CALL in cut.after[: cut.after.index(RESULT)]
    parse_items(expanded([*cut.before, *cut.after]))


def test_the_question_holds_the_conversation_and_the_caller_s_limits() -> None:
    """Who summarises sees every item, as text."""
    asked = question(Request(messages=(), model="a", seed=3), [USER, SAID, CALL, RESULT])
    assert asked.messages[1].text.count("\n\n") >= 2
    assert "calls f as c: {}" in asked.messages[1].text
    assert asked.seed == 3


def test_long_words_of_the_caller_are_kept_up_to_a_bound() -> None:
    """The last 64 KiB of the user's words, and all instructions."""
    long = {"role": "user", "content": "x" * 40_000}
    assert said_by_caller([DEVELOPER, long, long, SAID, USER]) == [DEVELOPER, long, USER]


@pytest.mark.parametrize(
    "value",
    [
        7,
        [7],
        [{}],
        [{"type": "other"}],
        [{"type": "compaction", "compact_threshold": 10}],
        {"type": "compaction"},
    ],
)
def test_what_is_wrong_with_the_wish_is_told(value: Any) -> None:
    """A 400 with the field's path."""
    with pytest.raises(RequestError) as error:
        threshold({"context_management": value})
    assert str(error.value.param).startswith("context_management")


def test_a_long_conversation_goes_on_from_its_summary() -> None:
    """The answering worker sees the summary and the last words; whoever goes on from the response does, too; usage has both."""

    async def both(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        assert ask.messages is not None
        return says("SUMMARY" if "compact conversations" in ask.messages[0].text else "ok")

    async def run(world: World) -> None:
        items = [USER, {"role": "assistant", "content": "long " * 1200}, {"role": "user", "content": "now"}]
        wish = [{"type": "compaction", "compact_threshold": 1000}]
        made = await create(world, items, context_management=wish)
        assert [item["type"] for item in made["output"]] == ["compaction", "message"]
        assert made["usage"]["output_tokens"] == 4
        assert [text for _, text in heard(world)[1]][-1] == "now"
        await create(world, "and?", previous_response_id=made["id"])
        texts = " ".join(text for _, text in heard(world)[2])
        assert "SUMMARY" in texts
        assert "long" not in texts

    played(run, World(both))


def test_without_a_summary_the_conversation_stays_as_it_is() -> None:
    """A failed summary costs nothing but itself; on the route of its own it is the failure that it is."""

    async def no_summary(ask: Ask, emit: Emit | None, tally: Tally) -> Outcome:
        assert ask.messages is not None
        return fails("overloaded") if "compact conversations" in ask.messages[0].text else says("ok")

    async def run(world: World) -> None:
        items = [USER, {"role": "assistant", "content": "long " * 1200}, USER]
        wish = [{"type": "compaction", "compact_threshold": 1000}]
        made = await create(world, items, context_management=wish)
        assert [item["type"] for item in made["output"]] == ["message"]
        assert "long" in " ".join(text for _, text in heard(world)[-1])
        got = await send(world, "POST", f"{RESPONSES}/compact", {"model": "a", "input": items})
        assert (got.status, got.error["code"]) == (503, "upstream_overloaded")

    played(run, World(no_summary))


def test_the_last_call_is_for_the_answer() -> None:
    """Whoever allows one call gets an answer to the whole conversation, not a refusal after a summary."""

    async def run(world: World) -> None:
        items = [USER, {"role": "assistant", "content": "long " * 1200}, USER]
        wish = [{"type": "compaction", "compact_threshold": 1000}]
        for calls, kinds in ((1, ["message"]), (2, ["compaction", "message"])):
            made = await create(world, items, context_management=wish, stretto={"limits": {"calls": calls}})
            assert [item["type"] for item in made["output"]] == kinds

    played(run)
