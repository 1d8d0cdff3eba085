"""Whether what is on disk is what was written: every record, content line and checkpoint, and where not.

What this finds: any record or content line that was changed, removed, added or moved; a chain or a tail of one that is gone, as
far as a checkpoint lists it (at the start and end of every process, and every thousand records between). Hashes bear no
signature: who can write the whole folder can write a whole false history. Keep `Report.mark` elsewhere and pass it as `witness`,
and nothing before it can be replaced either.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from stretto.errors import LedgerCorrupt
from stretto.ledger.checkpoints import Mark, checkpoints_path
from stretto.ledger.codec import digest, erased_line
from stretto.ledger.files import FIRST, content_name, record_name, segments
from stretto.ledger.process import alive, processes

__all__ = ["Problem", "Report", "verify"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written, and where: a line (from 1) of a file, and the run and step it is about."""

    process: str
    file: str
    line: int
    what: str
    run: str = ""
    at: str = ""

    def __str__(self) -> str:
        about = f" (run {self.run}{f', step {self.at}' if self.at else ''})" if self.run else ""
        return f"{self.process}/{self.file}:{self.line}: {self.what}{about}".removeprefix("/")


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found. `notes` are traces of killed processes: not tampering, and nothing that was acknowledged."""

    chains: int
    records: int
    contents: int
    erased: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    mark: Mark
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything is as it was written."""
        return not self.problems


