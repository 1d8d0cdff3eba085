import hashlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from stretto.errors import LedgerUnavailable, RequestError
from stretto.ledger.keys import SCOPES, Keys
from stretto.ledger.sqlite import connect, index_path, migrate
from stretto.types import Key


class Shelf:
    """Connections to one database, and a clock."""

    def __init__(self, path: Path) -> None:
        self.path = index_path(path)
        self.now = 1000.0
        self.connections: list[sqlite3.Connection] = []

    def keys(self, fresh: float = 0.0) -> Keys:
        """The keys, as another process sees them."""
        connection = connect(self.path)
        migrate(connection)
        self.connections.append(connection)
        return Keys(connection, clock=lambda: self.now, fresh=fresh)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """An empty data folder."""
    made = Shelf(tmp_path)
    yield made
    for connection in made.connections:
        connection.close()


def test_a_key_is_found_by_its_secret(shelf: Shelf) -> None:
    """What was made is found again, here and by other processes, with all it was made with."""
    keys = shelf.keys()
    key, secret = keys.create(
        " team a ",
        total=5 * 10**12,
        day=10**12,
        month=2 * 10**12,
        models=["gpt", "claude-*"],
        scopes=["models", "runs"],
        expires=2000.0,
        require={"region": ["eu"]},
        exclude={"vendor": ["x", "y"]},
    )
    assert key == Key(
        key.id,
        "team a",
        frozenset({"models", "runs"}),
        ("gpt", "claude-*"),
        5 * 10**12,
        10**12,
        2 * 10**12,
        2000.0,
        None,
        1000.0,
        {"region": ("eu",)},
        {"vendor": ("x", "y")},
    )
    assert keys.find(secret) == key
    assert shelf.keys().find(secret) == key


def test_a_secret_has_256_random_bits(shelf: Shelf) -> None:
    """43 base-62 digits, no two alike."""
    made = {shelf.keys().create("k")[1] for _ in range(20)}
    assert len(made) == 20
    assert all(re.fullmatch(r"sk-stretto-[0-9A-Za-z]{43}", secret) for secret in made)


def test_only_the_hash_of_a_secret_is_stored(shelf: Shelf) -> None:
    """Nothing on disk holds the secret."""
    keys = shelf.keys()
    _, secret = keys.create("k")
    shelf.connections[0].execute("PRAGMA wal_checkpoint(TRUNCATE)")
    written = b"".join(path.read_bytes() for path in shelf.path.parent.iterdir() if path.is_file())
    assert hashlib.sha256(secret.encode()).digest() in written
    assert secret.encode() not in written
    assert secret.removeprefix("sk-stretto-").encode() not in written
    assert secret not in repr(keys.list())


@pytest.mark.parametrize(
    "wrong", ["", "sk-stretto-", "nonsense", "sk-stretto-" + "a" * 43, "schlüssel", "\udcff"]
)
def test_a_wrong_secret_finds_nothing(shelf: Shelf, wrong: str) -> None:
    """Whatever is sent, the answer is the same."""
    keys = shelf.keys()
    assert keys.find(wrong) is None
    keys.create("k")
    assert keys.find(wrong) is None


def test_a_revoked_key_is_found_no_more(shelf: Shelf) -> None:
    """Revoking works at once here, and in other processes as soon as they look."""
    here, there = shelf.keys(), shelf.keys()
    key, secret = here.create("k")
    assert there.find(secret) == key
    revoked = here.revoke(key.id)
    assert revoked.revoked == 1000.0
    assert here.find(secret) is None
    assert there.find(secret) is None
    shelf.now = 1500.0
    assert there.revoke(key.id) == revoked
    assert there.list() == (revoked,)


def test_another_process_is_asked_only_so_often(shelf: Shelf) -> None:
    """Within its time a reader answers from memory, afterwards it looks."""
    here, there = shelf.keys(), shelf.keys(fresh=3600.0)
    key, secret = here.create("k")
    assert there.find(secret) == key
    here.revoke(key.id)
    assert there.find(secret) == key
    assert there.get(key.id).revoked == 1000.0
    assert there.find(secret) is None


def test_a_key_expires(shelf: Shelf) -> None:
    """From its last second on a key is not found; the end can be moved."""
    keys = shelf.keys()
    key, secret = keys.create("k", expires=1100.0)
    assert keys.find(secret) == key
    shelf.now = 1100.0
    assert keys.find(secret) is None
    assert keys.expire(key.id, None).expires is None
    assert keys.find(secret) is not None
    keys.expire(key.id, 1050.0)
    assert keys.find(secret) is None


def test_keys_are_listed_oldest_first(shelf: Shelf) -> None:
    """Keys of all processes, in the order they were made."""
    here, there = shelf.keys(), shelf.keys()
    made = []
    for keys in (here, there, here):
        made.append(keys.create("k")[0])
        shelf.now += 1
    assert here.list() == tuple(made)
    assert there.list() == tuple(made)


def test_every_scope_can_be_given(shelf: Shelf) -> None:
    """All scopes together make an all-powerful key."""
    assert shelf.keys().create("k", scopes=SCOPES)[0].scopes == set(SCOPES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "  "}, "needs a name"),
        ({"scopes": ["root"]}, "no scope 'root'; scopes are models, runs, feedback, admin"),
        ({"scopes": []}, "needs a scope"),
        ({"total": -1}, "ceiling `total`"),
        ({"day": 10**20}, "ceiling `day`"),
        ({"expires": 999.0}, "expired already"),
    ],
)
def test_a_senseless_key_is_refused(shelf: Shelf, settings: dict[str, object], message: str) -> None:
    """What makes no sense is refused with the reason, and nothing is made."""
    keys = shelf.keys()
    with pytest.raises(RequestError, match=re.escape(message)):
        keys.create(**{"name": "k", **settings})  # type: ignore[arg-type]
    assert keys.list() == ()


def test_an_unknown_id_is_named(shelf: Shelf) -> None:
    """Revoking what is not there says so."""
    with pytest.raises(RequestError, match="no key 'key_x'; `stretto keys list`"):
        shelf.keys().revoke("key_x")


def test_a_database_that_fails_is_not_a_missing_key(shelf: Shelf) -> None:
    """When keys cannot be read or written the answer is not that there are none."""
    keys = shelf.keys()
    _, secret = keys.create("k")
    shelf.connections[0].close()
    with pytest.raises(LedgerUnavailable, match="cannot be read"):
        keys.find(secret)
    with pytest.raises(LedgerUnavailable, match="cannot be written"):
        keys.create("k")
