import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stretto.errors import LedgerBusy, LedgerCorrupt, LedgerUnavailable, RunNotFound
from stretto.ledger.archive import Archive
from stretto.ledger.index import catch_up, reindex
from stretto.ledger.journal import JournalStore
from stretto.ledger.sqlite import VERSION, connect, index_path, migrate
from stretto.ledger.usual import Usual, usual
from tests.ledger_events import POOLED, story

NEVER = 3600.0
TABLES = ("runs", "attempts", "pools")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with two closed chains of several segments."""
    for process in ("a", "b"):
        store = JournalStore(tmp_path, process=process, segment_bytes=5000, index_seconds=NEVER)
        store.append([POOLED])
        for number in range(20):
            events = story(f"run_{process}_{number}", key=process)
            store.append(events[:3])
            store.append(events[3:])
        store.close()
    return tmp_path


@contextmanager
def opened(data: Path) -> Iterator[sqlite3.Connection]:
    """The SQLite file, open."""
    connection = connect(index_path(data))
    try:
        yield connection
    finally:
        connection.close()


def rows(data: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the index holds, but for the numbers of chains, which depend on who came first."""
    with opened(data) as connection:
        found = {}
        for table in TABLES:
            everything = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
            found[table] = sorted(
                tuple(
                    value for name, value in row.items() if name not in ("chain", "segment", "first", "past")
                )
                for row in everything
            )
        return found


def test_reindex_makes_the_same_index_again(data: Path) -> None:
    """A rebuilt index equals the one that was fed as the records came, and runs are found through it."""
    before = rows(data)
    assert len(before["runs"]) == 40
    assert len(before["attempts"]) == 40
    told: list[int] = []
    report = reindex(data, progress=told.append)
    assert rows(data) == before
    assert report.chains == 2
    assert report.records == sum(told)
    assert report.aside == ""
    with opened(data) as connection:
        assert connection.execute("SELECT count(*) FROM places").fetchone()[0] >= 40
    archive = Archive(data)
    assert list(archive.events("run_b_7")) == story("run_b_7", key="b")
    archive.close()


def test_reindex_keeps_accounts(data: Path) -> None:
    """Tables that no journal can give back are left alone."""
    with opened(data) as connection:
        connection.execute("CREATE TABLE treasure (gold INTEGER)")
        connection.execute("INSERT INTO treasure VALUES (7)")
    reindex(data)
    with opened(data) as connection:
        assert connection.execute("SELECT gold FROM treasure").fetchone()[0] == 7


class Killed(BaseException):
    """The end of a process."""


