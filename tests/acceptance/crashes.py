"""`kill -9` at random moments under load, again and again on one data folder, and a look at what the record says afterwards."""

import asyncio
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stretto.types import PICO
from tests.acceptance.records import books, money
from tests.acceptance.served import Caller, Lost, Reply, Served, command, make_key, served
from tests.acceptance.upstream import Body, Does, Upstream, upstream

__all__ = ["Storm", "storm"]

CALLERS = 8
MODELS = ("one", "two", "panel", "steps", "line")

CONFIG = """
[pool]
discover = false
sparring = false

[ledger]
durability = "{durability}"

[[worker]]
id = "one"
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 1.0, output = 4.0 }}
abilities = ["text"]
max_output = 200

[[worker]]
id = "two"
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 2.0, output = 8.0 }}
abilities = ["text"]
max_output = 200

[policy.panel]
type = "fuse"
panel = ["one", "two", "one"]

[policy.steps]
type = "cascade"
rungs = ["one", "two"]
check = "agreement"

[policy.line]
type = "fallback"
workers = ["one", "two"]
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a caller was told at the end of a call: it has seen a whole body, or `[DONE]`."""

    run: str
    ok: bool
    input: int
    output: int
    cost: int
    calls: int


@dataclass
class Storm:
    """What was done and what was found. `violations` is empty when every promise was kept."""

    seed: int
    kills: int = 0
    early_kills: int = 0
    acknowledged: int = 0
    failures_told: int = 0
    lost: int = 0
    ready: list[float] = field(default_factory=list)
    chains: int = 0
    attempts: int = 0
    unknown: int = 0
    unknown_usd: float = 0.0
    spent_usd: float = 0.0
    interrupted: int = 0
    verify_seconds: float = 0.0
    leftovers: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def _script(chance: random.Random) -> Callable[[Body], Does]:
    def decide(body: Body) -> Does:
        roll = chance.random()
        kind: Any = "refuse" if roll < 0.08 else "cut" if roll < 0.16 else "answer"
        words = chance.randint(1, 12)
        text = " ".join(chance.choice(("yes", "no", "four", "seven")) for _ in range(words))
        return Does(kind, text, 20, words, chance.uniform(0, 0.03), 0.003 if chance.random() < 0.5 else 0.0)

    return decide


async def storm(
    home: Path,
    kills: int,
    seed: int,
    *,
    longest: float = 0.5,
    durability: str = "process",
    progress: Callable[[], None] = lambda: None,
) -> Storm:
    """Kill a gateway `kills` times, each at a random moment of at most `longest` seconds of load; now and then as it starts."""
    chance = random.Random(seed)
    found = Storm(seed)
    async with upstream(_script(random.Random(f"{seed}/upstream"))) as up:
        with served(home, CONFIG.format(url=up.base_url, durability=durability)) as gateway:
            key, secret = make_key(gateway, "storm", "--total", "1000")
            found.ready.append(await gateway.started())
            for number in range(kills):
                told = await _load(gateway, secret, chance, longest, number, found)
                found.kills += 1
                await _check_told(gateway, secret, told, found)
                progress()
            await _check_all(gateway, up, secret, key, found)
    return found


async def _load(
    gateway: Served, secret: str, chance: random.Random, longest: float, number: int, found: Storm
) -> list[Told]:
    """Load until the kill, which comes at a random moment; what callers were told until then. The gateway is up again after."""
    told: list[Told] = []
    loops = [
        asyncio.create_task(
            _caller(gateway, secret, random.Random(f"{found.seed}/{number}/{n}"), told, found)
        )
        for n in range(CALLERS)
    ]
    await asyncio.sleep(chance.uniform(0.02, longest))
    gateway.kill()
    await asyncio.gather(*loops)
    if number % 5 == 4:
        gateway.start()
        await asyncio.sleep(chance.uniform(0, 0.25))
        gateway.kill()
        found.early_kills += 1
    found.acknowledged += len(told)
    found.ready.append(await gateway.started())
    return told


async def _caller(
    gateway: Served, secret: str, chance: random.Random, told: list[Told], found: Storm
) -> None:
    """Ask until the gateway is gone."""
    caller = Caller(gateway.port, secret)
    while True:
        stream = chance.random() < 0.5
        body: dict[str, Any] = {
            "model": chance.choice(MODELS),
            "messages": [{"role": "user", "content": "How many legs has a horse?"}],
            "stream": stream,
            "max_tokens": 50,
        }
        if stream:
            body["stream_options"] = {"include_usage": True}
        try:
            reply = await caller.call("POST", "/v1/chat/completions", body)
        except Lost:
            found.lost += 1
            caller.close()
            return
        if (one := _told(reply)) is not None:
            told.append(one)
            found.failures_told += not one.ok


