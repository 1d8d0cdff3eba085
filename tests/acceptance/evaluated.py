"""A process that evaluates, to be killed: `python -m tests.acceptance.evaluated FOLDER BLOCK_AT`.

Its workers note every ask in FOLDER/asks; ask number BLOCK_AT is noted, told on standard output, and
never answered.
"""

import asyncio
import sys
from pathlib import Path

from stretto.engine.run import Engine
from stretto.evaluation.recorded import RecordedPool
from stretto.evaluation.runner import Asking, Contender, Log, play
from stretto.evaluation.tables import Table
from stretto.evaluation.tasks import recorded_items
from stretto.ledger.journal import JournalStore
from stretto.ledger.process import process_id
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.steps import Ask, Emit, Endpoint, Outcome, Tally
from stretto.types import Limits
from tests.recorded_tables import made

ITEMS = 12
NAMES = ("cheap", "line", "panel")


class Noting(RecordedPool):
    """A recorded pool that notes what it is asked."""

    def __init__(self, table: Table, notes: Path, block_at: int) -> None:
        super().__init__(table)
        self._notes, self._block_at, self._asks = notes, block_at, 0

    async def attempt(
        self, ask: Ask, endpoint: Endpoint, *, deadline: float | None, tally: Tally, emit: Emit | None
    ) -> Outcome:
        self._asks += 1
        with self._notes.open("a") as out:
            out.write(f"{ask.worker} {(ask.messages or ())[-1].extra['recorded']}\n")
        if self._asks == self._block_at:
            print("blocked", flush=True)
            await asyncio.Event().wait()
        return await super().attempt(ask, endpoint, deadline=deadline, tally=tally, emit=emit)


async def main(folder: Path, block_at: int) -> None:
    table = made(ITEMS)
    pool = Noting(table, folder / "asks", block_at)
    process = process_id()
    store = JournalStore(folder / "data", process=process, content="full")
    log = Log(folder / "out" / "results.jsonl")
    contenders = [
        Contender("cheap", Solo("cheap"), "worker"),
        Contender("line", Fallback(("middle", "dear"))),
        Contender("panel", Fuse(("cheap", "middle", "dear"))),
    ]
    try:
        engine = Engine(pool, store, process=process)
        asking = Asking(seed=3, limits=Limits(calls=9))
        found = await play(
            engine, store, pool.cards(), recorded_items(table), contenders, log, asking, concurrency=2
        )
        print({name: sum(r.score for r in results) for name, results in found.items()}, flush=True)
    finally:
        log.close()
        store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
