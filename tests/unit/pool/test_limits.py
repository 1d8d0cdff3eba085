"""The gate in front of an endpoint."""

import asyncio

import pytest

from stretto.pool.limits import Gate


def test_so_many_and_no_more() -> None:
    """At most `most` are inside; the others follow in the order in which they came."""

    async def run() -> None:
        gate, order, most = Gate(2), list[int](), 0

        async def go(number: int) -> None:
            nonlocal most
            await gate.enter(None)
            order.append(number)
            most = max(most, gate.inside)
            await asyncio.sleep(0)
            gate.leave()

        await asyncio.gather(*(go(number) for number in range(7)))
        assert order == list(range(7))
        assert (most, gate.inside, gate.load) == (2, 0, 0)

    asyncio.run(run())


def test_who_gives_up_leaves_nothing_behind() -> None:
    """A cancelled or late waiter loses its turn, also when it had just been given, and nobody's place is lost."""

    async def run() -> None:
        gate = Gate(1)
        await gate.enter(None)
        with pytest.raises(TimeoutError):
            await gate.enter(asyncio.get_running_loop().time())
        waiting = [asyncio.create_task(gate.enter(None)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        gate.leave()
        waiting[0].cancel()  # its turn has come, but it has not run yet
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results[:2]] == [asyncio.CancelledError] * 2
        assert results[2] is None
        assert gate.inside == 1
        gate.leave()
        assert (gate.inside, gate.load) == (0, 0)

    asyncio.run(run())
