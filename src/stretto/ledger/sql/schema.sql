-- The index over the journals. Every row here can be made again from them (`stretto runs reindex`).

-- Chains (one for each start of a process) and how far each is indexed.
CREATE TABLE IF NOT EXISTS chains (
    id      INTEGER PRIMARY KEY,
    process TEXT NOT NULL UNIQUE,
    segment INTEGER NOT NULL DEFAULT 1,  -- the next byte to index: segment and offset
    offset  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What runs are listed by. Money in pico-dollars, time in Unix seconds.
CREATE TABLE IF NOT EXISTS runs (
    run     TEXT PRIMARY KEY,
    time    REAL NOT NULL,
    model   TEXT NOT NULL,
    policy  TEXT NOT NULL,
    version TEXT NOT NULL,
    purpose TEXT NOT NULL,
    key     TEXT NOT NULL,
    status  TEXT NOT NULL,               -- running | finished | failed
    worker  TEXT NOT NULL DEFAULT '',
    cost    INTEGER NOT NULL DEFAULT 0,
    calls   INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,
    score   REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_by_key ON runs (key, run);

-- Where a run's records are: stretches of bytes of a segment that hold records of that run (and perhaps of others).
CREATE TABLE IF NOT EXISTS places (
    run     TEXT NOT NULL,
    chain   INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    first   INTEGER NOT NULL,            -- offset of the first record
    past    INTEGER NOT NULL,            -- offset after the last
    PRIMARY KEY (run, chain, segment, first)
) STRICT, WITHOUT ROWID;

-- Which record introduced a version of the pool.
CREATE TABLE IF NOT EXISTS pools (
    version TEXT PRIMARY KEY,
    chain   INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    offset  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
