import asyncio
import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stretto.errors import LedgerBusy, LedgerCorrupt, LedgerUnavailable, RunNotFound
from stretto.ledger.events import Answered, Asked, Finished, Opened, Resumed
from stretto.ledger.files import record_name, segments
from stretto.ledger.journal import JournalStore, SlabUse, slab_use
from stretto.ledger.process import alive, hold, process_id, processes
from stretto.ledger.verify import verify
from stretto.types import Request
from tests.ledger_events import SECRET, story


class Disk:
    """The write call of a disk that can be full or broken."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.error = 0
        self.calls = 0

    def write(self, descriptor: int, data: bytes) -> int:
        """Write as much as there is room for."""
        self.calls += 1
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if self.room is not None and len(data) > self.room:
            written = os.write(descriptor, data[: self.room])
            self.room = 0
            return written
        return os.write(descriptor, data)


@pytest.mark.parametrize("full", ["content", "records", "error"])
def test_a_full_disk_refuses_and_recovers_by_itself(tmp_path: Path, full: str) -> None:
    """What the disk does not take is refused whole; when there is room again, the next append succeeds; the chain is valid."""
    disk = Disk()
    store = JournalStore(tmp_path, process="p", write=disk.write)
    one, two, three = story("run_a"), story("run_b"), story("run_c")
    store.append(one)
    if full == "error":
        disk.error = errno.ENOSPC
    else:
        disk.room = 100 if full == "content" else 700  # the contents of a story take 653 bytes
    for _ in range(3):
        with pytest.raises(LedgerUnavailable, match=r"p/(content-)?000001.jsonl"):
            store.append(two)
        assert store.trouble
    with pytest.raises(RunNotFound):
        store.events("run_b")
    assert list(store.events("run_a")) == one
    disk.room, disk.error = None, 0
    store.append(three)
    store.append(two)
    assert not store.trouble
    assert list(store.events("run_b")) == two
    store.close()
    report = verify(tmp_path)
    assert report.ok
    assert report.notes == ()


def test_a_batch_takes_one_call_for_records_and_one_for_contents(tmp_path: Path) -> None:
    """The hot path makes two writes for a batch with texts, one for a batch without."""
    disk = Disk()
    store = JournalStore(tmp_path, write=disk.write)
    before = disk.calls
    store.append(story("run_a"))
    assert disk.calls - before == 2
    store.append(story("run_b")[1:3])
    assert disk.calls - before == 3
    store.close()


def test_content_is_not_in_the_chain(tmp_path: Path) -> None:
    """Records hold no text and no secret; with `content="digest"` nothing on disk does."""
    for content in ("full", "digest"):
        store = JournalStore(tmp_path / content, process="p", content=content)  # type: ignore[arg-type]
        store.append(story("run_a"))
        store.close()
        written = {path.name: path.read_bytes() for path in (tmp_path / content).rglob("*") if path.is_file()}
        holders = {name for name, data in written.items() if b"What is" in data or SECRET.encode() in data}
        assert holders == ({"content-000001.jsonl"} if content == "full" else set())


def test_segments_roll_and_the_chain_goes_on(tmp_path: Path) -> None:
    """Full segments are followed by new ones; runs that span them read whole."""
    store = JournalStore(tmp_path, process="p", segment_bytes=3000)
    stories = {f"run_{n}": story(f"run_{n}") for n in range(9)}
    for step in range(5):
        for events in stories.values():
            store.append(events[step : step + 1])
    for run, events in stories.items():
        assert list(store.events(run)) == events
    store.close()
    assert len(segments(tmp_path / "ledger" / "p")) > 3
    assert verify(tmp_path).ok


def test_a_segment_that_cannot_begin_refuses_and_recovers(tmp_path: Path) -> None:
    """When the disk is full just as a segment ends, nothing is lost and the chain goes on later."""
    disk = Disk()
    store = JournalStore(tmp_path, process="p", segment_bytes=1000, write=disk.write)
    store.append(story("run_a"))
    disk.room = 10
    with pytest.raises(LedgerUnavailable):
        store.append(story("run_b"))
    disk.room = None
    store.append(story("run_b"))
    assert list(store.events("run_b")) == story("run_b")
    store.close()
    assert verify(tmp_path).ok


def test_power_durability_waits_for_the_disk_and_shares_it(tmp_path: Path) -> None:
    """Nobody's wait ends before an fdatasync that began after their write; those who wait meanwhile share the next one."""
    let_go, started, calls = threading.Semaphore(0), threading.Semaphore(0), []

    def slow(descriptor: int) -> None:
        calls.append(descriptor)
        started.release()
        assert let_go.acquire(timeout=10)
        os.fdatasync(descriptor)

    store = JournalStore(tmp_path, durability="power", content="digest", sync=slow)

    async def go() -> None:
        first = store.append(story("run_a"))
        assert first is not None
        await asyncio.to_thread(started.acquire)
        others = [store.append(story(f"run_{n}")) for n in range(50)]
        assert not first.done()
        let_go.release()
        await first
        assert not any(future.done() for future in others if future)
        await asyncio.to_thread(started.acquire)
        let_go.release()
        await asyncio.gather(*(future for future in others if future))
        assert len(calls) == 2

    asyncio.run(go())
    store.close()