def verify(
    data: str | os.PathLike[str],
    *,
    witness: Mark | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Check everything in a data folder, also while processes write to it. `witness`: a `Report.mark` that was kept elsewhere.

    `progress` is told of records as they are checked. Raises `LedgerCorrupt` when there is no ledger at all.
    """
    begun = time.monotonic()
    if not (Path(data) / "ledger").is_dir():
        raise LedgerCorrupt(f"{Path(data) / 'ledger'} does not exist: there is no ledger in this folder")
    found = _Findings()
    heads, marks = _checkpoints(data, found)
    anchors: list[tuple[Problem, int, str]] = []
    names = processes(data)
    for process in names:
        living = alive(
            data, process
        )  # looked up first: a chain that is at rest now has all it will ever have
        _Chain(Path(data) / "ledger" / process, living, heads.get(process, {}), found, anchors).check(
            progress
        )
    for process in sorted(set(heads) - set(names)):
        found.problem(process, "", 0, f"the whole chain is gone; it had {max(heads[process]) + 1} records")
    later = _checkpoints(data, _Findings())[1]
    for problem, number, hash_ in anchors:
        if number and later.get(number) != hash_:
            found.problems.append(problem)
    if witness is not None and witness.number and marks.get(witness.number) != witness.hash:
        found.problem(
            "", "checkpoints.jsonl", witness.number, "this is not the checkpoint that was witnessed"
        )
    for run, problems in found.fillers.items():
        if run not in found.erasures:
            found.problems += problems
    mark = Mark(max(marks), marks[max(marks)]) if marks else Mark()
    return Report(
        len(names),
        found.records,
        found.contents,
        found.erased,
        tuple(found.problems),
        tuple(found.notes),
        mark,
        time.monotonic() - begun,
    )


@dataclass(slots=True)
class _Findings:
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    records: int = 0
    contents: int = 0
    erased: int = 0
    erasures: set[str] = field(default_factory=set)
    fillers: dict[str, list[Problem]] = field(default_factory=dict)

    def problem(self, process: str, file: str, line: int, what: str, run: str = "", at: str = "") -> None:
        """Note something that is wrong."""
        self.problems.append(Problem(process, file, line, what, run, at))

    def note(self, process: str, file: str, line: int, what: str, run: str = "", at: str = "") -> None:
        """Note something that is left over."""
        self.notes.append(Problem(process, file, line, what, run, at))


class _Line(NamedTuple):
    """A line of a chain. `sequence` is -1 when it is no record."""

    file: str
    number: int
    sequence: int
    prev: str
    hash: str
    record: dict[str, Any]


_RUN = re.compile(rb'"run":"([^"]*)"')
_AT = re.compile(rb'"at":"([^"]*)"')


def _line(file: str, number: int, raw: bytes, counter: str) -> _Line:
    hash_ = hashlib.sha256(raw).hexdigest()
    try:
        record = orjson.loads(raw)
        return _Line(file, number, int(record[counter]), record["prev"], hash_, record)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        told = {
            name: m[1].decode(errors="replace")
            for name, m in (("run", _RUN.search(raw)), ("at", _AT.search(raw)))
            if m
        }
        return _Line(file, number, -1, "", hash_, told)


# --- a chain of lines, each with the hash of the one before ---------------------------------------------------------


class _Links:
    """Follows a chain line by line, and tells which line is to blame where it breaks.

    A broken link accuses two lines. The second one is cleared when its own successor, or a checkpoint, confirms its hash.
    """

    def __init__(
        self, process: str, start: int, heads: dict[int, str], found: _Findings, noun: str = "record"
    ) -> None:
        self.next = start
        self._process = process
        self._heads = heads
        self._found = found
        self._noun = noun
        self._before: _Line | None = None
        self._hash: str | None = (
            FIRST  # of the line before; None: that line is to blame already, anything may follow
        )

    def take(self, line: _Line, following: _Line | None) -> bool:
        """Whether `line` is the next link (even if it was edited), not something foreign."""
        linked = line.prev == self._hash
        if line.sequence == self.next and (linked or self._hash is None):
            return self._accept(line)
        follows = following is not None and following.sequence == self.next and following.prev == self._hash
        if line.sequence == -1 or (linked and line.sequence != self.next):
            self._blame(line, "this line was inserted or damaged" if follows else "this line was edited")
            return False if follows else self._skip(line)
        if line.sequence == self.next:
            return self._broken(line, following)
        if line.sequence > self.next:
            missing = line.sequence - self.next
            what = f"{missing} {self._noun}{'s are' if missing > 1 else ' is'} missing before this line"
            self._blame(
                line, f"{what} (number {self.next}{f' to {line.sequence - 1}' if missing > 1 else ''})"
            )
            return self._accept(line)
        self._blame(
            line, f"this line is out of place, repeated or inserted (it says it is number {line.sequence})"
        )
        return False

    def end(self) -> None:
        """The chain has no more lines: compare with what the checkpoints list."""
        if self._heads and (most := max(self._heads)) >= self.next:
            last = self._before
            self._found.problem(
                self._process,
                last.file if last else record_name(1),
                last.number + 1 if last else 1,
                f"the end is cut off: {most + 1 - self.next} more were listed by a checkpoint",
            )

    def _broken(self, line: _Line, following: _Line | None) -> bool:
        confirmed = self._heads.get(line.sequence) == line.hash or (
            following is not None and following.sequence == line.sequence + 1 and following.prev == line.hash
        )
        if confirmed and self._before is not None:
            self._blame(self._before, "this line was edited")
            return self._accept(line)
        self._blame(line, "this line was edited")
        return self._skip(line)

    def _accept(self, line: _Line) -> bool:
        self._before, self._hash, self.next = line, line.hash, line.sequence + 1
        if (listed := self._heads.get(line.sequence)) is not None and listed != line.hash:
            self._blame(line, "this line was edited: a checkpoint lists it otherwise")
            self._hash = None
        return True

    def _skip(self, line: _Line) -> bool:
        self._before, self._hash = line, None
        self.next += 1
        return True

    def _blame(self, line: _Line, what: str) -> None:
        run, at = line.record.get("run", ""), line.record.get("at", "")
        self._found.problem(self._process, line.file, line.number, what, str(run), str(at))


def _ahead(lines: Iterator[_Line]) -> Iterator[tuple[_Line, _Line | None]]:
    """Each line with the one after it."""
    before: _Line | None = None
    for line in lines:
        if before is not None:
            yield before, line
        before = line
    if before is not None:
        yield before, None


def _checkpoints(
    data: str | os.PathLike[str], found: _Findings
) -> tuple[dict[str, dict[int, str]], dict[int, str]]:
    """The heads that checkpoints list, by process and number; and the hash of each checkpoint, by its number."""
    path = checkpoints_path(data)
    heads: dict[str, dict[int, str]] = {}
    marks: dict[int, str] = {}
    try:
        raw = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        found.problem("", path.name, 0, "the checkpoints are gone")
        return heads, marks
    if raw.pop():
        found.note("", path.name, len(raw) + 1, "half a line, of a process that was killed")
    links = _Links("", 1, {}, found, "checkpoint")
    lines = (_line(path.name, number, text, "number") for number, text in enumerate(raw, 1))
    for line, following in _ahead(lines):
        if links.take(line, following) and line.sequence != -1:
            marks[line.sequence] = line.hash
            for head in line.record.get("heads", ()):
                if (told := _shaped(head, str, int, str)) is not None:
                    heads.setdefault(told[0], {})[told[1]] = told[2]
    return heads, marks


def _shaped(value: Any, *kinds: type) -> tuple[Any, ...] | None:
    """A list of values of these types, or `None`: a line that was edited may say anything."""
    if isinstance(value, list) and len(value) == len(kinds) and all(map(isinstance, value, kinds)):
        return tuple(value)
    return None


# --- one process's chain, and what it keeps apart ------------------------------------------------------------------


class _Chain:
    """The records of one process."""

    def __init__(
        self,
        folder: Path,
        living: bool,
        heads: dict[int, str],
        found: _Findings,
        anchors: list[tuple[Problem, int, str]],
    ) -> None:
        self._folder = folder
        self._process = folder.name
        self._living = living
        self._heads = heads
        self._found = found
        self._anchors = anchors
        self._contents = _Contents(folder, found)
        self._torn: tuple[str, int] | None = None
        self._last = ""

    def check(self, progress: Callable[[int], None] | None) -> None:
        """Check every line of it."""
        links = _Links(self._process, 0, self._heads, self._found)
        count, closed = 0, False
        for line, following in _ahead(self._lines()):
            if closed:
                self._problem(line, "this line stands after the end of the chain")
                continue
            if links.take(line, following) and line.sequence != -1:
                closed = line.record.get("kind") == "closed"
                self._look_at(line)
            count += 1
            if progress is not None and count % 1000 == 0:
                progress(1000)
        links.end()
        self._found.records += count
        if self._torn is not None:
            file, number = self._torn
            if closed or file != self._last:
                self._found.problem(self._process, file, number, "this line is cut or was added")
            elif not self._living:
                self._found.note(self._process, file, number, "half a line, of a process that was killed")
        if count > 1 and not self._heads:
            self._found.problem(self._process, record_name(1), 1, "no checkpoint knows of this chain")
        self._contents.end(links.next, open_ended=not closed, living=self._living)

    def _lines(self) -> Iterator[_Line]:
        numbers = segments(self._folder)
        for number in numbers:
            file = self._last = record_name(number)
            raw = (self._folder / file).read_bytes().split(b"\n")
            if raw.pop():
                if self._torn is not None:
                    self._found.problem(self._process, *self._torn, "this line is cut or was added")
                self._torn = file, len(raw) + 1
            for at, text in enumerate(raw, 1):
                yield _line(file, at, text, "seq")

    def _look_at(self, line: _Line) -> None:
        """What a record says beyond its place in the chain."""
        record = line.record
        kind = record.get("kind")
        if kind == "head":
            if (
                record.get("process") != self._process
                or record_name(int(record.get("segment", 0))) != line.file
            ):
                self._problem(line, f"this is a segment of another chain ({record.get('process')})")
            elif mark := record.get("checkpoint"):
                what = "the checkpoints are not those that were there when this was written"
                self._anchors.append((Problem(self._process, line.file, line.number, what), mark[0], mark[1]))
        elif kind == "erased":
            self._found.erasures.add(str(record.get("run", "")))
        if (kept := _shaped(record.get("kept"), int, int, int)) is not None and min(kept) >= 0:
            self._contents.take(record, *kept)

    def _problem(self, line: _Line, what: str) -> None:
        run, at = str(line.record.get("run", "")), str(line.record.get("at", ""))
        self._found.problem(self._process, line.file, line.number, what, run, at)


_CONTENT = re.compile(rb'\{"seq":(\d+),"run":("(?:[^"\\]|\\.)*"),"secret":"([^"\\]*)","content":')


class _Contents:
    """The content lines of one chain, in the order in which its records refer to them.

    Lines are looked for where their record says. When one is not there, it is looked for everywhere else in its file, so that
    something inserted or removed is one problem and not one for each line behind it.
    """

    def __init__(self, folder: Path, found: _Findings) -> None:
        self._folder = folder
        self._found = found
        self._number = 0
        self._data = b""
        self._gone = False
        self._shift = 0
        self._covered = 0  # all before this byte has its record
        self._slipped = False  # the line before was at fault already
        self._where: dict[int, list[int]] | None = None

    def take(self, record: dict[str, Any], number: int, offset: int, length: int) -> None:
        """Check the content line that one record says is at `offset` of segment `number`."""
        if number != self._number:
            self._leave(-1, False, False)
            self._open(number, record)
        self._found.contents += 1
        if self._gone:
            return
        if offset + length > len(self._data):
            self._reload()
        for shift in dict.fromkeys((self._shift, 0)):
            start = offset + shift
            line = self._data[start : start + length] if start >= 0 else b""
            erased = len(line) == length and line == erased_line(length)
            if erased or self._matches(line, record):
                self._settle(start, length, shift)
                if erased:
                    self._erased(record, start)
                return
        for start in self._places().get(record["seq"], ()):
            if self._matches(self._data[start : start + length], record):
                if not self._slipped:
                    self._problem(start, "this content is not where it was written", record)
                self._settle(start, length, start - offset)
                return
        self._problem(offset + self._shift, "this content was edited or removed", record)
        self._slipped = True
        self._covered = max(self._covered, min(offset + self._shift + length, len(self._data)))

    def end(self, following: int, *, open_ended: bool, living: bool) -> None:
        """The chain has no more records; the next would have had the number `following`."""
        if self._number == 0 and (self._folder / content_name(1)).exists():
            self._open(1, None)
        self._leave(following, open_ended, living)
        beyond = self._folder / content_name(self._number + 1)
        if self._number and not open_ended and beyond.exists() and beyond.stat().st_size:
            self._found.problem(self._folder.name, beyond.name, 1, "no record refers to this")

    def _matches(self, line: bytes, record: dict[str, Any]) -> bool:
        match = _CONTENT.match(line)
        return (
            match is not None
            and line[-2:] == b"}\n"
            and int(match[1]) == record["seq"]
            and match[2] == orjson.dumps(record.get("run"))
            and digest(line[match.end() : -2], match[3].decode()) == record.get("digest")
        )

    def _settle(self, start: int, length: int, shift: int) -> None:
        """A line was found at byte `start`. What lies between it and the last one has no record."""
        if start > self._covered and not self._slipped:
            self._problem(self._covered, "this content was inserted, or its record is gone")
        self._covered = max(self._covered, start + length)
        self._shift, self._slipped = shift, False

    def _erased(self, record: dict[str, Any], start: int) -> None:
        self._found.erased += 1
        problem = self._made(start, "this content was erased, and no record says so", record)
        self._found.fillers.setdefault(str(record.get("run", "")), []).append(problem)

    def _open(self, number: int, record: dict[str, Any] | None) -> None:
        self._number, self._shift, self._covered = number, 0, 0
        self._slipped, self._where, self._gone = False, None, False
        try:
            self._data = (self._folder / content_name(number)).read_bytes()
        except FileNotFoundError:
            self._data, self._gone = b"", True
            self._problem(0, "the whole file is gone", record)

    def _reload(self) -> None:
        """What has been added since the file was read, by a process that lives."""
        with open(self._folder / content_name(self._number), "rb") as file:
            file.seek(len(self._data))
            if more := file.read():
                self._data += more
                self._where = None

    def _leave(self, following: int, open_ended: bool, living: bool) -> None:
        """What is left of a file after its last record: of a process that lives or was killed, a batch under way."""
        rest = self._data[self._covered :]
        if not rest or self._slipped:
            return
        match = _CONTENT.match(rest)
        if open_ended and (match is None or int(match[1]) >= following >= 0):
            if not living:
                note = self._made(self._covered, "content without a record, of a process that was killed")
                self._found.notes.append(note)
            return
        self._problem(self._covered, "this content was inserted, or its record is gone")

    def _places(self) -> dict[int, list[int]]:
        """Where lines with each record number begin, made when it is first needed."""
        if self._where is None:
            self._where = {}
            for match in re.finditer(rb'^\{"seq":(\d+),', self._data, re.MULTILINE):
                self._where.setdefault(int(match[1]), []).append(match.start())
        return self._where

    def _problem(self, start: int, what: str, record: dict[str, Any] | None = None) -> None:
        self._found.problems.append(self._made(start, what, record))

    def _made(self, start: int, what: str, record: dict[str, Any] | None = None) -> Problem:
        line = self._data.count(b"\n", 0, max(0, start)) + 1
        if record is None:
            record = _line("", 0, self._data[start : start + 4096].split(b"\n")[0], "seq").record
        run, at = str(record.get("run", "")), str(record.get("at", ""))
        return Problem(self._folder.name, content_name(self._number), line, what, run, at)
