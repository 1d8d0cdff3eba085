"""Many callers on one key with a ceiling, two gateways on one data folder, faults and kills, and somebody who keeps looking."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stretto.types import PICO
from tests.acceptance.records import Money, books, money
from tests.acceptance.served import Caller, Lost, Reply, Served, make_key, served
from tests.acceptance.upstream import Body, Does, Upstream, upstream

__all__ = ["Pressure", "pressure"]

INPUT, OUTPUT = 1_000_000, 10_000_000  # pico-dollars a token

CONFIG = """
[pool]
discover = false
sparring = false

[[worker]]
id = "one"
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 1.0, output = 10.0 }}
abilities = ["text"]
max_output = 400

[policy.panel]
type = "fuse"
panel = ["one", "one", "one"]
"""


@dataclass
class Pressure:
    """What was done and what was found. `violations` is empty when every promise was kept. Money in pico-dollars."""

    seed: int
    ceiling: int
    callers: int
    leaving: float = 0.0
    kills: int = 0
    answered: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    lost: int = 0
    departed: int = 0
    runs: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    samples: int = 0
    most: int = 0
    spent: int = 0
    unknown: int = 0
    billed: int = 0
    attempts: int = 0
    clear_seconds: float = 0.0
    left_before_last: int = 0
    last_calls: int = 0
    left: int = 0
    smallest: int = 0
    violations: list[str] = field(default_factory=list)


def _script(chance: random.Random) -> Callable[[Body], Does]:
    def decide(body: Body) -> Does:
        roll = chance.random()
        kind: Any = "refuse" if roll < 0.05 else "cut" if roll < 0.08 else "answer"
        if "drip" in body["messages"][0]["content"] and body.get("stream"):
            return Does("drip", beat=0.01)
        delay = chance.uniform(0.2, 0.6) if roll > 0.97 else chance.uniform(0, 0.05)
        return Does(kind, "four", 15, chance.randint(1, body["max_tokens"]), delay)

    return decide


async def pressure(
    home: Path,
    *,
    callers: int,
    ceiling: float,
    kills: int,
    seed: int,
    leaving: float = 0.0,
    progress: Callable[[float], None] = lambda share: None,
) -> Pressure:
    """Spend a key's ceiling (USD) down to nothing with many callers at once, and account for every pico-dollar.

    A share of the callers, `leaving`, hang up in the middle of their calls.
    """
    found = Pressure(seed, round(ceiling * PICO), callers, leaving)
    async with upstream(_script(random.Random(f"{seed}/upstream"))) as up:
        config = CONFIG.format(url=up.base_url)
        with served(home, config, name="first") as first, served(home, config, name="second") as second:
            key, secret = make_key(first, "shared", "--total", str(ceiling), "--day", str(ceiling * 2))
            for gateway in (first, second):
                await gateway.started()
            await _spend(first, second, key, secret, kills, found, progress)
            connection = _look(first.data)
            await _clear(connection, key, found)
            await _last(second, secret, connection, key, found)
            await _check_runs(first, secret, found)
            connection.close()
            for gateway in (first, second):
                if (code := gateway.stop()) != 0:
                    found.violations.append(f"a gateway ended with {code}")
                if "Traceback" in gateway.told():
                    found.violations.append(f"a traceback was printed:\n{gateway.told()[-3000:]}")
            _account(first.data, key, up, found)
    return found


def _look(data: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{data / 'index.sqlite3'}?mode=ro", uri=True, isolation_level=None)


async def _spend(
    first: Served,
    second: Served,
    key: str,
    secret: str,
    kills: int,
    found: Pressure,
    progress: Callable[[float], None],
) -> None:
    """All callers until each has been refused; on the way the second gateway is killed `kills` times and started again."""
    begun, done = time.monotonic(), asyncio.Event()
    watcher = asyncio.create_task(_watch(first.data, key, done, found))
    asked = asyncio.gather(
        *(
            _caller((first, second)[n % 2], secret, random.Random(f"{found.seed}/{n}"), found)
            for n in range(found.callers)
        )
    )
    connection, chance = _look(first.data), random.Random(found.seed)
    moments = sorted(chance.uniform(0.1, 0.95) for _ in range(kills))
    while not asked.done():
        share = money(connection, key).spent / found.ceiling
        progress(share)
        if moments and share > moments[0]:
            moments.pop(0)
            second.kill()
            found.kills += 1
            await asyncio.sleep(chance.uniform(0, 0.2))
            await second.started()
        await asyncio.sleep(0.02)
    await asked
    done.set()
    await watcher
    connection.close()
    found.seconds = time.monotonic() - begun


async def _watch(data: Path, key: str, done: asyncio.Event, found: Pressure) -> None:
    """Look at the key's money about every millisecond: what is settled and what is reserved never pass the ceiling together."""
    connection = _look(data)
    while not done.is_set():
        seen = money(connection, key)
        found.samples += 1
        found.most = max(found.most, seen.gone)
        if seen.gone > found.ceiling:
            found.violations.append(f"{seen} is more than {found.ceiling}")
        await asyncio.sleep(0.001)
    connection.close()