def test_a_failed_fdatasync_refuses_everything_after(tmp_path: Path) -> None:
    """After a failed fdatasync nobody knows what is on disk: everyone who waits is told, and nothing is acknowledged any more."""

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store = JournalStore(tmp_path, durability="power", sync=broken)

    async def go() -> None:
        waits = [store.append(story("run_a")), store.append(story("run_b"))]
        for wait in waits:
            assert wait is not None
            with pytest.raises(LedgerUnavailable, match="restart"):
                await wait

    asyncio.run(go())
    assert "restart" in store.trouble
    with pytest.raises(LedgerUnavailable, match="restart"):
        store.append(story("run_c"))
    store.close()


def test_power_durability_outside_an_event_loop_waits_at_once(tmp_path: Path) -> None:
    """A script without an event loop gets the same durability, in the call."""
    synced: list[int] = []
    store = JournalStore(tmp_path, durability="power", sync=synced.append)
    assert store.append(story("run_a")) is None
    assert len(synced) == 2
    store.close()


def test_a_deleted_journal_stops_the_ledger(tmp_path: Path) -> None:
    """Records that would go into a file that nobody can find again are refused."""
    turned = threading.Event()
    store = JournalStore(tmp_path, process="p", index_seconds=0.001)
    (tmp_path / "ledger" / "p" / record_name(1)).unlink()
    for _ in range(2000):
        if store.trouble or turned.wait(0.005):
            break
    with pytest.raises(LedgerUnavailable, match="deleted"):
        store.append(story("run_a"))
    store.close()


def test_after_close_nothing_is_recorded(tmp_path: Path) -> None:
    """A closed store refuses; closing twice is harmless; its process no longer lives."""
    store = JournalStore(tmp_path, process="p")
    assert alive(tmp_path, "p")
    store.close()
    store.close()
    assert not alive(tmp_path, "p")
    with pytest.raises(LedgerUnavailable, match="closed"):
        store.append(story("run_a"))


def test_a_process_name_is_used_once(tmp_path: Path) -> None:
    """Nobody goes on with the chain of another start, alive or dead."""
    store = JournalStore(tmp_path, process="p")
    with pytest.raises(LedgerBusy, match="lives"):
        JournalStore(tmp_path, process="p")
    store.close()
    with pytest.raises(LedgerBusy, match="earlier start"):
        JournalStore(tmp_path, process="p")
    assert not alive(tmp_path, "p")


def test_process_names_are_unique_and_sort_by_start() -> None:
    """Two starts never share a name, and a name is one path component."""
    names = [process_id() for _ in range(50)]
    assert len(set(names)) == 50
    assert all(Path(name).name == name for name in names)
    assert [name[:13] for name in names] == sorted(name[:13] for name in names)


