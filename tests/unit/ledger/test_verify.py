import random
import shutil
from pathlib import Path

import pytest

from stretto.errors import LedgerCorrupt
from stretto.ledger.checkpoints import Mark
from stretto.ledger.events import Scored
from stretto.ledger.files import content_name, record_name
from stretto.ledger.journal import JournalStore
from stretto.ledger.verify import Report, verify
from tests.ledger_events import POOLED, story

CONTENT = content_name(1)


def write(data: Path, process: str, runs: int, segment_bytes: int = 9000) -> None:
    """A chain of several segments of records and of contents, closed in order."""
    store = JournalStore(
        data, process=process, segment_bytes=segment_bytes, checkpoint_every=10, index_seconds=9
    )
    store.append([POOLED])
    for number in range(runs):
        events = story(f"run_{process}_{number}")
        store.append(events[:3])
        store.append(events[3:])
    store.append([Scored(run="run_elsewhere", time=1.0, score=1.0, content="fine")])
    store.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with three whole chains, one of which has an erased run."""
    data = tmp_path_factory.mktemp("original")
    for process in ("a", "b"):
        write(data, process, 12)
    eraser = JournalStore(data, process="c", index_seconds=9)
    eraser.erase("run_a_3")
    eraser.close()
    return data


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(original, tmp_path / "data"))


def lines(path: Path) -> list[bytes]:
    """The lines of a file, with their ends."""
    return path.read_bytes().splitlines(keepends=True)


def named(report: Report, path: Path, line: int) -> bool:
    """Whether a problem is reported at that line (from 1) of that file."""
    return any(
        (p.process, p.file) == (path.parent.name, path.name) and p.line == line for p in report.problems
    )


def test_an_untouched_folder_is_whole(original: Path) -> None:
    """Several segments, several processes, an erased run: no problem, no note, everything counted."""
    report = verify(original)
    assert report.problems == ()
    assert report.notes == ()
    assert report.ok
    assert report.chains == 3
    assert report.erased == 2
    assert report.contents == 2 * (12 * 2 + 1)
    assert report.records == sum(len(lines(path)) for path in original.glob("ledger/*/0*.jsonl"))
    assert len(list(original.glob("ledger/a/0*.jsonl"))) > 2
    assert len(list(original.glob("ledger/a/content-0*.jsonl"))) > 1


def edit(kind: str, rows: list[bytes], at: int, dice: random.Random) -> list[int]:
    """Make one edit to lines at or from `at`; returns the lines (from 0) at which it may rightly be reported."""
    row = rows[at]
    spot = dice.randrange(len(row) - 1)
    match kind:
        case "flip":
            rows[at] = row[:spot] + bytes([row[spot] ^ (1 << dice.randrange(7))]) + row[spot + 1 :]
        case "grow":
            rows[at] = row[:spot] + bytes([dice.randrange(33, 127)]) + row[spot:]
        case "shrink":
            rows[at] = row[:spot] + row[spot + 1 :]
        case "drop":
            del rows[at]
        case "swap":
            rows[at], rows[at + 1] = rows[at + 1], row
            return [at, at + 1]
        case "repeat":
            rows.insert(at, rows[dice.randrange(at + 1)])
            return [at, at + 1]
        case "insert":
            rows.insert(at, row.replace(b"run_", b"run_0", 1))
            return [at, at + 1]
        case "join":
            rows[at] = row[:-1]
            return [at, at + 1]
    return [at]


@pytest.mark.parametrize("kind", ["flip", "grow", "shrink", "drop", "swap", "repeat", "insert", "join"])
@pytest.mark.parametrize("files", ["records", "contents"])
def test_every_edit_of_a_line_is_found_at_its_place(data: Path, kind: str, files: str) -> None:
    """Forty random single edits of each kind to records and to contents, first and last lines included: all are named."""
    dice = random.Random(f"{kind} {files}")
    pattern = "ledger/?/0*.jsonl" if files == "records" else "ledger/?/content-0*.jsonl"
    paths = sorted(path for path in data.glob(pattern) if path.stat().st_size)
    for _ in range(40):
        path = dice.choice(paths)
        before = path.read_bytes()
        rows = lines(path)
        last = len(rows) - 1
        at = dice.choice([0, last, dice.randrange(len(rows)), dice.randrange(len(rows))])
        if kind in ("swap", "join"):
            at = min(at, last - 1)
        if at < 0:
            continue
        places = edit(kind, rows, at, dice)
        path.write_bytes(b"".join(rows))
        if path.read_bytes() != before:
            report = verify(data)
            spots = [(path, place + 1) for place in places]
            if kind == "drop" and at == last:  # missed where the next segment begins
                spots += [(p, 1) for p in paths[paths.index(path) + 1 :][:1]]
            assert any(named(report, *spot) for spot in spots), (kind, path, at, report.problems)
        path.write_bytes(before)
    assert verify(data).ok


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_cut_tail_is_found(data: Path, count: int) -> None:
    """Removing the last records of a chain, together with their contents or not, is named at the end of the file."""
    path = sorted(data.glob("ledger/b/0*.jsonl"))[-1]
    rows = lines(path)
    kept = max(1, len(rows) - count)
    path.write_bytes(b"".join(rows[:kept]))
    assert named(verify(data), path, kept + 1)


def test_half_a_last_line_of_a_closed_chain_is_found(data: Path) -> None:
    """A process that ended in order leaves whole lines: anything else was cut."""
    path = sorted(data.glob("ledger/b/0*.jsonl"))[-1]
    path.write_bytes(path.read_bytes()[:-9])
    report = verify(data)
    assert [p.file for p in report.problems] == [path.name]


@pytest.mark.parametrize("number", [1, 2, 99])
@pytest.mark.parametrize("name", [record_name, content_name])
def test_a_missing_segment_is_found(data: Path, number: int, name: object) -> None:
    """The first, a middle and the last segment of records or contents cannot be removed unseen."""
    assert callable(name)
    pattern = "0*.jsonl" if name is record_name else "content-0*.jsonl"
    paths = [path for path in sorted(data.glob(f"ledger/a/{pattern}")) if path.stat().st_size]
    path = paths[min(number, len(paths)) - 1]
    path.unlink()
    assert {p.process for p in verify(data).problems} == {"a"}


def test_a_missing_chain_is_found(data: Path) -> None:
    """A whole folder that is gone is named, with how much it held."""
    shutil.rmtree(data / "ledger" / "b")
    (problem,) = verify(data).problems
    assert str(problem).startswith("b/")
    assert "the whole chain is gone" in problem.what


def test_a_chain_under_another_name_is_found(data: Path) -> None:
    """A chain that was copied or renamed is not a second chain."""
    shutil.copytree(data / "ledger" / "b", data / "ledger" / "d")
    report = verify(data)
    assert {p.process for p in report.problems} == {"d"}


def test_a_chain_that_was_rewritten_is_found(data: Path, tmp_path: Path) -> None:
    """A whole, valid, but other chain in the place of the real one does not match the checkpoints."""
    write(tmp_path / "other", "b", 12)
    shutil.rmtree(data / "ledger" / "b")
    shutil.copytree(tmp_path / "other" / "ledger" / "b", data / "ledger" / "b")
    assert {p.process for p in verify(data).problems} == {"b"}


def test_an_edited_checkpoint_is_found(data: Path) -> None:
    """Checkpoints are a chain too, and later chains bear witness to its end."""
    path = data / "ledger" / "checkpoints.jsonl"
    rows = lines(path)
    for edited in ([*rows[:2], *rows[3:]], rows[:2], [rows[0].replace(b'"by":"a"', b'"by":"x"'), *rows[1:]]):
        path.write_bytes(b"".join(edited))
        assert not verify(data).ok
    path.unlink()
    assert not verify(data).ok


def test_a_witnessed_mark_proves_all_before_it(data: Path, original: Path) -> None:
    """With a mark that was kept elsewhere, a wholly consistent false history is found."""
    mark = verify(original).mark
    assert verify(original, witness=mark).ok
    shutil.rmtree(data)
    for process in ("a", "b", "c"):
        write(data, process, 12)
    assert verify(data).ok
    assert not verify(data, witness=mark).ok
    assert not verify(original, witness=Mark(mark.number, "0" * 64)).ok


def test_an_erasure_that_nobody_recorded_is_found(data: Path) -> None:
    """Filler in the place of a content line is only right where a record says that the run was erased."""
    path = data / "ledger" / "a" / CONTENT
    filler = next(row for row in lines(path) if row.startswith(b'{"erased"'))
    rows = lines(path)
    at = 2
    rows[at] = filler[:11] + b"." * (len(rows[at]) - 14) + filler[-3:]
    path.write_bytes(b"".join(rows))
    report = verify(data)
    assert named(report, path, at + 1)
    assert len(report.problems) == 1


def test_a_problem_names_run_and_step(data: Path) -> None:
    """The address of a problem is file, line, run and step."""
    path = data / "ledger" / "a" / record_name(1)
    rows = lines(path)
    at = next(n for n, row in enumerate(rows) if b'"kind":"answered"' in row)
    rows[at] = rows[at].replace(b'"cost":320', b'"cost":300')
    path.write_bytes(b"".join(rows))
    (problem,) = verify(data).problems
    assert str(problem) == f"a/000001.jsonl:{at + 1}: this line was edited (run run_a_0, step 1)"


def test_a_folder_can_be_verified_while_it_is_written(tmp_path: Path) -> None:
    """Records and contents that come while others are checked, also in files that were looked at before, are no problem."""
    store = JournalStore(tmp_path, process="p", segment_bytes=400_000, index_seconds=9)
    for number in range(230):
        store.append(story(f"run_{number}"))

    def go_on(checked: int) -> None:
        store.append(story(f"run_later_{checked}"))

    report = verify(tmp_path, progress=go_on)
    assert report.ok, report.problems
    assert report.notes == ()
    assert report.records == 230 * 5 + 2 + 5
    store.close()


def test_a_folder_without_a_ledger_cannot_be_verified(tmp_path: Path) -> None:
    """There is nothing to verify, and that is said, not taken for success."""
    with pytest.raises(LedgerCorrupt, match="no ledger"):
        verify(tmp_path)
