"""The engine without a gateway: a fuse over scripted workers, its receipt, and a replay that asks nobody."""

import asyncio

from stretto.engine.run import Engine
from stretto.ledger.read import Reader
from stretto.policies.fuse import Fuse
from stretto.testing import MemoryStore, ScriptedPool
from stretto.types import Message, Request


async def main() -> None:
    """Three workers vote."""
    pool, store = ScriptedPool({"a": ["4"], "b": ["5"], "c": ["4"]}), MemoryStore()
    engine, policy = Engine(pool, store), Fuse(("a", "b", "c"))
    run = await engine.run(policy, Request(messages=(Message("user", "2 + 2?"),)), name="fuse")
    print(run.answer.text, "|", run.answer.why)
    for attempt in Reader(store).receipt(run.id)["attempts"]:
        print(attempt["at"], attempt["worker"], attempt["cost_usd"])
    again = await engine.replay(run.id, policy)
    print(again.answer.text == run.answer.text, len(pool.asks), "asks in all")


asyncio.run(main())
