-- What must survive a power cut. Bodies are JSON by gateway/journal/plain.py; times are wall seconds (UTC).

-- boot; command, decision: the first number that is not reserved yet.
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE device (number INTEGER PRIMARY KEY, body TEXT NOT NULL);

CREATE TABLE event (
    upstream TEXT NOT NULL, event_id INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (upstream, event_id)
) WITHOUT ROWID;

CREATE TABLE granted (
    upstream TEXT NOT NULL, resource TEXT NOT NULL, watts REAL NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (upstream, resource, watts, until)
) WITHOUT ROWID;

CREATE TABLE loan (
    peer TEXT NOT NULL, loan_id INTEGER NOT NULL, watts REAL NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (peer, loan_id)
) WITHOUT ROWID;

-- Open commands only; a command that ended is deleted.
CREATE TABLE command (id INTEGER PRIMARY KEY, at REAL NOT NULL, body TEXT NOT NULL);

-- n has no gaps, so the oldest are deleted by number. devices: "|lamp-1|ess-1|".
CREATE TABLE decision (n INTEGER PRIMARY KEY, id INTEGER NOT NULL, devices TEXT NOT NULL, body TEXT NOT NULL);

CREATE TABLE value (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- What is known of the outbox should it be lost; position is boot * 2^40 + seq.
CREATE TABLE outbox_note (
    upstream TEXT PRIMARY KEY, lost INTEGER NOT NULL, waiting INTEGER NOT NULL, appended INTEGER NOT NULL
) WITHOUT ROWID;
