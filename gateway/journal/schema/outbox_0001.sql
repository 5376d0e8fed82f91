-- The append-only log of reports. position is boot * 2^40 + seq; at: wall seconds, 0 while the clock was not trusted.
CREATE TABLE record (
    position INTEGER PRIMARY KEY, at REAL NOT NULL, size INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL
);

CREATE TABLE cursor (upstream TEXT PRIMARY KEY, position INTEGER NOT NULL, lost INTEGER NOT NULL) WITHOUT ROWID;

-- appended: the last position; boot, command, decision: a second copy of the essential counters.
CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
