"""Virtual keys: made, found by their secret, revoked. Only the SHA-256 of a secret is kept."""

import hashlib
import hmac
import json
import secrets
import sqlite3
import string
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from stretto.errors import LedgerUnavailable, RequestError
from stretto.types import Key

__all__ = ["SCOPES", "Keys"]

SCOPES: Final = ("models", "runs", "feedback", "admin")
"""What a key may be allowed: to ask models, to read and replay its runs, to give feedback, to administer."""

_PREFIX: Final = "sk-stretto-"
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_DIGITS: Final = 43  # 62**43 > 2**256
_MOST: Final = 9_000_000 * 10**12  # what SQLite's integers hold, with room to add


class Keys:
    """The keys of a data folder, over a connection to its database. For one thread at a time.

    A reader keeps all keys in memory and looks for changes at most once in `fresh` seconds, so that a revocation by another
    process works here within that time, and finding a key costs the same whether the secret is right, wrong or revoked.
    """

    def __init__(
        self, connection: sqlite3.Connection, *, clock: Callable[[], float] = time.time, fresh: float = 0.5
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._fresh = fresh
        self._until = 0.0
        self._seen = -1
        self._change = 0
        self._hashes: dict[str, bytes] = {}
        self._keys: dict[bytes, Key] = {}

    def create(
        self,
        name: str,
        *,
        total: int | None = None,
        day: int | None = None,
        month: int | None = None,
        models: Sequence[str] = (),
        scopes: Iterable[str] = ("models", "runs", "feedback"),
        expires: float | None = None,
        require: Mapping[str, Sequence[str]] | None = None,
        exclude: Mapping[str, Sequence[str]] | None = None,
    ) -> tuple[Key, str]:
        """Make a key; returns it and its secret, which is not kept and cannot be shown again.

        Ceilings in pico-dollars, `expires` in Unix seconds, `models` names or `prefix*` patterns. Raises `RequestError` when a
        value makes no sense.
        """
        now = self._clock()
        key = Key(
            "key_" + _random(16),
            name.strip(),
            frozenset(scopes),
            tuple(models),
            total,
            day,
            month,
            expires,
            None,
            now,
            {label: tuple(values) for label, values in (require or {}).items()},
            {label: tuple(values) for label, values in (exclude or {}).items()},
        )
        _check(key, now)
        secret = _PREFIX + _random(_DIGITS)
        digest = hashlib.sha256(secret.encode()).digest()
        row = (key.id, digest, *_row(key))
        self._write(
            f"INSERT INTO keys ({_COLUMNS}, change) VALUES ({', '.join('?' * len(row))}, {_NEXT_CHANGE})", row
        )
        return key, secret

    def find(self, secret: str) -> Key | None:
        """The key with this secret; `None` if there is none, or it is revoked or expired."""
        if time.monotonic() >= self._until:
            self._refresh()
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        key = self._keys.get(digest, _NOBODY)
        known = self._hashes.get(key.id, _ZEROS)
        now = self._clock()
        live = (key.revoked is None) & (key.expires is None or now < key.expires)
        return key if hmac.compare_digest(known, digest) & live else None

    @property
    def any(self) -> bool:
        """Whether a key was ever made. Costs next to nothing."""
        if time.monotonic() >= self._until:
            self._refresh()
        return bool(self._keys)

    def get(self, id: str) -> Key:
        """The key with this id, live or not. Raises `RequestError` when there is none."""
        self._refresh()
        digest = self._hashes.get(id)
        if digest is None:
            raise RequestError(
                f"there is no key {id!r}; `stretto keys list` shows those there are", param="key"
            )
        return self._keys[digest]

    def list(self) -> tuple[Key, ...]:
        """Every key, revoked and expired ones too, oldest first."""
        self._refresh()
        return tuple(sorted(self._keys.values(), key=lambda key: (key.created, key.id)))

    def revoke(self, id: str) -> Key:
        """End a key now, for good. Raises `RequestError` when there is none of that id."""
        key = self.get(id)
        if key.revoked is None:
            key = replace(key, revoked=self._clock())
            self._update(key)
        return key

    def expire(self, id: str, when: float | None) -> Key:
        """Let a key end at a point in time (Unix seconds), or never. Raises `RequestError` when there is none of that id."""
        key = replace(self.get(id), expires=when)
        self._update(key)
        return key

    def _update(self, key: Key) -> None:
        self._write(
            f"UPDATE keys SET expires = ?, revoked = ?, change = {_NEXT_CHANGE} WHERE id = ?",
            (key.expires, key.revoked, key.id),
        )

    def _write(self, statement: str, values: Sequence[Any]) -> None:
        try:
            self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the keys cannot be written: {error}") from error
        self._seen = -1
        self._refresh()

    def _refresh(self) -> None:
        """Fetch what has changed. SQLite's `data_version` says without a query that nothing has."""
        try:
            seen = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if seen != self._seen:
                rows = self._connection.execute(
                    f"SELECT {_COLUMNS}, change FROM keys WHERE change > ? ORDER BY change", (self._change,)
                ).fetchall()
                for row in rows:
                    id, digest, *values, self._change = row
                    self._keys[digest], self._hashes[id] = _key(id, values), digest
                self._seen = seen
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the keys cannot be read: {error}") from error
        self._until = time.monotonic() + self._fresh


_COLUMNS: Final = (
    "id, hash, name, scopes, models, total, day, month, created, expires, revoked, require, exclude"
)
_NEXT_CHANGE: Final = "(SELECT ifnull(max(change), 0) + 1 FROM keys)"
_NOBODY: Final = Key("", revoked=0.0)
_ZEROS: Final = bytes(32)


def _random(digits: int) -> str:
    """That many base-62 digits, each independent and uniform."""
    return "".join(secrets.choice(_BASE62) for _ in range(digits))


def _row(key: Key) -> tuple[Any, ...]:
    return (
        key.name,
        json.dumps(sorted(key.scopes)),
        json.dumps(key.models),
        key.total,
        key.day,
        key.month,
        key.created,
        key.expires,
        key.revoked,
        json.dumps(dict(key.require)),
        json.dumps(dict(key.exclude)),
    )


def _key(id: str, row: Sequence[Any]) -> Key:
    name, scopes, models, total, day, month, created, expires, revoked, require, exclude = row
    return Key(
        id,
        name,
        frozenset(json.loads(scopes)),
        tuple(json.loads(models)),
        total,
        day,
        month,
        expires,
        revoked,
        created,
        {label: tuple(values) for label, values in json.loads(require).items()},
        {label: tuple(values) for label, values in json.loads(exclude).items()},
    )


def _check(key: Key, now: float) -> None:
    if not key.name:
        raise RequestError("a key needs a name, to be told from others", param="name")
    if unknown := sorted(key.scopes - set(SCOPES)):
        raise RequestError(
            f"there is no scope {unknown[0]!r}; scopes are {', '.join(SCOPES)}", param="scopes"
        )
    if not key.scopes:
        raise RequestError(f"a key needs a scope, of {', '.join(SCOPES)}", param="scopes")
    for name, ceiling in (("total", key.total), ("day", key.day), ("month", key.month)):
        if ceiling is not None and not 0 <= ceiling <= _MOST:
            raise RequestError(f"the ceiling `{name}` must be between 0 and 9,000,000 USD", param=name)
    if key.expires is not None and key.expires <= now:
        raise RequestError("the key would have expired already", param="expires")
