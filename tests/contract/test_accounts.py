"""What every kind of accounts promises: never above a ceiling, never wrongly refused, nothing reserved at the end."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from stretto.ledger.accounts import MemoryAccounts, SqliteAccounts
from stretto.steps import Accounts, Hold
from stretto.types import Failure, Key
from tests.contract.folder import DAY, NOON, Folder

AnyAccounts = MemoryAccounts | SqliteAccounts
Opened = AbstractContextManager[tuple[AnyAccounts, AnyAccounts]]


@contextmanager
def in_memory(clock: list[float]) -> Iterator[tuple[AnyAccounts, AnyAccounts]]:
    """One process, twice."""
    accounts = MemoryAccounts(lambda: clock[0])
    yield accounts, accounts


@contextmanager
def in_sqlite(clock: list[float]) -> Iterator[tuple[AnyAccounts, AnyAccounts]]:
    """Two processes on one folder."""
    with tempfile.TemporaryDirectory() as path:
        folder = Folder(Path(path), clock)
        try:
            yield folder.open("one"), folder.open("two")
        finally:
            folder.close()


both = pytest.mark.parametrize("opened", [in_memory, in_sqlite])


async def take(accounts: Accounts, key: Key, amount: int) -> Hold | Failure:
    """Reserve as the engine does: at once if possible."""
    return accounts.try_reserve(key, amount) or await accounts.reserve(key, amount, None)


def granted(got: Hold | Failure) -> Hold:
    """The hold, which there must be."""
    assert isinstance(got, Hold), got
    return got


@both
def test_reserves_up_to_the_ceiling_and_not_beyond(opened: Callable[[list[float]], Opened]) -> None:
    """Exactly what fits under the ceiling is granted, by whichever process is asked; the refusal names the figures."""

    async def scene(one: AnyAccounts, two: AnyAccounts) -> None:
        key = Key("k", "team", total=10 * 10**12)
        first = granted(await take(one, key, 6 * 10**12))
        granted(await take(two, key, 4 * 10**12))
        refused = await take(one, key, 1)
        assert isinstance(refused, Failure)
        assert refused.kind == "limit"
        assert "total ceiling of key 'team' is $10.00" in refused.message
        assert "$10.00 reserved" in refused.message
        one.settle(first, 2 * 10**12)
        third = granted(await take(two, key, 4 * 10**12))
        two.settle(third, 0)

    with opened([NOON]) as (one, two):
        asyncio.run(scene(one, two))


@both
@pytest.mark.parametrize("ceiling", ["total", "month", "day"])
def test_each_window_has_its_own_ceiling(opened: Callable[[list[float]], Opened], ceiling: str) -> None:
    """A day's ceiling is fresh the next day, a month's the next month, the total never."""

    async def scene(one: AnyAccounts, two: AnyAccounts, clock: list[float]) -> None:
        key = Key("k", **{ceiling: 100})
        one.settle(granted(await take(one, key, 100)), 100)
        assert isinstance(await take(two, key, 1), Failure)
        clock[0] += DAY
        assert isinstance(await take(two, key, 100), Hold if ceiling == "day" else Failure)
        clock[0] += 30 * DAY
        assert isinstance(await take(one, key, 100), Failure if ceiling == "total" else Hold)

    clock = [NOON]
    with opened(clock) as (one, two):
        asyncio.run(scene(one, two, clock))


@both
def test_spend_counts_where_it_was_reserved(opened: Callable[[list[float]], Opened]) -> None:
    """An attempt that ends after midnight is charged to the day on which its money was set aside."""

    async def scene(one: AnyAccounts, clock: list[float]) -> None:
        key = Key("k", day=100)
        hold = granted(await take(one, key, 80))
        clock[0] += DAY
        later = granted(await take(one, key, 100))
        one.settle(hold, 80)
        one.settle(later, 60)
        day = one.statement(key).day
        assert (day.name, day.spent) == ("2026-11-21", 60)
        assert one.statement(key).total.spent == 140

    clock = [NOON]
    with opened(clock) as (one, _):
        asyncio.run(scene(one, clock))


@both
def test_windows_never_reopen(opened: Callable[[list[float]], Opened]) -> None:
    """When the clock runs backwards, the latest day seen goes on."""

    async def scene(one: AnyAccounts, two: AnyAccounts, clock: list[float]) -> None:
        key = Key("k", day=100)
        one.settle(granted(await take(one, key, 100)), 100)
        clock[0] += DAY
        two.settle(granted(await take(two, key, 100)), 100)
        clock[0] -= DAY
        for accounts in (one, two):
            assert isinstance(await take(accounts, key, 1), Failure)
        assert one.statement(key).day.name == "2026-11-21"

    clock = [NOON]
    with opened(clock) as (one, two):
        asyncio.run(scene(one, two, clock))


@both
def test_a_cost_above_its_hold_is_charged_in_full(opened: Callable[[list[float]], Opened]) -> None:
    """An upstream that ignores its cap costs what it costs, and less is left for the next."""

    async def scene(one: AnyAccounts, two: AnyAccounts) -> None:
        key = Key("k", total=100)
        one.settle(granted(await take(one, key, 10)), 130)
        assert one.statement(key).total.spent == 130
        assert isinstance(await take(two, key, 1), Failure)
        assert isinstance(await take(two, key, 0), Hold)
        assert one.left(key) == 0

    with opened([NOON]) as (one, two):
        asyncio.run(scene(one, two))


@both
def test_a_key_without_ceilings_is_never_refused(opened: Callable[[list[float]], Opened]) -> None:
    """Without a ceiling there is nothing to account for."""
    with opened([NOON]) as (one, _):
        hold = one.try_reserve(Key("free"), 10**20)
        assert hold == Hold("free", "", 10**20)
        one.settle(hold, 10**20)
        assert one.left(Key("free")) is None
        assert one.statement(Key("free")).left is None


@both
def test_a_negative_amount_is_a_programming_error(opened: Callable[[list[float]], Opened]) -> None:
    """Nobody can make money by reserving less than nothing."""
    with opened([NOON]) as (one, _):
        for key in (Key("k"), Key("k", total=100)):
            with pytest.raises(ValueError, match="never negative"):
                asyncio.run(one.reserve(key, -1, None))


@both
def test_left_is_what_may_still_be_spent(opened: Callable[[list[float]], Opened]) -> None:
    """The strictest ceiling says what is left; before anything is known, its height."""

    async def scene(one: AnyAccounts) -> None:
        key = Key("k", total=1000, day=100)
        assert one.left(key) == 100
        hold = granted(await take(one, key, 30))
        assert one.left(key) == 70
        one.settle(hold, 5)
        assert one.left(key) == 95

    with opened([NOON]) as (one, _):
        asyncio.run(scene(one))


@both
def test_many_at_once_spend_exactly_the_ceiling(opened: Callable[[list[float]], Opened]) -> None:
    """Of 300 concurrent callers in two processes, exactly as many are served as fit, and none is lost."""

    async def scene(one: AnyAccounts, two: AnyAccounts) -> None:
        key = Key("k", total=1000)
        got = await asyncio.gather(*(take((one, two)[n % 2], key, 7) for n in range(300)))
        holds = [(n, hold) for n, hold in enumerate(got) if isinstance(hold, Hold)]
        assert len(holds) == 142
        for n, hold in holds:
            (one, two)[n % 2].settle(hold, 7 if n % 3 else 0)
        spent = sum(7 for n, _ in holds if n % 3)
        got = await asyncio.gather(*(take((one, two)[n % 2], key, 1) for n in range(1001 - spent)))
        assert sum(isinstance(hold, Hold) for hold in got) == 1000 - spent

    with opened([NOON]) as (one, two):
        asyncio.run(scene(one, two))


class Processes(RuleBasedStateMachine):
    """Three processes on one folder reserve, settle, die and live through days, against a plain account of it all."""

    holds = Bundle("holds")

    @initialize(
        total=st.integers(0, 4000),
        day=st.none() | st.integers(0, 2000),
        month=st.none() | st.integers(0, 3000),
    )
    def begin(self, total: int, day: int | None, month: int | None) -> None:
        """A key, and three processes."""
        self.directory = tempfile.TemporaryDirectory()
        self.clock = [NOON]
        self.folder = Folder(Path(self.directory.name), self.clock)
        self.runner = asyncio.Runner()
        self.key = Key("k", total=total, day=day, month=month)
        self.processes = {n: (f"p{n}", self.folder.open(f"p{n}")) for n in range(3)}
        self.starts = 3
        self.today = "2026-11-20"
        self.spent: list[tuple[str, int]] = []
        self.held: dict[Hold, list[int]] = {}

    @rule(target=holds, n=st.integers(0, 2), amount=st.integers(0, 700))
    def reserve(self, n: int, amount: int) -> Hold | None:
        """What fits is granted, what does not is refused."""
        self.today = max(self.today, Folder.day(self.clock[0]))
        room = self.room()
        accounts = self.processes[n][1]
        got = self.runner.run(take(accounts, self.key, amount))
        if isinstance(got, Failure):
            assert got.kind == "limit"
            assert amount > max(0, room), f"wrongly refused: {amount} of {room}"
            return None
        assert amount <= max(0, room), f"overspent: {amount} of {room}"
        hold = Hold(got.key, got.slab, got.amount)
        self.folder.intend(hold)
        self.held_add(hold, n)
        return hold

    @rule(hold=consumes(holds), share=st.floats(0, 1))
    def settle(self, hold: Hold | None, share: float) -> None:
        """An attempt ends, unless its process has died."""
        if hold is None or not self.held.get(hold):
            return
        n = self.held[hold].pop()
        cost = int(hold.amount * share)
        self.folder.conclude(hold, cost)
        self.processes[n][1].settle(hold, cost)
        self.spent.append((hold.slab[:10], cost))

    @rule(n=st.integers(0, 2))
    def kill(self, n: int) -> None:
        """A process dies; what it was about is charged at what was reserved. Another takes its place."""
        name, _ = self.processes[n]
        self.folder.kill(name)
        for hold, owners in self.held.items():
            self.spent += [(hold.slab[:10], hold.amount) for owner in owners if owner == n]
            self.held[hold] = [owner for owner in owners if owner != n]
        name = f"p{self.starts}"
        self.starts += 1
        self.processes[n] = (name, self.folder.open(name))

    @rule(n=st.integers(0, 2))
    def restart(self, n: int) -> None:
        """A process that holds nothing goes and comes back."""
        if any(n in owners for owners in self.held.values()):
            return
        accounts = self.processes[n][1]
        accounts.close()
        name = f"p{self.starts}"
        self.starts += 1
        self.processes[n] = (name, self.folder.open(name))

    @rule(days=st.sampled_from([-1, 1, 1, 12]))
    def pass_days(self, days: int) -> None:
        """The clock moves, not always forward."""
        self.clock[0] += days * DAY

    @invariant()
    def below_the_ceilings(self) -> None:
        """In no window does what is spent and reserved pass the ceiling."""
        for window in self.folder.statement(self.key).windows:
            assert window.ceiling is None or window.spent + window.reserved <= window.ceiling

    def held_add(self, hold: Hold, n: int) -> None:
        """Remember who holds it; two holds may look alike."""
        self.held.setdefault(hold, []).append(n)

    def room(self) -> int:
        """What is truly free, by the plain account."""
        flows = self.spent + [(h.slab[:10], h.amount) for h, owners in self.held.items() for _ in owners]
        windows = ((self.key.total, ""), (self.key.month, self.today[:7]), (self.key.day, self.today))
        return min(
            ceiling - sum(amount for day, amount in flows if day.startswith(window))
            for ceiling, window in windows
            if ceiling is not None
        )

    def teardown(self) -> None:
        """When all is settled and closed, nothing is reserved and the sum is right."""
        if not hasattr(self, "runner"):
            return
        try:
            for hold, owners in self.held.items():
                for n in owners:
                    self.folder.conclude(hold, 0)
                    self.processes[n][1].settle(hold, 0)
            for _, accounts in self.processes.values():
                accounts.close()
            last = self.folder.open("last")
            statement = last.statement(self.key)
            assert statement.total.reserved == 0
            assert statement.total.spent == sum(amount for _, amount in self.spent)
        finally:
            self.folder.close()
            self.runner.close()
            self.directory.cleanup()


# Threads race here, so a failure need not come again: looking for a smaller one would take minutes and find nothing.
TestProcesses = Processes.TestCase
TestProcesses.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)],
)
