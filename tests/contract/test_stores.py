"""What every store promises, in memory or on disk."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stretto.errors import LedgerError, RunError, RunNotFound
from stretto.ledger.events import Asked, Event, Finished, Opened, Resumed, Scored
from stretto.ledger.journal import JournalStore
from stretto.ledger.memory import MemoryStore
from stretto.ledger.read import Source, Summary
from stretto.steps import Store
from stretto.types import Failure, Request, new_run_id
from tests.ledger_events import EVENTS, POOLED, SECRET, bare, story

KINDS = ("memory", "process", "power", "digest")


class Whole(Store, Source, Protocol):
    """Everything a store of this package can do."""

    def erase(self, run: str) -> int:
        """Overwrite contents."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Case:
    """A store and what is particular about it."""

    def __init__(self, kind: str, data: Path) -> None:
        self.keeps = kind != "digest"
        self.store: Whole
        if kind == "memory":
            self.store = MemoryStore()
        else:
            self.store = JournalStore(
                data,
                durability="power" if kind == "power" else "process",
                content="digest" if kind == "digest" else "full",
                index_seconds=0.01,
            )

    def append(self, *events: Event) -> None:
        """Record events, and wait until they are durable."""

        async def wait() -> None:
            if (future := self.store.append(events)) is not None:
                await future

        asyncio.run(wait())

    def as_kept(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """The events as this store gives them back."""
        return tuple(events) if self.keeps else tuple(bare(event) for event in events)


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Each store in turn."""
    made = Case(request.param, tmp_path)
    yield made
    made.store.close()


def test_a_run_reads_as_it_was_written(case: Case) -> None:
    """Events of a run come back equal and in order, whatever was written between them and in whichever batches."""
    one, two = story("run_one"), story("run_two")
    case.append(POOLED, one[0], two[0])
    case.append(one[1])
    case.append(two[1], two[2], one[2])
    case.append(one[3], two[3], one[4])
    case.append(two[4])
    assert tuple(case.store.events("run_one")) == case.as_kept(one)
    assert tuple(case.store.events("run_two")) == case.as_kept(two)


def test_a_run_can_be_read_the_moment_it_is_written(case: Case) -> None:
    """Every event is there at once, without waiting for any index."""
    events = story("run_now")
    for count, event in enumerate(events, 1):
        case.append(event)
        assert tuple(case.store.events("run_now")) == case.as_kept(events[:count])


def test_an_unknown_run_is_not_found(case: Case) -> None:
    """A run that was never recorded raises, also when its id is the beginning or the end of another."""
    case.append(*story("run_one"))
    for run in ("run_on", "run_one_more", "un_one", "", 'run"'):
        with pytest.raises(RunNotFound):
            case.store.events(run)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, min_size=1, max_size=6), cut=st.integers(0, 5))
def test_arbitrary_events_come_back(
    kind: str, tmp_path_factory: pytest.TempPathFactory, events: list[Event], cut: int
) -> None:
    """Any events whatever, with any run ids and texts, come back by run, equal and in order."""
    case = Case(kind, tmp_path_factory.mktemp(kind))
    try:
        case.append(*events[:cut])
        case.append(*events[cut:])
        for run in {event.run for event in events} - {""}:
            own = [event for event in events if event.run == run]
            assert tuple(case.store.events(run)) == case.as_kept(own)
    finally:
        case.store.close()


def test_a_pool_is_found_by_its_version(case: Case) -> None:
    """The cards of a `pooled` event come back equal; another version is not found."""
    with pytest.raises(RunNotFound):
        case.store.cards("pool-1")
    case.append(POOLED)
    assert case.store.cards("pool-1") == POOLED.cards
    assert case.store.cards("pool-1") is case.store.cards("pool-1")
    with pytest.raises(RunNotFound):
        case.store.cards("pool-2")


def test_runs_are_listed_newest_first(case: Case) -> None:
    """A list goes back from the newest run or from a given one, by key and purpose, and says how each run stands."""
    ids = sorted(new_run_id() for _ in range(6))
    for number, run in enumerate(ids):
        case.append(
            *story(run, time=100.0 + number, key=f"k{number % 2}", purpose="eval" if number == 5 else "serve")
        )
    listed = case.store.runs()
    assert [found.run for found in listed] == ids[::-1]
    assert [found.run for found in case.store.runs(2)] == ids[:3:-1]
    assert [found.run for found in case.store.runs(2, before=ids[4])] == ids[3:1:-1]
    assert [found.run for found in case.store.runs(key="k1")] == [ids[5], ids[3], ids[1]]
    assert [found.run for found in case.store.runs(key="k1", purpose="serve", limit=1)] == [ids[3]]
    assert case.store.runs(purpose="learn") == []
    assert listed[-1] == Summary(
        run=ids[0],
        time=100.0,
        model="route",
        policy="route",
        version="route-1",
        purpose="serve",
        key="k0",
        status="finished",
        worker="small",
        cost=320,
        calls=1,
        seconds=0.12,
    )


def test_a_list_tells_how_a_run_stands(case: Case) -> None:
    """Running, failed, taken up again and scored runs are listed as that, with the money so far."""
    events = story("run_a")
    case.append(*events[:4])
    (running,) = case.store.runs()
    assert (running.status, running.cost, running.calls, running.score) == ("running", 320, 1, None)
    case.append(Finished(run="run_a", time=101.0, cost=320, calls=1, error=Failure("timeout")))
    assert case.store.runs()[0].status == "failed"
    case.append(Resumed(run="run_a", time=102.0, process="p", secret=SECRET))
    assert case.store.live("run_a")
    case.append(Finished(run="run_a", time=103.0, worker="small", cost=400, calls=2))
    case.append(Scored(run="run_a", time=104.0, score=0.25), Scored(run="run_a", time=105.0, score=0.75))
    (ended,) = case.store.runs()
    assert (ended.status, ended.cost, ended.calls, ended.score) == ("finished", 400, 2, 0.75)


def test_feedback_after_the_end_keeps_its_comment(case: Case) -> None:
    """A comment on an ended run is content like any other."""
    scored = Scored(run="run_a", time=104.0, score=1.0, by="grader", content="well done")
    case.append(*story("run_a"))
    case.append(scored)
    assert case.store.events("run_a")[-1] == case.as_kept([scored])[0]


def test_a_run_without_a_secret_is_kept_too(case: Case) -> None:
    """A caller who gives no secret gets no keyed digest, but loses nothing."""
    opened = Opened(run="run_a", time=1.0, model="m", policy="p", version="v", content=Request(messages=()))
    case.append(opened)
    assert case.store.events("run_a")[0] == case.as_kept([opened])[0]


def test_erasing_takes_the_texts_and_leaves_the_facts(case: Case) -> None:
    """After an erasure every event stands without content and secret; other runs keep theirs; it may be repeated."""
    case.append(*story("run_a"), *story("run_b"))
    case.append(Scored(run="run_a", time=9.0, score=1.0, content="thanks"))
    erased = case.store.erase("run_a")
    assert erased == (3 if case.keeps else 0)
    assert list(case.store.events("run_a"))[:5] == [bare(event) for event in story("run_a")]
    assert tuple(case.store.events("run_b")) == case.as_kept(story("run_b"))
    assert case.store.erase("run_a") == 0


def test_what_cannot_be_erased_says_so(case: Case) -> None:
    """A run under way keeps its content until it has ended; an unknown run is not found."""
    case.append(*story("run_a")[:3])
    with pytest.raises(RunError, match="under way"):
        case.store.erase("run_a")
    with pytest.raises(RunNotFound):
        case.store.erase("run_b")


def test_a_batch_is_recorded_whole_or_not_at_all(case: Case) -> None:
    """A batch with an event that JSON cannot hold leaves nothing behind; what follows is recorded as usual."""
    if isinstance(case.store, MemoryStore):
        pytest.skip("memory holds any value")
    good, bad = story("run_a"), story("run_b")[2]
    assert isinstance(bad, Asked)
    with pytest.raises(LedgerError, match="JSON"):
        case.append(good[0], Asked(**{n: getattr(bad, n) for n in bad.__slots__} | {"reason": "\ud800"}))
    with pytest.raises(RunNotFound):
        case.store.events("run_a")
    case.append(*good)
    assert tuple(case.store.events("run_a")) == case.as_kept(good)