class Mortal(sqlite3.Connection):
    """A connection whose process dies before its so-manieth statement."""

    lives = 10**9

    def spend(self) -> None:
        """One statement more."""
        self.lives -= 1
        if self.lives < 0:
            raise Killed

    def execute(self, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
        """Like the original, while alive."""
        self.spend()
        return super().execute(*args)  # type: ignore[arg-type]

    def executemany(self, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
        """Like the original, while alive."""
        self.spend()
        return super().executemany(*args)  # type: ignore[arg-type]


def test_indexing_can_be_broken_off_anywhere(data: Path) -> None:
    """After the death of the indexer before any of its statements, going on gives the same index."""
    before = rows(data)
    deaths = 0
    for lives in range(1, 400, 5):
        with opened(data) as connection:
            for table in ("places", "chains", *TABLES):
                connection.execute(f"DELETE FROM {table}")
        mortal = sqlite3.connect(index_path(data), isolation_level=None, factory=Mortal)
        mortal.row_factory = sqlite3.Row
        mortal.lives = lives
        try:
            catch_up(mortal, data)
        except Killed:
            deaths += 1
        finished = mortal.lives >= 0
        mortal.close()
        with opened(data) as connection:
            catch_up(connection, data)
        assert rows(data) == before
        if finished:
            break
    assert deaths >= 5


def test_several_indexers_do_not_count_twice(data: Path) -> None:
    """Two processes that index the same chains at once leave one row for each run."""
    before = rows(data)
    with opened(data) as one, opened(data) as two:
        for table in ("places", "chains", *TABLES):
            one.execute(f"DELETE FROM {table}")
        assert catch_up(one, data) + catch_up(two, data) > 0
        assert catch_up(one, data) == 0
    assert rows(data) == before


def test_a_run_is_found_however_far_the_index_lags(tmp_path: Path) -> None:
    """With nothing, with half and with everything indexed, and while the index is locked, a run reads whole."""
    store = JournalStore(tmp_path, process="p", index_seconds=NEVER)
    reader = Archive(tmp_path)
    events = story("run_a")
    with opened(tmp_path) as other:
        for count in range(1, 6):
            store.append(events[count - 1 : count])
            assert list(reader.events("run_a")) == events[:count]
            if count % 2:
                catch_up(other, tmp_path)
                assert list(reader.events("run_a")) == events[:count]
        other.execute("BEGIN EXCLUSIVE")
        store.append(story("run_b"))
        assert list(reader.events("run_b")) == story("run_b")
        other.execute("ROLLBACK")
    assert [found.run for found in reader.runs()] == ["run_b", "run_a"]
    reader.close()
    store.close()


def test_recording_goes_on_while_the_index_is_locked(tmp_path: Path) -> None:
    """A process that keeps the SQLite file locked stops neither records nor the reading of a run."""
    store = JournalStore(tmp_path, process="p", index_seconds=0.001)
    with opened(tmp_path) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(20):
            store.append(story(f"run_{number}"))
            assert list(store.events(f"run_{number}")) == story(f"run_{number}")
        other.execute("ROLLBACK")
    assert not store.trouble
    store.close()


def damage(path: Path, how: str) -> None:
    """Spoil an SQLite file."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    whole = path.read_bytes()
    match how:
        case "text":
            path.write_text("this is no database " * 500)
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "flipped":
            page = bytes(byte ^ 0x5A for byte in whole[4096:8192])
            path.write_bytes(whole[:4096] + page + whole[8192:])
        case "gone":
            path.unlink()


@pytest.mark.parametrize("how", ["text", "cut", "flipped", "gone"])
def test_a_damaged_index_is_refused_and_can_be_rebuilt(data: Path, how: str) -> None:
    """A store does not start over a damaged or missing index; it names the file and the cure; the cure works."""
    before = rows(data)
    path = index_path(data)
    damage(path, how)
    with pytest.raises(LedgerCorrupt, match=r"index\.sqlite3 .*reindex"):
        JournalStore(data)
    assert len(list((data / "ledger").glob("*/alive.lock"))) == 2
    report = reindex(data)
    assert rows(data) == before
    if how != "gone":
        assert Path(report.aside).exists()
    store = JournalStore(data)
    assert list(store.events("run_a_3")) == story("run_a_3", key="a")
    store.close()


def test_rebuilding_a_damaged_file_rescues_what_it_can_of_accounts(data: Path) -> None:
    """Rows of accounts that can still be read are taken over into the new file."""
    path = index_path(data)
    with opened(data) as connection:
        migrate(connection)
        connection.execute("INSERT INTO spending (key, period, spent) VALUES ('k', 'total', 5)")
        number = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = bytearray(path.read_bytes())
    whole[(number - 1) * 4096 : number * 4096] = b"\xff" * 4096
    path.write_bytes(whole)
    with pytest.raises(LedgerCorrupt):
        JournalStore(data)
    assert reindex(data).rescued["spending"] == 1
    with opened(data) as connection:
        assert connection.execute("SELECT spent FROM spending").fetchone()[0] == 5


def test_a_damaged_file_in_use_is_not_put_aside(data: Path) -> None:
    """While a process still works with the damaged file, its accounts must not go on without it."""
    store = JournalStore(data, index_seconds=NEVER)
    damage(index_path(data), "text")
    with pytest.raises(LedgerBusy, match="stop every gateway"):
        reindex(data)
    store.close()
    assert index_path(data).exists()


def test_a_file_of_a_newer_version_is_left_alone(data: Path) -> None:
    """Tables that this version does not know are not touched."""
    with opened(data) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(LedgerUnavailable, match="newer"):
        JournalStore(data)


def test_reindexing_an_empty_folder_says_so(tmp_path: Path) -> None:
    """Without journals there is nothing to build from."""
    with pytest.raises(LedgerCorrupt, match="no journals"):
        reindex(tmp_path)


def test_an_archive_of_nothing_is_empty(tmp_path: Path) -> None:
    """Reading a folder in which nothing was ever recorded finds nothing, and makes nothing."""
    archive = Archive(tmp_path)
    assert archive.runs() == []
    with pytest.raises(RunNotFound):
        archive.events("run_a")
    assert list(tmp_path.iterdir()) == []


def test_content_that_is_not_what_was_recorded_is_not_given_out(data: Path) -> None:
    """Reading a run whose text was changed on disk raises and names the file."""
    path = data / "ledger" / "a" / "content-000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"What is run_a_0?", b"What is run_a_1?"))
    archive = Archive(data)
    with pytest.raises(LedgerCorrupt, match="content-000001"):
        archive.events("run_a_0")
    assert list(archive.events("run_a_1")) == story("run_a_1", key="a")
    archive.close()


def test_how_long_answers_usually_are_is_told_for_each_worker_and_role(data: Path) -> None:
    """Means over the last attempts that were answered, the commonest first."""
    with opened(data) as connection:
        connection.execute("DELETE FROM attempts")
        made = [
            *(("a", "solver", "answered", 10 + n, 1.0) for n in range(3)),
            ("a", "verifier", "answered", 2, 0.5),
            ("a", "verifier", "timeout", 90, 60.0),
            ("b", "solver", None, None, None),
        ]
        for n, row in enumerate(made):
            connection.execute(
                "INSERT INTO attempts (run, at, attempt, worker, role, outcome, output, seconds) "
                "VALUES (?, '0', 1, ?, ?, ?, ?, ?)",
                (f"run_{n}", *row),
            )
        assert usual(connection) == (
            Usual("a", "solver", 11.0, 1.0, 3),
            Usual("a", "verifier", 2.0, 0.5, 1),
        )
        assert usual(connection, most=3) == (Usual("a", "verifier", 2.0, 0.5, 1),)
