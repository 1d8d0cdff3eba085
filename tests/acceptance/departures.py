"""Callers who leave in the middle of a stream: what the upstream notices and what the record says."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.served import Caller, served
from tests.acceptance.upstream import Does, upstream

__all__ = ["Departures", "departures"]

CONFIG = """
[pool]
discover = false
sparring = false

[[worker]]
id = "one"
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = 1.0, output = 4.0 }}
abilities = ["text"]

[policy.panel]
type = "fuse"
panel = ["one", "one", "one"]
"""


@dataclass
class Departures:
    """`seconds`: by number of pieces read, from hanging up until the upstream noticed. `receipts`: of those runs."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    receipts: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    panel: list[dict[str, Any]] = field(default_factory=list)
    panel_seconds: list[float] = field(default_factory=list)
    open: int = 0


async def departures(home: Path, rounds: int, pieces: tuple[int, ...] = (0, 1, 10)) -> Departures:
    """Leave streams after so many pieces of an answer that never ends; and panels, whose callers see nothing until the end."""
    found = Departures()
    async with upstream(lambda body: Does("drip", beat=0.01)) as up:
        with served(home, CONFIG.format(url=up.base_url)) as gateway:
            await gateway.started()

            async def leave(model: str, after: int, gone: int) -> tuple[float, dict[str, Any]]:
                before = len(up.left)
                caller = Caller(gateway.port)
                body = {"model": model, "messages": [{"role": "user", "content": "Go on"}], "stream": True}
                if after and model != "panel":
                    await caller.call("POST", "/v1/chat/completions", body, leave_after=after)
                else:
                    asked = up.asked
                    call = asyncio.create_task(caller.call("POST", "/v1/chat/completions", body))
                    while up.asked < asked + gone:
                        await asyncio.sleep(0.001)
                    call.cancel()
                    await asyncio.wait((call,))
                    caller.close()
                begun = time.monotonic()
                while len(up.left) < before + gone:
                    up.leaving.clear()
                    await asyncio.wait_for(up.leaving.wait(), 10)
                seconds = up.left[-1] - begun
                looker = Caller(gateway.port)
                while True:
                    (run,) = (await looker.call("GET", "/v1/runs?limit=1")).json["data"]
                    receipt = (await looker.call("GET", f"/v1/runs/{run['run']}")).json
                    if receipt["status"] != "running":
                        break
                    await asyncio.sleep(0.01)
                looker.close()
                return seconds, receipt

            for _ in range(rounds):
                for after in pieces:
                    seconds, receipt = await leave("one", after, 1)
                    found.seconds.setdefault(after, []).append(seconds)
                    found.receipts.setdefault(after, []).append(receipt)
                seconds, receipt = await leave("panel", 0, 3)
                found.panel_seconds.append(seconds)
                found.panel.append(receipt)
            found.open = len(up.connections)
    return found
