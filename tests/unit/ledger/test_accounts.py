"""What is particular to accounts in SQLite: slabs, recalls, deaths, and disks that do not take it."""

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stretto.errors import LedgerUnavailable
from stretto.ledger.accounts import SqliteAccounts
from stretto.ledger.book import statement
from stretto.ledger.process import hold as show_life
from stretto.ledger.sqlite import connect, index_path
from stretto.steps import Hold
from stretto.types import Failure, Key
from tests.contract.folder import DAY, NOON, Folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A data folder, closed at the end."""
    made = Folder(tmp_path, [NOON])
    yield made
    made.close()


async def take(accounts: SqliteAccounts, key: Key, amount: int) -> Hold:
    """Reserve what must be granted."""
    got = accounts.try_reserve(key, amount) or await accounts.reserve(key, amount, None)
    assert isinstance(got, Hold), got
    return got


async def until(true: Callable[[], bool]) -> None:
    """Let the event loop turn until something is so."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


@pytest.mark.parametrize(("ceiling", "reserved"), [(100_000, 100), (1000, 50), (100, 10)])
def test_a_slab_is_five_percent_or_ten_times_what_is_asked(
    folder: Folder, ceiling: int, reserved: int
) -> None:
    """A lease takes the smaller of the two, but what is asked at least."""
    one = folder.open("one")
    asyncio.run(take(one, Key("k", total=ceiling), 10))
    assert folder.statement(Key("k", total=ceiling)).total.reserved == reserved


def test_reserves_out_of_a_slab_at_once(folder: Folder) -> None:
    """Only the first of ten reservations needs the database."""
    one, key = folder.open("one"), Key("k", total=100_000)
    assert one.try_reserve(key, 10) is None
    asyncio.run(take(one, key, 10))
    assert all(one.try_reserve(key, 10) for _ in range(9))
    assert one.try_reserve(key, 10) is None


def test_unused_money_is_recalled(folder: Folder) -> None:
    """What one process holds unused, another may have; what is held by attempts stays."""
    one, two, key = folder.open("one"), folder.open("two"), Key("k", total=1000)

    async def scene() -> None:
        held = await take(one, key, 10)
        assert folder.statement(key).total.reserved == 50
        await take(two, key, 990)
        assert folder.statement(key).total.reserved == 1000
        refused = await two.reserve(key, 1, None)
        assert isinstance(refused, Failure)
        one.settle(held, 4)
        await take(two, key, 6)

    asyncio.run(scene())


def test_a_recall_is_answered_even_if_its_ring_is_lost(folder: Folder) -> None:
    """A process looks for recalls once a tick; it does not depend on its bell."""
    one, two, key = folder.open("one", tick=0.001), folder.open("two"), Key("k", total=1000)

    async def scene() -> None:
        await take(one, key, 10)
        for bell in (folder.path / "run").glob("one*"):
            bell.unlink()
        await take(two, key, 990)

    asyncio.run(scene())


def test_a_silent_process_is_neither_waited_for_nor_robbed(folder: Folder) -> None:
    """A process that has not shown up for long (stopped, its machine asleep) keeps its money: its attempts may go on."""
    one, two, key = folder.open("one"), folder.open("two"), Key("k", total=1000)

    async def scene() -> None:
        await take(one, key, 10)
        folder.steady += 60
        assert isinstance(await two.reserve(key, 960, None), Failure)
        assert folder.statement(key).total.reserved == 50
        await take(two, key, 950)

    asyncio.run(scene())


def test_the_dead_are_settled_from_their_journals(folder: Folder) -> None:
    """Settled attempts at their cost, unknown ones at what was reserved for them; the rest is free at once."""
    one, two, key = folder.open("one"), folder.open("two"), Key("k", total=1000, day=1000)

    async def scene() -> None:
        for cost in (3, None, 5):
            attempt = await take(one, key, 10)
            folder.intend(attempt)
            if cost is not None:
                folder.conclude(attempt, cost)
                one.settle(attempt, cost)
        folder.kill("one")
        await take(two, key, 1000 - 3 - 10 - 5)
        assert isinstance(await two.reserve(key, 1, None), Failure)
        assert folder.statement(key).day.spent == 18

    asyncio.run(scene())