def _body(chance: random.Random) -> dict[str, Any]:
    stream = chance.random() < 0.4
    body: dict[str, Any] = {
        "model": "panel" if chance.random() < 0.2 else "one",
        "messages": [{"role": "user", "content": "How many legs has a horse?"}],
        "max_tokens": chance.choice((20, 100, 200)),
        "stream": stream,
    }
    return body


async def _caller(gateway: Served, secret: str, chance: random.Random, found: Pressure) -> None:
    """Ask until three calls in a row have been refused for want of money; wait for a gateway that is down."""
    caller, refusals = Caller(gateway.port, secret), 0
    while refusals < 3:
        if chance.random() < found.leaving:
            await _depart(caller, chance)
            found.departed += 1
            continue
        try:
            reply = await caller.call("POST", "/v1/chat/completions", _body(chance))
        except Lost:
            found.lost += 1
            await asyncio.sleep(0.05)
            continue
        if reply.status == 200 and (reply.headers[b"content-type"] == b"application/json" or reply.done):
            found.answered += 1
            refusals = 0
        elif reply.status == 429:
            found.refused += 1
            refusals += 1
            _check_refusal(reply, found)
            await asyncio.sleep(0.02)
        else:
            told = reply.events[-1] if reply.status == 200 else reply.json
            code = told["error"]["code"]
            if code == "limit_reached":  # told in the stream, whose head had left while it waited for money
                found.refused += 1
                refusals += 1
                continue
            found.failed[code] = found.failed.get(code, 0) + 1
    caller.close()


async def _depart(caller: Caller, chance: random.Random) -> None:
    """Ask for something that may never end, and hang up at some moment."""
    body = _body(chance) | {"messages": [{"role": "user", "content": "drip"}]}
    call = asyncio.create_task(caller.call("POST", "/v1/chat/completions", body))
    await asyncio.wait((call,), timeout=chance.uniform(0, 0.15))
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    caller.close()


def _check_refusal(reply: Reply, found: Pressure) -> None:
    error = reply.json["error"]
    final = reply.headers.get(b"x-should-retry")
    if (error["type"], error["code"], final) != ("insufficient_quota", "limit_reached", b"false"):
        found.violations.append(f"refused with {error} and x-should-retry {final!r}")
    if "does not answer" in error["message"]:
        found.violations.append(f"refused for a process that does not answer: {error['message']}")


async def _clear(connection: sqlite3.Connection, key: str, found: Pressure) -> None:
    """Wait until nothing is reserved any more: no attempt is under way, and the killed gateways' slabs are settled."""
    begun = time.monotonic()
    while money(connection, key).reserved:
        if time.monotonic() - begun > 10:
            found.violations.append(f"after ten seconds without a call {money(connection, key)}")
            return
        await asyncio.sleep(0.02)
    found.clear_seconds = time.monotonic() - begun


async def _check_runs(gateway: Served, secret: str, found: Pressure) -> None:
    """No run is left under way, and the attempts of each add up to what its end says."""
    caller, before = Caller(gateway.port, secret), ""
    while page := (await caller.call("GET", f"/v1/runs?limit=500{before}")).json["data"]:
        for summary in page:
            receipt = (await caller.call("GET", f"/v1/runs/{summary['run']}")).json
            status = receipt["status"]
            found.runs[status] = found.runs.get(status, 0) + 1
            if not receipt["consistent"] or status == "running":
                found.violations.append(f"{summary['run']} is {status}, its attempts do not add up")
        before = f"&before={page[-1]['run']}"
    caller.close()


async def _last(
    gateway: Served, secret: str, connection: sqlite3.Connection, key: str, found: Pressure
) -> None:
    """One call after the other: each that fits what is left is served, the first that is refused does not fit."""
    caller = Caller(gateway.port, secret)
    body = {"model": "one", "messages": [{"role": "user", "content": "x"}], "max_tokens": 20}
    plan = (await caller.call("POST", "/v1/plans", body)).json
    found.smallest = round(plan["outlook"]["usd"]["most"] * PICO)
    found.left_before_last = found.ceiling - money(connection, key).gone
    while True:
        reply = await caller.call("POST", "/v1/chat/completions", body)
        await _clear(connection, key, found)
        found.left = found.ceiling - money(connection, key).gone
        if reply.status == 429:
            _check_refusal(reply, found)
            if found.left >= found.smallest:
                found.violations.append(f"refused {found.smallest} while {found.left} was left")
            break
        found.last_calls += reply.status == 200
    caller.close()


def _account(data: Path, key: str, up: Upstream, found: Pressure) -> None:
    """The accounts say what the journals say, and not less than what the upstream has billed."""
    ledger = books(data)
    connection = _look(data)
    known = money(connection, key)
    connection.close()
    found.attempts, found.unknown, found.spent = ledger.asked, ledger.unknown, known.spent
    found.billed = sum(INPUT * does.input + OUTPUT * does.output for does in up.told)
    if known != Money(ledger.settled + ledger.unknown, 0):
        found.violations.append(
            f"{known}, but the journals say {ledger.settled} and {ledger.unknown} unknown"
        )
    if found.billed > known.spent and not found.leaving:  # who leaves pays for what came, by an estimate
        found.violations.append(f"the upstream has billed {found.billed}, the key has spent {known.spent}")