def test_a_sign_of_life_is_seen_in_the_same_process(tmp_path: Path) -> None:
    """Whether a process lives is right also when asked by that process; unknown names are dead."""
    assert processes(tmp_path) == []
    with hold(tmp_path, "p"):
        assert alive(tmp_path, "p")
        assert alive(tmp_path, "p")
        assert not alive(tmp_path, "q")
    assert not alive(tmp_path, "p")
    assert processes(tmp_path) == ["p"]


def test_a_run_taken_up_by_another_process_reads_as_one(tmp_path: Path) -> None:
    """What two processes wrote of a run comes back in order, whatever their clocks say, and can be erased as one."""
    events = story("run_a", time=1000.0)
    first = JournalStore(tmp_path, process="b")
    first.append(events[:3])
    first.close()
    second = JournalStore(tmp_path, process="a")  # sorts before the first; its clock is behind
    rest = [Resumed(run="run_a", time=990.0, process="a", secret=SECRET), *story("run_a", time=990.0)[3:]]
    second.append(rest)
    assert list(second.events("run_a")) == [*events[:3], *rest]
    assert second.runs()[0].status == "finished"
    assert second.erase("run_a") == 3
    opened = second.events("run_a")[0]
    assert isinstance(opened, Opened)
    assert opened.content is None
    second.close()
    assert verify(tmp_path).ok


def test_what_a_process_did_with_its_slabs(tmp_path: Path) -> None:
    """Settled costs and unknown reservations, by slab, of one process only; attempts without a slab do not count."""
    ask, answer = story("run_a", key="k", slab="s1")[2:4]
    assert isinstance(ask, Asked)
    assert isinstance(answer, Answered)

    def attempt(number: int, slab: str) -> tuple[Asked, Answered]:
        changes = {"attempt": number, "slab": slab}
        fields = {n: getattr(ask, n) for n in ask.__slots__} | changes
        return Asked(**fields), Answered(**({n: getattr(answer, n) for n in answer.__slots__} | changes))

    one = JournalStore(tmp_path, process="p", segment_bytes=2000)
    for number, slab in enumerate(["s1", "s1", "s2", ""]):
        one.append(attempt(number, slab))
    one.append(attempt(8, "s1")[:1])
    one.append(attempt(9, "s3")[:1])
    other = JournalStore(tmp_path, process="q")
    other.append(attempt(8, "s1"))
    assert slab_use(tmp_path, "p") == {"s1": SlabUse(640, 500), "s2": SlabUse(320, 0), "s3": SlabUse(0, 500)}
    assert slab_use(tmp_path, "nobody") == {}
    one.close()
    other.close()


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A path that is no folder is named."""
    (tmp_path / "data").write_text("x")
    with pytest.raises(LedgerCorrupt, match="data"):
        JournalStore(tmp_path / "data")


def test_nobody_else_may_read_the_record(tmp_path: Path) -> None:
    """Files that hold texts are their owner's only."""
    store = JournalStore(tmp_path / "data", process="p")
    store.append(story("run_a"))
    store.close()
    modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "data").rglob("*.jsonl")}
    assert set(modes.values()) == {0}
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


# --- processes that are killed -----------------------------------------------------------------------------------

WRITER = textwrap.dedent(
    """
    import sys
    from stretto.ledger.journal import JournalStore
    from tests.ledger_events import story
    store = JournalStore(
        sys.argv[1], process=sys.argv[2], segment_bytes=int(sys.argv[3]), checkpoint_every=20, index_seconds=0.002
    )
    print("ready", flush=True)
    number = 0
    while True:
        run = f"run_{sys.argv[2]}_{number}"
        events = story(run, slab="s1")
        store.append(events[:3])
        store.append(events[3:])
        sys.stdout.write(run + "\\n")
        sys.stdout.flush()
        number += 1
    """
)