def test_the_dead_are_settled_at_the_next_start(folder: Folder) -> None:
    """Whoever starts looks for those who have died."""
    one, key = folder.open("one"), Key("k", total=1000)
    asyncio.run(take(one, key, 10))
    folder.kill("one")
    folder.open("two").close()
    assert folder.statement(key).total.reserved == 0
    assert list((folder.path / "run").glob("one*")) == []


def test_one_that_leases_and_dies_while_it_is_looked_for_is_charged(folder: Folder) -> None:
    """Who had nothing when the search for the dead began may have had something at its death: its journal is read after it."""
    one, key = folder.open("one"), Key("k", total=100)
    assert isinstance(asyncio.run(one.reserve(key, 101, None)), Failure)  # there, and without a slab
    looked, died = threading.Event(), threading.Event()

    class Dying:
        """Dies while somebody looks whether it lives."""

        @property
        def dead(self) -> bool:
            looked.set()
            return died.wait(10)

    folder.connections["one"] = Dying()  # type: ignore[assignment]
    two = folder.open("two")
    assert looked.wait(10)
    folder.intend(asyncio.run(take(one, key, 10)))
    died.set()
    two.close()
    assert folder.statement(key).total.spent == 10


def test_what_was_given_back_is_never_charged_as_unknown(folder: Folder) -> None:
    """A process that settles, gives back and dies before it could write the outcome down does not break the ceiling."""
    one, two, key = folder.open("one"), folder.open("two"), Key("k", total=100)

    async def scene() -> None:
        attempt = await take(one, key, 100)
        folder.intend(attempt)
        one.settle(attempt, 30)
        await take(two, key, 70)
        folder.kill("one")
        folder.open("three").close()
        assert (folder.statement(key).total.spent, folder.statement(key).total.reserved) == (30, 70)

    asyncio.run(scene())


def test_an_unreadable_journal_leaves_its_money_reserved(folder: Folder) -> None:
    """When nobody can tell what the dead have spent, all they had stays set aside."""
    one, two, key = folder.open("one"), folder.open("two"), Key("k", total=1000)

    async def scene() -> None:
        await take(one, key, 10)
        folder.kill("one")
        folder.unreadable.add("one")
        refused = await two.reserve(key, 960, None)
        assert isinstance(refused, Failure)
        assert folder.statement(key).total.reserved == 50
        folder.unreadable.clear()
        await take(two, key, 960)

    asyncio.run(scene())


def test_a_caller_who_leaves_takes_no_money_along(folder: Folder) -> None:
    """However far a reservation has come when its caller is cancelled, nothing stays reserved."""
    one, key = folder.open("one"), Key("k", total=100)

    async def scene() -> None:
        for turns in range(12):
            task = asyncio.create_task(one.reserve(key, 60, None))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            (got,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(got, Hold):
                one.settle(got, 0)
        one.settle(await take(one, key, 100), 0)

    asyncio.run(scene())
    one.close()
    assert folder.statement(key).total.spent == 0
    assert folder.statement(key).total.reserved == 0


def test_a_caller_cancelled_after_the_grant_takes_no_money_along(folder: Folder) -> None:
    """Money that was granted to a caller in the moment of leaving is free again."""
    one, key = folder.open("one"), Key("k", total=100)

    async def scene() -> None:
        tasks = [asyncio.create_task(one.reserve(key, 50, None)) for _ in range(2)]
        tasks[0].add_done_callback(lambda _: tasks[1].cancel())
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: one.left(key) == 50 or tasks[1].done())
        held = 50 * sum(not task.cancelled() for task in tasks)
        await take(one, key, 100 - held)

    asyncio.run(scene())


