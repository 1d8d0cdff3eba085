-- The index over the journals. Every row here can be made again from them (`stretto runs reindex`).
-- Money in pico-dollars, points in time in Unix seconds, durations in seconds.

-- Chains (one for each start of a process), and how far each is indexed: the next byte is at `offset` of `segment`.
-- `ended`: its process has died and all it wrote is indexed.
CREATE TABLE IF NOT EXISTS chains (
    id      INTEGER PRIMARY KEY,
    process TEXT    NOT NULL UNIQUE,
    segment INTEGER NOT NULL,
    offset  INTEGER NOT NULL,
    ended   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What runs are listed by. What stands in a record that is not indexed yet is null.
-- `chain` took the run up last; `taken`: 1 it opened it, 2 it resumed it.
CREATE TABLE IF NOT EXISTS runs (
    run     TEXT PRIMARY KEY,
    chain   INTEGER,
    taken   INTEGER NOT NULL,
    time    REAL,
    model   TEXT,
    policy  TEXT,
    version TEXT,
    purpose TEXT,
    key     TEXT,
    status  TEXT,                        -- running | finished | failed
    worker  TEXT,
    cost    INTEGER,
    calls   INTEGER,
    seconds REAL,
    score   REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_by_key ON runs (key, run) WHERE key <> '';

CREATE TABLE IF NOT EXISTS attempts (
    run       TEXT    NOT NULL,
    at        TEXT    NOT NULL,
    attempt   INTEGER NOT NULL,
    time      REAL,
    worker    TEXT,
    endpoint  TEXT,
    role      TEXT,
    reserved  INTEGER,
    outcome   TEXT,                      -- answered, or the kind of failure; null: unknown
    cost      INTEGER,
    input     INTEGER,
    output    INTEGER,
    seconds   REAL,
    PRIMARY KEY (run, at, attempt)
) STRICT, WITHOUT ROWID;

-- Where a run's records are: stretches of a segment that hold records of that run, and perhaps of others.
CREATE TABLE IF NOT EXISTS places (
    run     TEXT    NOT NULL,
    chain   INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    first   INTEGER NOT NULL,            -- the first byte
    past    INTEGER NOT NULL,            -- the byte after the last
    PRIMARY KEY (run, chain, segment, first)
) STRICT, WITHOUT ROWID;

-- Which record introduced a version of the pool.
CREATE TABLE IF NOT EXISTS pools (
    version TEXT PRIMARY KEY,
    chain   INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    past    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
