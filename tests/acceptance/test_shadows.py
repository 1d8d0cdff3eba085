"""Shadow runs over real gateways: their ceiling holds through kills and across processes, and callers notice nothing."""

import asyncio
import json
import random
from pathlib import Path

from stretto.ledger.sqlite import connect, index_path, migrate
from stretto.types import PICO
from tests.acceptance.records import Money, money
from tests.acceptance.served import Caller, Lost, Reply, Served, command, served
from tests.acceptance.upstream import Body, Does, Upstream, upstream

CEILING = 2 * PICO
CALLERS, CALLS, KILLS = 12, 30, 2


def config(port: int, usd: float, at_once: int) -> str:
    """Two workers at 1,000 USD per million tokens; whatever `one` answers `two` answers once more."""
    workers = "\n".join(
        f"""[[worker]]
id = "{name}"
endpoints = [{{ base_url = "http://127.0.0.1:{port}/v1" }}]
price = {{ input = 1000, output = 1000 }}
"""
        for name in ("one", "two")
    )
    return f"""{workers}
[shadow]
policy = "two"
of = "one"
share = 1.0
usd_per_day = {usd}
at_once = {at_once}
"""


def answers(body: Body) -> Does:
    """`two` takes a little longer, so that there are always some of it under way."""
    slow = 0.01 if body["model"] == "two" else 0.0
    return Does(text=f"{body['model']} says", delay=slow)


async def calling(gateway: Served, seed: str, told: list[int]) -> None:
    """One caller: calls until it has had its answers, a few of them streams; one that is lost with its gateway is made again."""
    chance, caller, had = random.Random(seed), Caller(gateway.port), 0
    while had < CALLS:
        stream = chance.random() < 0.3
        body = {
            "model": "one",
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 20,
            "stream": stream,
        }
        try:
            reply = await caller.call("POST", "/v1/chat/completions", body)
        except Lost:
            await asyncio.sleep(0.02)
            continue
        assert reply.status == 200
        assert _text(reply) == ("onesays" if stream else "one says")
        told.append(1)
        had += 1
    caller.close()


def _text(reply: Reply) -> str:
    if not reply.done:
        return str(reply.json["choices"][0]["message"]["content"])
    pieces = (choice["delta"].get("content") for event in reply.events for choice in event.get("choices", ()))
    return "".join(piece or "" for piece in pieces)


async def storm(home: Path) -> tuple[int, int, Money, Upstream]:
    """Two gateways on one data folder, one of them killed and started again; the most that was ever spent and reserved."""
    async with upstream(answers) as up:
        text = config(up.port, CEILING / PICO, 8)
        with served(home, text, name="first") as first, served(home, text, name="second") as second:
            await first.started()
            await second.started()
            connection = connect(index_path(first.data))
            migrate(connection)
            most, told = 0, list[int]()
            asked = asyncio.gather(*(calling((first, second)[n % 2], str(n), told) for n in range(CALLERS)))
            marks = [CALLERS * CALLS * part // 5 for part in range(1, KILLS + 1)]
            while not asked.done():
                most = max(most, money(connection, "shadow").gone)
                if marks and len(told) > marks[0]:
                    marks.pop(0)
                    second.kill()
                    await second.started()
                await asyncio.sleep(0.001)
            await asked
            for _ in range(1000):  # until the killed gateways' slabs are settled
                if not (last := money(connection, "shadow")).reserved:
                    break
                await asyncio.sleep(0.02)
            connection.close()
            return most, len(told), last, up


def test_a_days_ceiling_holds_through_kills_and_across_gateways(tmp_path: Path) -> None:
    """Every caller has all its answers; what shadow runs have spent and reserved never passes the ceiling at any look, ends
    beyond half of it (how near depends on how long they rest after what a killed gateway held refused them), and is to the
    pico-dollar what the journals say; the runs that serve are charged to nobody's account.
    """
    most, answered, last, up = asyncio.run(storm(tmp_path))
    assert answered == CALLERS * CALLS
    assert most <= CEILING
    assert last.reserved == 0
    assert CEILING // 2 <= last.spent <= CEILING
    spent, unknown = shadow_money(tmp_path / "data")
    assert last.spent == spent + unknown
    assert up.asked > answered


def shadow_money(data: Path) -> tuple[int, int]:
    """What the journals say was charged to the account: settled, and reserved by attempts whose end is not known."""
    settled, open_ = 0, dict[tuple[str, str, int], int]()
    for path in sorted((data / "ledger").glob("*/0*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            record = json.loads(line)
            if record["kind"] not in ("asked", "answered") or record["key"] != "shadow":
                continue
            place = (record["run"], record["at"], record["attempt"])
            if record["kind"] == "asked":
                open_[place] = record["reserved"]
            else:
                open_.pop(place)
                settled += record["cost"]
    return settled, sum(open_.values())


def test_a_gateway_that_stops_ends_its_shadows(tmp_path: Path) -> None:
    """SIGTERM while one hangs: the gateway is gone at once, the run is recorded as cancelled, and nothing stays reserved."""

    async def stopping() -> None:
        async with upstream(lambda body: Does("hang") if body["model"] == "two" else Does()) as up:
            with served(tmp_path, config(up.port, 2.0, 2)) as gateway:
                await gateway.started()
                caller = Caller(gateway.port)
                body = {"model": "one", "messages": [{"role": "user", "content": "x"}], "max_tokens": 20}
                assert (await caller.call("POST", "/v1/chat/completions", body)).status == 200
                while up.asked < 2:
                    await asyncio.sleep(0.005)
                caller.close()
                assert gateway.stop() == 0
                (run,) = command(gateway, "runs", "list", "--purpose", "shadow")
                assert run["status"] == "failed"
                receipt = command(gateway, "runs", "show", run["run"])
                assert receipt["error"]["kind"] == "cancelled"
                connection = connect(index_path(gateway.data))
                assert money(connection, "shadow").reserved == 0
                connection.close()
                assert "Traceback" not in gateway.told()

    asyncio.run(stopping())