def test_a_caller_who_leaves_while_the_dead_are_looked_for_harms_nobody(folder: Folder) -> None:
    """One of two callers for whom there is too little leaves at an awkward moment; the other still gets its refusal."""
    one, two, key = folder.open("one"), folder.open("two"), Key("k", total=100)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        await take(two, key, 60)
        leaver, stayer = (asyncio.create_task(one.reserve(key, 60, None)) for _ in range(2))
        gone = threading.Event()
        leaver.add_done_callback(lambda _: gone.set())

        class Looked:
            """Looked at in the thread of the accounts, while their reservations wait."""

            @property
            def dead(self) -> bool:
                loop.call_soon_threadsafe(leaver.cancel)
                return not gone.wait(10)

        folder.connections["two"] = Looked()  # type: ignore[assignment]
        folder.steady += 1000  # two has not shown up for so long that nobody waits for its answer
        refused = await stayer
        assert isinstance(refused, Failure)
        assert refused.kind == "limit"
        assert leaver.cancelled()
        await take(one, key, 40)

    asyncio.run(scene())


def test_a_deadline_ends_the_wait(folder: Folder) -> None:
    """A reservation never takes longer than its caller has; that is not the key's fault, so it is no `limit`."""
    one, key = folder.open("one"), Key("k", total=100)

    async def scene() -> None:
        late = await one.reserve(key, 10, asyncio.get_running_loop().time() - 1)
        assert isinstance(late, Failure)
        assert late.kind == "timeout"
        await take(one, key, 100)

    asyncio.run(scene())


def test_a_locked_database_refuses_loudly_and_recovers(folder: Folder) -> None:
    """When no lease can be written, the caller hears so; when it can, all goes on."""
    one, key = folder.open("one", patience=0.0), Key("k", total=100)

    async def scene() -> None:
        folder.reader.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked"):
            await one.reserve(key, 10, None)
        folder.reader.execute("COMMIT")
        await take(one, key, 10)

    asyncio.run(scene())


def test_what_could_not_be_returned_is_returned_later(folder: Folder) -> None:
    """Money that comes free while the database is locked goes back with the next tick."""
    one, key = folder.open("one", tick=0.001, patience=0.0), Key("k", total=100)

    async def scene() -> None:
        held = await take(one, key, 100)
        folder.reader.execute("BEGIN IMMEDIATE")
        one.settle(held, 40)
        with pytest.raises(LedgerUnavailable):
            one.statement(key)
        folder.reader.execute("COMMIT")
        await until(lambda: folder.statement(key).total.reserved == 0)
        assert folder.statement(key).total.spent == 40

    asyncio.run(scene())


def test_an_idle_slab_is_returned(folder: Folder) -> None:
    """A process that does not need its slab any more gives it back unasked."""
    one, key = folder.open("one", tick=0.001), Key("k", total=100_000)

    async def scene() -> None:
        one.settle(await take(one, key, 10), 7)
        await until(lambda: folder.statement(key).total.reserved == 0)
        assert folder.statement(key).total.spent == 7
        await take(one, key, 10)

    asyncio.run(scene())


def test_a_slab_of_yesterday_ends_with_its_attempts(folder: Folder) -> None:
    """After midnight the unused rest of a slab is returned at once, and what is held when it settles."""
    one, key = folder.open("one"), Key("k", total=1000)

    async def scene() -> None:
        held = await take(one, key, 10)
        folder.clock[0] += DAY
        one.settle(await take(one, key, 990), 0)
        one.settle(held, 10)
        await take(one, key, 990)

    asyncio.run(scene())


def test_closing_keeps_what_attempts_hold(folder: Folder) -> None:
    """What is under way at the end stays reserved until its process has died; then its journal tells."""
    one, key = folder.open("one"), Key("k", total=1000)
    attempt = asyncio.run(take(one, key, 10))
    folder.intend(attempt)
    one.close()
    assert folder.statement(key).total.reserved == 10
    one.settle(attempt, 3)
    folder.conclude(attempt, 3)
    folder.kill("one")
    folder.open("two").close()
    assert (folder.statement(key).total.spent, folder.statement(key).total.reserved) == (3, 0)


