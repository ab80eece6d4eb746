-- What a spool's file holds, version 1. Narrow rows in `batch`; the bytes apart in `body`, so that
-- counting never reads them.

CREATE TABLE queue (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- A start of a node: under one identity a seq is given once, and its content never differs.
CREATE TABLE identity (
    id     INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    epoch  BLOB NOT NULL,
    UNIQUE (origin, epoch)
) STRICT;

CREATE TABLE batch (
    id                INTEGER PRIMARY KEY,
    queue             INTEGER NOT NULL, -- queue.id
    identity          INTEGER NOT NULL, -- identity.id
    seq               INTEGER NOT NULL,
    lines             INTEGER NOT NULL,
    raw_bytes         INTEGER NOT NULL,
    stored_bytes      INTEGER NOT NULL,
    encoding          INTEGER NOT NULL, -- 0 plain, 1 zstd
    checksum          INTEGER NOT NULL, -- CRC32C of the body as stored
    accepted_first_ms INTEGER NOT NULL,
    accepted_last_ms  INTEGER NOT NULL,
    timestamp_min     INTEGER NOT NULL, -- seconds, bounds of the lines' own timestamps
    timestamp_max     INTEGER NOT NULL,
    hops              TEXT,             -- names of the nodes passed before this one
    part_of           TEXT,             -- the number it had before it was split or sent again
    confirmed_at      INTEGER           -- ms, for what is held after delivery
) STRICT;

CREATE TABLE body (
    id    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE link (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What still has to go over a link. A batch goes when no link needs it.
CREATE TABLE delivery (
    link   INTEGER NOT NULL,
    state  INTEGER NOT NULL, -- 0 waiting, 1 set aside
    batch  INTEGER NOT NULL,
    reason TEXT,
    PRIMARY KEY (link, state, batch)
) STRICT, WITHOUT ROWID;

-- The books. Link 0 is the node itself: what it accepted.
CREATE TABLE tally (
    link    INTEGER NOT NULL,
    origin  TEXT NOT NULL,
    reason  TEXT NOT NULL,
    batches INTEGER NOT NULL,
    lines   INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    PRIMARY KEY (link, origin, reason)
) STRICT, WITHOUT ROWID;

-- Intervals of what was taken from other nodes, so that nothing is taken twice.
CREATE TABLE seen (
    identity INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    PRIMARY KEY (identity, first)
) STRICT, WITHOUT ROWID;

-- The dead letters.
CREATE TABLE reject (
    id     INTEGER PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    input  TEXT NOT NULL,
    sender TEXT NOT NULL,
    reason TEXT NOT NULL,
    line   BLOB NOT NULL
) STRICT;