def _told(reply: Reply) -> Told | None:
    """What a whole answer tells; `None` for an error inside a stream, which has no end to believe in."""
    if reply.headers[b"content-type"].startswith(b"text/event-stream"):
        if not reply.done:
            return None
        last = {
            name: event[name] for event in reply.events for name in ("usage", "stretto") if event.get(name)
        }
    else:
        last = reply.json
    block = last["stretto"]
    if reply.status != 200:
        calls = int(reply.headers[b"x-stretto-calls"])
        cost = round(float(reply.headers[b"x-stretto-cost-usd"]) * PICO)
        return Told(block["run_id"], False, 0, 0, cost, calls)
    usage = last["usage"]
    return Told(
        block["run_id"],
        True,
        usage["prompt_tokens"],
        usage["completion_tokens"],
        round(block["cost_usd"] * PICO),
        block["calls"],
    )


async def _check_told(gateway: Served, secret: str, told: list[Told], found: Storm) -> None:
    """Every acknowledged call is in the ledger, as it was told."""
    caller = Caller(gateway.port, secret)
    for one in told:
        receipt = (await caller.call("GET", f"/v1/runs/{one.run}")).json
        if "error" in receipt and "status" not in receipt:
            found.violations.append(f"{one.run} was acknowledged and is not there: {receipt}")
            continue
        usage = receipt["usage"]
        known = Told(
            one.run,
            receipt["status"] == "finished",
            usage["input"] if one.ok else 0,
            usage["output"] if one.ok else 0,
            receipt["cost_pico"],
            receipt["calls"],
        )
        if known != one or not receipt["consistent"] or receipt["status"] not in ("finished", "failed"):
            found.violations.append(f"{one} was told, the ledger says {known} ({receipt['status']})")
        if any(attempt["outcome"] == "unknown" for attempt in receipt["attempts"]):
            found.violations.append(f"{one.run} was acknowledged with an unsettled attempt")
    caller.close()


async def _check_all(gateway: Served, up: Upstream, secret: str, key: str, found: Storm) -> None:
    """Chains, intents, money and what lies about, at the end of it all."""
    caller = Caller(gateway.port, secret)
    accounts = books(gateway.data)
    for run in sorted({run for run, _, _ in accounts.open}):
        receipt = (await caller.call("GET", f"/v1/runs/{run}")).json
        unknown = {(a["at"], a["attempt"]) for a in receipt["attempts"] if a["outcome"] == "unknown"}
        if unknown != {(at, attempt) for r, at, attempt in accounts.open if r == run}:
            found.violations.append(f"{run}: intents without outcome are not reported unknown")
        if receipt["status"] != "interrupted":
            found.violations.append(f"{run} has lost attempts and is {receipt['status']}")
        found.interrupted += 1
    caller.close()
    if (code := gateway.stop()) != 0:
        found.violations.append(f"the gateway ended with {code} after SIGTERM")
    accounts = books(gateway.data)
    found.chains, found.attempts, found.unknown = accounts.chains, accounts.asked, len(accounts.open)
    found.unknown_usd, found.spent_usd = accounts.unknown / PICO, accounts.settled / PICO
    report = command(gateway, "runs", "verify")
    found.verify_seconds = report["seconds"]
    if not report["ok"]:
        found.violations.append(f"chains do not verify: {report['problems'][:3]}")
    connection = sqlite3.connect(f"file:{gateway.data / 'index.sqlite3'}?mode=ro", uri=True)
    known = money(connection, key)
    connection.close()
    if known.reserved:
        found.violations.append(f"{known.reserved} pico-dollars stay reserved")
    if known.spent != accounts.settled + accounts.unknown:
        found.violations.append(
            f"spent is {known.spent}, the journals say {accounts.settled} and {accounts.unknown} unknown"
        )
    found.leftovers = sorted(
        str(path.relative_to(gateway.data))
        for path in gateway.data.rglob("*")
        if path.is_socket() or (path.parent.name == "bells" and path.is_file())
    )
    if "Traceback" in gateway.told():
        found.violations.append(f"a traceback was printed:\n{gateway.told()[-3000:]}")
    if up.connections:
        await asyncio.wait(up.connections.values(), timeout=5)
    if up.connections:
        found.violations.append(f"{len(up.connections)} connections to the upstream are still open")