def killed(data: Path, process: str, when: Callable[[int], bool], segment_bytes: int = 1 << 26) -> list[str]:
    """Let a process write until `when(acknowledged)`, kill it with -9; returns the runs it acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data), process, str(segment_bytes)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    count = 0
    lines: list[bytes] = [child.stdout.readline()]
    while not when(count):
        lines.append(child.stdout.readline())
        count += 1
    os.kill(child.pid, signal.SIGKILL)
    lines += child.stdout.readlines()
    child.stdout.close()
    child.wait()
    return [line.decode().strip() for line in lines[1:] if line.endswith(b"\n")]


@pytest.mark.parametrize("after", [0, 37, 211])
def test_what_was_acknowledged_before_a_kill_is_there(tmp_path: Path, after: int) -> None:
    """After kill -9 every acknowledged run reads whole, the chain verifies, the index catches up, and the next start is clean."""
    acknowledged = killed(tmp_path, "victim", lambda count: count >= after, 60_000)
    assert not alive(tmp_path, "victim")
    store = JournalStore(tmp_path, process="next", index_seconds=0.01)
    for run in acknowledged:
        assert list(store.events(run)) == story(run, slab="s1")
    assert len(store.runs(10**6)) >= len(acknowledged)
    use = slab_use(tmp_path, "victim").get("s1", SlabUse())
    assert use.settled >= 320 * len(acknowledged)
    assert use.unknown in (0, 500)
    store.close()
    report = verify(tmp_path)
    assert report.ok, report.problems


@pytest.mark.parametrize("name", ["000001.jsonl", "content-000001.jsonl"])
def test_half_a_line_of_a_killed_process_is_noted_not_blamed(tmp_path: Path, name: str) -> None:
    """A torn last line is a trace of the kill: reported as such, read past, and never taken for tampering."""
    acknowledged = killed(tmp_path, "victim", lambda count: count >= 3)
    path = tmp_path / "ledger" / "victim" / name
    following = (path.parent / record_name(1)).read_bytes().count(b"\n")
    with open(path, "ab") as file:
        file.write(b'{"seq":%d,"run":"run_torn","sec' % following)
    report = verify(tmp_path)
    assert report.ok, report.problems
    assert ("victim", path.name) in [(note.process, note.file) for note in report.notes]
    store = JournalStore(tmp_path)
    assert list(store.events(acknowledged[0])) == story(acknowledged[0], slab="s1")
    with pytest.raises(RunNotFound):
        store.events("run_torn")
    store.close()


def test_cutting_the_end_of_a_killed_process_is_found_once_anybody_started(tmp_path: Path) -> None:
    """The next start lists how far the dead chain went; what is cut off after that is missed."""
    killed(tmp_path, "victim", lambda count: count >= 3)
    JournalStore(tmp_path, process="next").close()
    assert verify(tmp_path).ok
    path = tmp_path / "ledger" / "victim" / record_name(1)
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:-1]))
    assert [(p.process, p.line) for p in verify(tmp_path).problems if p.file == path.name] == [
        ("victim", len(rows))
    ]


def test_an_interrupted_run_is_listed_as_that(tmp_path: Path) -> None:
    """A run whose process died is interrupted, not running; its lost attempt stays charged at what was reserved."""
    dead = JournalStore(tmp_path, process="dead")
    dead.append(story("run_a")[:3])
    assert dead.runs()[0].status == "running"
    dead.close()
    store = JournalStore(tmp_path, process="next")
    assert store.runs()[0].status == "interrupted"
    assert not store.live("run_a")
    store.append([Finished(run="run_b", time=1.0)])
    assert [found.run for found in store.runs()] == ["run_a"]
    store.append(
        [Opened(run="run_b", time=2.0, model="m", policy="p", version="v", content=Request(messages=()))]
    )
    assert [found.run for found in store.runs()] == ["run_b", "run_a"]
    store.close()
