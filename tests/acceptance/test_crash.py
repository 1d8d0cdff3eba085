"""Nothing that was acknowledged is ever lost: real gateways, killed with -9 under load."""

import asyncio
import os
import select
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.acceptance.crashes import storm
from tests.acceptance.departures import CONFIG
from tests.acceptance.records import Money, books, money
from tests.acceptance.served import Caller, Lost, Served, command, make_key, refused, served
from tests.acceptance.upstream import Body, Does, upstream

KILLS = 20
SEED = 20_261_120


def test_kills_under_load_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """After 20 kills on one data folder every acknowledged call is in the ledger as it was told, every intent is settled or
    reported unknown, all chains verify, no money stays reserved, and nothing is left lying about.
    """
    found = asyncio.run(storm(tmp_path, KILLS, SEED, longest=0.3))
    print(found)
    assert found.violations == []
    assert found.kills == KILLS
    assert found.acknowledged > KILLS  # something could be lost; how fast the machine is does not matter
    assert found.lost >= KILLS
    assert found.unknown > 0
    assert found.leftovers == []


def children_of(process: int) -> list[int]:
    """The processes that a process has started and that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == process:
            found.append(int(path.parent.name))
    return found


def test_a_killed_gateway_leaves_no_model_process_and_no_socket(tmp_path: Path) -> None:
    """kill -9 of a gateway that serves local models: its llama.cpp child ends too, the next one answers with a child of its own,
    and after its orderly end nothing is left.
    """

    async def ask(gateway: Served) -> None:
        caller = Caller(gateway.port)
        message = {"role": "user", "content": "Spell the word planet backward."}
        body = {"model": "string-north", "messages": [message], "temperature": 0}
        answer = (await caller.call("POST", "/v1/chat/completions", body)).json
        assert answer["choices"][0]["message"]["content"] == "tenalp"
        caller.close()

    async def run() -> None:
        with served(tmp_path, "[pool]\ndiscover = false\n") as gateway:
            for _ in range(3):
                await gateway.started()
                await ask(gateway)
                assert gateway.process is not None
                (child,) = children_of(gateway.process.pid)
                end = os.pidfd_open(child)
                gateway.kill()
                assert select.select([end], [], [], 10)[0], "the model process is still there"
                os.close(end)
            await gateway.started()
            await ask(gateway)
            assert gateway.stop() == 0
            assert [str(path) for path in gateway.data.rglob("*") if path.is_socket()] == []
            assert "Traceback" not in gateway.told()

    asyncio.run(run())


def test_a_killed_model_process_costs_no_call(tmp_path: Path) -> None:
    """kill -9 of the llama.cpp child under load: it is replaced, and every call in its hands is answered, by the same attempt."""

    async def run() -> None:
        with served(tmp_path, "[pool]\ndiscover = false\n") as gateway:
            await gateway.started()
            assert gateway.process is not None
            answered = 0

            async def ask_on() -> None:
                nonlocal answered
                caller = Caller(gateway.port)
                message = {"role": "user", "content": "Spell the word planet backward."}
                while len(killed) < 2 or answered < total:
                    body = {"model": "string-north", "messages": [message], "temperature": 0}
                    reply = await caller.call("POST", "/v1/chat/completions", body)
                    assert reply.status == 200, reply.body
                    assert reply.json["choices"][0]["message"]["content"] == "tenalp"
                    answered += 1
                caller.close()

            killed: set[int] = set()
            total = 0
            asking = asyncio.gather(*(ask_on() for _ in range(16)))
            while len(killed) < 2 and not asking.done():
                await asyncio.sleep(0.01)
                children = [child for child in children_of(gateway.process.pid) if child not in killed]
                if children and answered > total:
                    os.kill(children[0], signal.SIGKILL)
                    killed.add(children[0])
                    total = answered + 50
            await asking
            assert gateway.stop() == 0

    asyncio.run(run())


def test_a_run_that_was_cut_is_resumed_at_its_keys_expense(tmp_path: Path) -> None:
    """`runs resume` asks only what is missing and charges the key of the run; a run that is under way is left alone."""

    async def run() -> None:
        answered = asyncio.Semaphore(0)

        def script(body: Body) -> Does:
            if len(up.bodies) == 3:  # the third member never comes to an end
                return Does("hang")
            answered.release()
            return Does(input=10, output=5)

        async with upstream(script, keep=True) as up:
            with served(tmp_path, CONFIG.format(url=up.base_url)) as gateway:
                key, secret = make_key(gateway, "alice", "--total", "1")
                await gateway.started()
                caller = Caller(gateway.port, secret)
                body = {
                    "model": "panel",
                    "messages": [{"role": "user", "content": "2 + 2?"}],
                    "max_tokens": 9,
                }
                asking = asyncio.create_task(caller.call("POST", "/v1/chat/completions", body))
                await answered.acquire()
                await answered.acquire()
                looker = Caller(gateway.port, secret)
                while not (data := (await looker.call("GET", "/v1/runs")).json["data"]):
                    await asyncio.sleep(0.01)
                name, path = data[0]["run"], f"/v1/runs/{data[0]['run']}"
                while [a["outcome"] for a in (await looker.call("GET", path)).json["attempts"]].count(
                    "answered"
                ) < 2:
                    await asyncio.sleep(0.01)
                assert "still under way" in refused(gateway, "runs", "resume", name)
                gateway.kill()
                with pytest.raises(Lost):
                    await asking
                looker.close()
                assert (await asyncio.to_thread(command, gateway, "runs", "resume", name))["answer"] == "four"
                assert len(up.bodies) == 4
                books_ = books(gateway.data)
                assert len(books_.open) == 1
                connection = sqlite3.connect(gateway.data / "index.sqlite3", isolation_level=None)
                assert money(connection, key) == Money(books_.settled + books_.unknown, 0)
                connection.close()

    asyncio.run(run())
