"""What every kind of states promises: kept for its time, for one key, and for nobody else."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stretto.errors import LedgerUnavailable
from stretto.ledger.states import MemoryStates, SqliteStates


@pytest.fixture
def clock() -> list[float]:
    """Unix seconds that a test moves."""
    return [1_795_176_000.0]


@pytest.fixture(params=["memory", "sqlite"])
def states(
    request: pytest.FixtureRequest, tmp_path: Path, clock: list[float]
) -> Iterator[MemoryStates | SqliteStates]:
    """Each kind once."""
    now = lambda: clock[0]  # noqa: E731
    made = MemoryStates(now) if request.param == "memory" else SqliteStates(tmp_path, now)
    yield made
    made.close()


def test_what_is_put_is_had_until_its_time_has_passed(
    states: MemoryStates | SqliteStates, clock: list[float]
) -> None:
    """A state lives for exactly its lifetime; one without a lifetime stays."""

    async def scene() -> None:
        await states.put("loop/1", "k", b"body", 1800.0)
        await states.put("response/1", "k", b"stays", None)
        clock[0] += 1799.0
        assert await states.get("loop/1", "k") == b"body"
        clock[0] += 1.0
        assert await states.get("loop/1", "k") is None
        clock[0] += 1e9
        assert await states.get("response/1", "k") == b"stays"

    asyncio.run(scene())


def test_a_later_put_takes_the_place_of_an_earlier_one(
    states: MemoryStates | SqliteStates, clock: list[float]
) -> None:
    """Body and lifetime are the last ones given, counted from then."""

    async def scene() -> None:
        await states.put("loop/1", "k", b"old", 100.0)
        clock[0] += 60.0
        await states.put("loop/1", "k", b"new", 100.0)
        clock[0] += 60.0
        assert await states.get("loop/1", "k") == b"new"

    asyncio.run(scene())


def test_a_state_belongs_to_the_key_that_made_it(states: MemoryStates | SqliteStates) -> None:
    """Another key neither reads, nor overwrites, nor deletes it; no key is a key of its own."""

    async def scene() -> None:
        await states.put("loop/1", "alice", b"hers", 100.0)
        assert await states.get("loop/1", "bob") is None
        assert await states.get("loop/1", "") is None
        assert await states.delete("loop/1", "bob") is False
        await states.put("loop/1", "bob", b"his", 100.0)
        assert await states.get("loop/1", "alice") == b"hers"
        assert await states.get("loop/1", "bob") == b"his"

    asyncio.run(scene())


def test_many_are_had_at_once(states: MemoryStates | SqliteStates, clock: list[float]) -> None:
    """Those that are there, for this key, and nothing for the others."""

    async def scene() -> None:
        await states.put("a", "k", b"1", None)
        await states.put("b", "k", b"2", 10.0)
        await states.put("c", "other", b"3", None)
        assert await states.get_all(["b", "a", "c", "nobody"], "k") == {"a": b"1", "b": b"2"}
        clock[0] += 10.0
        assert await states.get_all(["b", "a"], "k") == {"a": b"1"}
        assert await states.get_all([], "k") == {}

    asyncio.run(scene())


def test_deleting_tells_whether_there_was_anything(
    states: MemoryStates | SqliteStates, clock: list[float]
) -> None:
    """What has expired is not there any more, whether it was purged or not."""

    async def scene() -> None:
        await states.put("a", "", b"1", None)
        await states.put("b", "", b"2", 10.0)
        assert await states.delete("a", "") is True
        assert await states.delete("a", "") is False
        assert await states.get("a", "") is None
        clock[0] += 10.0
        assert await states.delete("b", "") is False

    asyncio.run(scene())


def test_what_has_expired_is_purged(states: MemoryStates | SqliteStates, clock: list[float]) -> None:
    """A purge deletes what has expired and nothing else; a put does it by itself."""

    async def scene() -> None:
        await states.put("short", "", b"1", 10.0)
        await states.put("long", "", b"2", 1000.0)
        await states.put("ever", "", b"3", None)
        clock[0] += 20.0
        assert await states.purge() == 1
        assert await states.purge() == 0
        await states.put("short", "", b"1", 10.0)
        clock[0] += 100.0
        await states.put("another", "", b"4", 10.0)
        assert await states.purge() == 0
        assert await states.get("long", "") == b"2"

    asyncio.run(scene())


def test_bodies_may_be_anything(states: MemoryStates | SqliteStates) -> None:
    """Empty, large, and full of zero bytes."""

    async def scene() -> None:
        for number, body in enumerate((b"", b"\0" * 1000, os.urandom(1_000_000))):
            await states.put(f"{number}", "k", body, None)
            assert await states.get(f"{number}", "k") == body

    asyncio.run(scene())


# --- on disk ---


def opened(data: Path) -> SqliteStates:
    """As another process opens it."""
    return SqliteStates(data)


def test_states_outlive_their_process(tmp_path: Path) -> None:
    """What one process kept, another one reads, at the same time or later."""

    async def scene() -> None:
        one, two = opened(tmp_path), opened(tmp_path)
        await one.put("loop/1", "k", b"body", 100.0)
        assert await two.get("loop/1", "k") == b"body"
        one.close()
        two.close()
        three = opened(tmp_path)
        assert await three.get("loop/1", "k") == b"body"
        three.close()

    asyncio.run(scene())


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    """A data folder whose gateway never saw a tool call has neither file."""
    opened(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_bodies_are_encrypted_on_disk(tmp_path: Path) -> None:
    """No file of the folder holds the text, and both files are their owner's alone."""

    async def scene() -> None:
        states = opened(tmp_path)
        await states.put("loop/1", "k", b"the launch code is 0000", 100.0)
        states.close()

    asyncio.run(scene())
    assert {path.name for path in tmp_path.iterdir()} >= {"states.sqlite3", "state.key"}
    assert all(b"launch code" not in path.read_bytes() for path in tmp_path.iterdir())
    for name in ("states.sqlite3", "state.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_without_its_key_a_state_is_not_there(tmp_path: Path) -> None:
    """Deleting `state.key` makes everything unreadable; a new one serves what comes after."""

    async def scene() -> None:
        states = opened(tmp_path)
        await states.put("loop/1", "k", b"body", 100.0)
        states.close()
        (tmp_path / "state.key").unlink()
        states = opened(tmp_path)
        assert await states.get("loop/1", "k") is None
        await states.put("loop/2", "k", b"more", 100.0)
        assert await states.get("loop/2", "k") == b"more"
        states.close()

    asyncio.run(scene())


def test_a_body_moved_to_another_row_is_not_there(tmp_path: Path) -> None:
    """Who can write the file, but has no key, cannot hand one caller's state to another."""
    import sqlite3

    async def scene() -> None:
        states = opened(tmp_path)
        await states.put("loop/1", "alice", b"hers", 100.0)
        states.close()
        with sqlite3.connect(tmp_path / "states.sqlite3") as connection:
            connection.execute("UPDATE state SET key = 'mallory'")
        connection.close()
        states = opened(tmp_path)
        assert await states.get("loop/1", "mallory") is None
        states.close()

    asyncio.run(scene())


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    """Neither a wrong answer nor a bare SQLite error."""
    (tmp_path / "states.sqlite3").write_bytes(b"this is no database at all, but long enough to be read" * 100)

    async def scene() -> None:
        states = opened(tmp_path)
        with pytest.raises(LedgerUnavailable, match=r"states\.sqlite3 is damaged .* delete it"):
            await states.get("loop/1", "k")
        states.close()

    asyncio.run(scene())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "data").write_text("a file")

    async def scene() -> None:
        states = opened(tmp_path / "data")
        with pytest.raises(LedgerUnavailable, match=r"states\.sqlite3"):
            await states.put("loop/1", "k", b"body", None)
        states.close()

    asyncio.run(scene())
