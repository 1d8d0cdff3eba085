"""Nothing that was acknowledged is ever lost: real gateways, killed with -9 under load."""

import asyncio
import os
import select
from pathlib import Path

from tests.acceptance.crashes import storm
from tests.acceptance.served import Caller, Served, served

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
    assert found.acknowledged > 10 * KILLS
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
        body = {"model": "string-s", "messages": [message], "temperature": 0}
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
