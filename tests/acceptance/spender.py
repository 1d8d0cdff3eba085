"""A process of its own for the limits tests: `spend` with many loops at once on one key, or `watch` what the database says."""

import asyncio
import random
import sys
import time
from pathlib import Path

from stretto.ledger.accounts import SqliteAccounts
from stretto.ledger.book import statement
from stretto.ledger.events import Answered, Asked
from stretto.ledger.journal import JournalStore
from stretto.ledger.sqlite import connect, index_path
from stretto.steps import Hold
from stretto.types import Failure, Key

WORST = 10_000
"""The most that one attempt reserves."""


def key(ceiling: int) -> Key:
    """The key that all spend from."""
    return Key("key_shared", "shared", total=ceiling, day=ceiling + WORST, month=ceiling)


async def spend(data: Path, ceiling: int, loops: int, seed: int) -> None:
    """Reserve, record, settle in many loops, until the key is all but exhausted; say so after every hundred attempts."""
    store = JournalStore(data, content="digest")
    accounts = SqliteAccounts.open(data, store.process)
    shared, made = key(ceiling), 0

    async def loop(number: int) -> None:
        nonlocal made
        chance = random.Random(f"{seed}/{number}")
        refusals = 0
        while refusals < 10:
            amount = chance.randint(WORST // 10, WORST)
            hold = accounts.try_reserve(shared, amount) or await accounts.reserve(shared, amount, None)
            if isinstance(hold, Failure):
                assert hold.kind == "limit"
                assert "does not answer" not in hold.message
                refusals += 1
                await asyncio.sleep(0.01)
                continue
            refusals = 0
            made += 1
            place = {
                "run": f"run_{seed}",
                "time": time.time(),
                "at": f"{number}.{made}",
                "attempt": 1,
                "worker": "w",
            }
            money = {"key": hold.key, "slab": hold.slab}
            store.append([Asked(**place, **money, endpoint="e", role="solver", reserved=amount)])
            await asyncio.sleep(chance.random() * 0.01)
            cost = 0 if chance.random() < 0.2 else chance.randint(0, amount)
            accounts.settle(hold, cost)
            store.append([Answered(**place, **money, cost=cost)])
            if made % 100 == 0:
                print(made, flush=True)

    await asyncio.gather(*(loop(number) for number in range(loops)))
    accounts.close()
    store.close()


async def exhaust(data: Path, ceiling: int) -> None:
    """Take exactly what is left, as the last caller; one unit more is refused."""
    store = JournalStore(data, content="digest")
    accounts = SqliteAccounts.open(data, store.process)
    left = accounts.statement(key(ceiling)).total.left
    assert left is not None
    assert isinstance(await accounts.reserve(key(ceiling), left + 1, None), Failure)
    hold = await accounts.reserve(key(ceiling), left, None)
    assert isinstance(hold, Hold), hold
    accounts.settle(hold, 0)
    accounts.close()
    store.close()


def watch(data: Path, ceiling: int) -> None:
    """Look as often as possible until standard input ends; print how often, and the most that was ever spent or reserved."""
    connection = connect(index_path(data), readonly=True)
    done, samples, most = asyncio.Event(), 0, 0

    async def look() -> None:
        nonlocal samples, most
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), done.set)
        print("watching", flush=True)
        while not done.is_set():
            for window in statement(connection, key(ceiling), time.time()).windows:
                assert window.ceiling is not None
                assert window.spent + window.reserved <= window.ceiling, window
                most = max(most, window.spent + window.reserved)
            samples += 1
            await asyncio.sleep(0)

    asyncio.run(look())
    connection.close()
    print(samples, most, flush=True)


if __name__ == "__main__":
    what, folder, height, *rest = sys.argv[1:]
    if what == "spend":
        asyncio.run(spend(Path(folder), int(height), int(rest[0]), int(rest[1])))
    elif what == "exhaust":
        asyncio.run(exhaust(Path(folder), int(height)))
    else:
        watch(Path(folder), int(height))
