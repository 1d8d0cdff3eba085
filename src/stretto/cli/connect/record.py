"""Writing into other programs' files so that it can be taken back: backups beside the files, a record in the data folder."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stretto.cli.connect.edits import Edit, JsonEdit, Ours, revert_json, without_blocks
from stretto.errors import ConfigError

__all__ = ["Change", "Record"]


@dataclass(frozen=True, slots=True)
class Change:
    """What became, or would become, of a file. `before`/`after`: `None` where there is no file."""

    path: Path
    before: str | None
    after: str | None
    backup: Path | None = None

    @property
    def same(self) -> bool:
        """Whether nothing changes."""
        return self.before == self.after


class Record:
    """What was written for which tool: `connect.json` in the data folder.

    Of each file it knows the digest of what was written, the backup of what was there before, and for JSON what stood where ours
    stands now. A file that nobody has touched since is brought back byte for byte; from any other only ours is taken out.
    """

    def __init__(self, data: Path) -> None:
        self._file = data / "connect.json"
        try:
            self._known: dict[str, list[dict[str, Any]]] = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            self._known = {}
        except ValueError:
            raise ConfigError(
                f"{self._file}: is damaged; move it away, backups of your files lie beside them"
            ) from None

    def has(self, tool: str) -> bool:
        """Whether something was written for a tool, and not taken back."""
        return bool(self._known.get(tool))

    def plan(self, tool: str, edits: Sequence[Edit]) -> list[Change]:
        """What applying `edits` would change. Nothing is written."""
        return [
            Change(edit.path, now := _read(edit.path), edit.apply(self._base(tool, edit.path, now)))
            for edit in edits
        ]

    def write(self, tool: str, edits: Sequence[Edit]) -> list[Change]:
        """Apply `edits`, each file after a backup of it. What an earlier call wrote elsewhere is taken back."""
        changes = self.plan(tool, edits)  # all of them first: an error must not leave half of it written
        paths = {str(edit.path) for edit in edits}
        stale = [entry for entry in self._known.get(tool, []) if entry["file"] not in paths]
        done = [self._take_back(entry) for entry in stale]
        entries = []
        for edit, change in zip(edits, changes, strict=True):
            assert change.after is not None
            old = self._entry(tool, edit.path)
            base = self._base(tool, edit.path, change.before)
            untouched = old is not None and old["wrote"] == _digest(change.before)
            exact = old["exact"] if untouched and old else old is None
            backup = old["backup"] if untouched and old else None
            if not untouched and change.before is not None and not change.same:
                backup = str(_free(edit.path))
                _write(Path(backup), change.before, like=edit.path)
            if not change.same:
                _write(edit.path, change.after, like=edit.path)
            entries.append(
                {
                    "file": str(edit.path),
                    "kind": "json"
                    if isinstance(edit, JsonEdit)
                    else "ours"
                    if isinstance(edit, Ours)
                    else "block",
                    "wrote": _digest(change.after),
                    "created": base is None,
                    "exact": exact,
                    "backup": backup,
                    "json": edit.before(base) if isinstance(edit, JsonEdit) else [],
                }
            )
            made = Path(backup) if backup and not untouched and not change.same else None
            done.append(Change(edit.path, change.before, change.after, made))
        self._save({**self._known, tool: entries})
        return done

    def undo(self, tool: str) -> list[Change]:
        """Take back what was written for a tool. Raises `ConfigError` when there is nothing."""
        if not self.has(tool):
            raise ConfigError(f"there is nothing to undo for {tool}: {self._file} has no record of it")
        done = [self._take_back(entry) for entry in self._known[tool]]
        self._save({name: entries for name, entries in self._known.items() if name != tool})
        return done

    def _entry(self, tool: str, path: Path) -> dict[str, Any] | None:
        return next((entry for entry in self._known.get(tool, []) if entry["file"] == str(path)), None)

    def _base(self, tool: str, path: Path, now: str | None) -> str | None:
        """The file as it would be without us."""
        entry = self._entry(tool, path)
        return now if entry is None else _without(entry, now)

    @staticmethod
    def _take_back(entry: dict[str, Any]) -> Change:
        path = Path(entry["file"])
        now = _read(path)
        base = _without(entry, now)
        if base is None:
            path.unlink(missing_ok=True)
        elif base != now:
            _write(path, base, like=path)
        backup = Path(entry["backup"]) if entry["backup"] else None
        if backup is not None and base == _read(backup):
            backup.unlink()
            backup = None
        return Change(path, now, base, backup)

    def _save(self, known: dict[str, list[dict[str, Any]]]) -> None:
        self._known = known
        _write(self._file, json.dumps(known, indent=1) + "\n", like=self._file)


def _without(entry: dict[str, Any], now: str | None) -> str | None:
    """A recorded file without ours; `None` if it would not be there."""
    if now is None:
        return None
    if entry["wrote"] == _digest(now) and entry["exact"]:
        if entry["backup"] is None and entry["created"]:
            return None
        if entry["backup"] is not None and (kept := _read(Path(entry["backup"]))) is not None:
            return kept
    if entry["kind"] == "ours":
        return None
    if entry["kind"] == "json":
        base = revert_json(Path(entry["file"]), now, entry["json"])
        empty = not json.loads(base)
    else:
        base = without_blocks(now)
        empty = not base.strip()
    return None if empty and entry["created"] else base


def _digest(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None


def _free(path: Path) -> Path:
    """The first backup name that is not taken."""
    number = 1
    while (backup := path.with_name(f"{path.name}.stretto-{number}.bak")).exists():
        number += 1
    return backup


def _write(path: Path, text: str, *, like: Path) -> None:
    """Write a file whole or not at all, with the permissions of `like`; a link stays a link. New files are the owner's alone."""
    real = path.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    part = real.with_name(f".{real.name}.{os.getpid()}.part")
    try:
        mode = like.stat().st_mode & 0o777 if like.exists() else 0o600
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(text.encode())
        os.replace(part, real)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from None
