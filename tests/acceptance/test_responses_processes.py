"""Stored responses across gateway processes on one data folder: gone on from, followed, cancelled, stopped, restarted."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.acceptance.responses_events import events_of, faults
from tests.acceptance.served import Caller, Served, served
from tests.acceptance.upstream import Does, Upstream, upstream

ROUTE = "/v1/responses"
ENDED = ("completed", "failed", "cancelled", "incomplete")


def script(body: Mapping[str, Any]) -> Does:
    """Talks on for ever when it is asked to, else answers."""
    endless = "for ever" in str(body["messages"][-1]["content"])
    return Does("drip", beat=0.02) if endless else Does(text="two and two")


def config(asked: Upstream) -> str:
    """One worker."""
    return (
        f'[[worker]]\nid = "a"\nendpoints = [{{ base_url = "{asked.base_url}" }}]\n'
        "price = { input = 1.0, output = 1.0 }\n"
    )


async def call(gateway: Served, method: str, path: str = "", body: Any = None) -> Any:
    """One call and its JSON."""
    caller = Caller(gateway.port)
    try:
        got = await caller.call(method, ROUTE + path, body)
    finally:
        caller.close()
    assert got.status == 200, got.body
    return got.json


async def background(gateway: Served, asked: Upstream) -> str:
    """The id of a response that is under way, and will not end by itself."""
    before = asked.asked
    fields = {"model": "a", "input": "talk for ever", "background": True}
    id = (await call(gateway, "POST", body=fields))["id"]
    while asked.asked == before:
        await asyncio.sleep(0.01)
    return str(id)


async def followed(gateway: Served, id: str) -> list[dict[str, Any]]:
    """The stream of a response to its end."""
    caller = Caller(gateway.port)
    try:
        got = await caller.call("GET", f"{ROUTE}/{id}?stream=true")
    finally:
        caller.close()
    events = events_of(got.body)
    assert faults(events) == []
    return events


def test_two_gateways_and_a_restart(tmp_path: Path) -> None:
    """What one process keeps, another goes on from, follows and cancels; what stops with its process says so, to all others."""

    async def run() -> None:
        async with upstream(script) as asked:
            with served(tmp_path, config(asked)) as one, served(tmp_path, config(asked), name="two") as two:
                await one.started()
                await two.started()
                first = await call(one, "POST", body={"model": "a", "input": "two and two?"})
                again = {"model": "a", "input": "again", "previous_response_id": first["id"]}
                assert (await call(two, "POST", body=again))["status"] == "completed"

                id = await background(one, asked)
                assert (await call(two, "GET", f"/{id}"))["status"] == "in_progress"
                follower = asyncio.create_task(followed(two, id))
                assert (await call(two, "POST", f"/{id}/cancel"))["status"] == "cancelled"
                await asyncio.wait_for(asked.leaving.wait(), 10)
                assert (await follower)[-1]["type"] == "response.failed"
                assert (await call(one, "GET", f"/{id}"))["status"] == "cancelled"

                id = await background(one, asked)
                assert one.stop() == 0
                stopped = await call(two, "GET", f"/{id}")
                assert (stopped["status"], stopped["error"]["code"]) == ("failed", "server_error")
                assert (await followed(two, id))[-1]["type"] == "response.failed"
                await one.started()
                assert await call(one, "GET", f"/{id}") == stopped
                assert (await call(one, "POST", body=again))["status"] == "completed"
                for gateway in (one, two):
                    assert gateway.stop() == 0
                    assert "Traceback" not in gateway.told()

    asyncio.run(run())
