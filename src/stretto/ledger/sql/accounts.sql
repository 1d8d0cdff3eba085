-- Keys and their money. Nothing here can be made again from the journals alone: keep these tables when the index is rebuilt.
-- Money in pico-dollars, time in Unix seconds (or, where it says steady, on the machine's monotonic clock), days as YYYY-MM-DD in UTC.

-- Virtual keys. Only the SHA-256 of a secret is kept. `change` numbers every change, so that readers fetch only what is new.
CREATE TABLE IF NOT EXISTS keys (
    id       TEXT PRIMARY KEY,
    hash     BLOB NOT NULL UNIQUE,
    change   INTEGER NOT NULL,
    name     TEXT NOT NULL,
    scopes   TEXT NOT NULL,               -- JSON from here on where the type is a list or a table
    models   TEXT NOT NULL,
    total    INTEGER,
    day      INTEGER,
    month    INTEGER,
    created  REAL NOT NULL,
    expires  REAL,
    revoked  REAL,
    require  TEXT NOT NULL,
    exclude  TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS keys_by_change ON keys (change);

-- What each key has spent for good, by window: 'total', a month (YYYY-MM) or a day. What open slabs have spent comes on top.
CREATE TABLE IF NOT EXISTS spending (
    key      TEXT NOT NULL,
    period   TEXT NOT NULL,
    spent    INTEGER NOT NULL,
    PRIMARY KEY (key, period)
) STRICT, WITHOUT ROWID;

-- What processes have leased. `spent` of `granted` is known to be spent; the rest counts as reserved.
-- `answered` is the last recall after which everything unused was given back.
CREATE TABLE IF NOT EXISTS slabs (
    id       TEXT PRIMARY KEY,
    key      TEXT NOT NULL,
    process  TEXT NOT NULL,
    day      TEXT NOT NULL,
    granted  INTEGER NOT NULL,
    spent    INTEGER NOT NULL,
    answered INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS slabs_by_key ON slabs (key);
CREATE INDEX IF NOT EXISTS slabs_by_process ON slabs (process);

-- Who leases, where to ring, and until when (steady) it has promised to answer.
CREATE TABLE IF NOT EXISTS lessees (
    process  TEXT PRIMARY KEY,
    bell     TEXT NOT NULL,
    expires  REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- How often unused money of a key was asked back, and until when (steady) it is leased in exact amounts only.
CREATE TABLE IF NOT EXISTS recalls (
    key      TEXT PRIMARY KEY,
    number   INTEGER NOT NULL,
    scarce   REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- The latest day seen by anyone. Days only go forward, whatever the clocks do.
CREATE TABLE IF NOT EXISTS calendar (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    day      TEXT NOT NULL
) STRICT;