def test_closed_accounts_say_so(folder: Folder) -> None:
    """After the end nothing is leased; closing again does no harm."""
    one = folder.open("one")
    one.close()
    one.close()
    with pytest.raises(LedgerUnavailable, match="closed"):
        asyncio.run(one.reserve(Key("k", total=1), 1, None))


def test_waiting_callers_hear_of_the_end(folder: Folder) -> None:
    """Whoever waits for money when the accounts are closed is told."""
    one = folder.open("one")

    async def scene() -> None:
        waiting = asyncio.create_task(one.reserve(Key("k", total=1), 1, None))
        await asyncio.sleep(0)
        one.close()
        with pytest.raises(LedgerUnavailable, match="closed"):
            await waiting

    asyncio.run(scene())


def test_accounts_outlive_an_event_loop(folder: Folder) -> None:
    """What one loop held, the next may settle and use."""
    one, key = folder.open("one"), Key("k", total=100)
    held = asyncio.run(take(one, key, 100))
    one.settle(held, 50)
    asyncio.run(take(one, key, 50))


def test_a_loop_may_end_before_what_is_due_was_written(folder: Folder) -> None:
    """Nothing is left behind in the ended loop, which Python would warn of, and the next one writes it."""
    one, key = folder.open("one"), Key("k", total=100)
    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(take(one, key, 100))
    one.settle(held, 50)
    loop.close()
    gc.collect()
    asyncio.run(take(one, key, 50))
    one.close()
    assert folder.statement(key).total.spent == 50


def test_a_loop_may_end_while_the_thread_writes(folder: Folder) -> None:
    """The write that was under way is done; whoever waited for its end is gone, and nobody is told of an error."""
    one, key = folder.open("one"), Key("k", total=100)
    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(take(one, key, 100))
    folder.reader.execute("BEGIN IMMEDIATE")
    one.settle(held, 50)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    folder.reader.execute("COMMIT")
    asyncio.run(take(one, key, 50))
    one.close()
    assert folder.statement(key).total.spent == 50


def test_a_bell_hangs_elsewhere_when_the_path_is_long(folder: Folder) -> None:
    """Socket paths are short; a deep data folder still has bells that ring."""
    deep = "d" * 120
    one, two, key = folder.open("one", folder=deep), folder.open("two", folder=deep), Key("k", total=1000)

    async def scene() -> None:
        await take(one, key, 10)
        await take(two, key, 990)

    asyncio.run(scene())
    assert not any(path.is_socket() for path in (folder.path / deep).iterdir())


@pytest.mark.parametrize("where", ["run", "d" * 120])
def test_the_bells_of_the_dead_are_taken_down_at_the_next_start(folder: Folder, where: str) -> None:
    """Also of those who died before they ever leased anything, and also where the path is long."""
    bell = Path(folder.open("one", folder=where)._bell.path)
    assert bell.is_socket()
    folder.kill("one")
    folder.open("two", folder=where).close()
    assert not bell.exists()
    assert list((folder.path / where).iterdir()) == []
    assert bell.parent == folder.path / where or not bell.parent.exists()


def test_opens_a_data_folder(tmp_path: Path) -> None:
    """`open` makes the tables, and settles nobody who lives."""
    key = Key("k", total=100)
    with show_life(tmp_path, "one"), show_life(tmp_path, "two"):
        one = SqliteAccounts.open(tmp_path, "one")
        two = SqliteAccounts.open(tmp_path, "two", durability="power")

        async def scene() -> None:
            one.settle(await take(one, key, 60), 20)
            await take(two, key, 80)

        asyncio.run(scene())
        one.close()
        two.close()
    reader = connect(index_path(tmp_path), readonly=True)
    assert statement(reader, key, NOON).total.spent == 20
    reader.close()


def test_a_folder_that_cannot_be_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    """When the database does not open, the error is the database's, and no bell is left hanging."""

    def refuse() -> sqlite3.Connection:
        raise LedgerUnavailable("no such disk")

    with pytest.raises(LedgerUnavailable, match="no such disk"):
        SqliteAccounts(refuse, "one", tmp_path, alive=lambda _: True, used=lambda _: {})
    assert list(tmp_path.iterdir()) == []
