-- What else is known of an attempt; NULL for those of older versions.
ALTER TABLE attempt ADD COLUMN connect_ms    INTEGER;
ALTER TABLE attempt ADD COLUMN first_byte_ms INTEGER;
ALTER TABLE attempt ADD COLUMN error_class   TEXT;
ALTER TABLE attempt ADD COLUMN reason        TEXT;

-- By which what is old is found.
CREATE INDEX attempt_at ON attempt (at);
CREATE INDEX registration_undeliverable ON registration (finished_at)
    WHERE state = 'undeliverable';

-- A bulk redelivery: a filter, and how far it has come.
CREATE TABLE redelivery (
    id            TEXT    PRIMARY KEY,
    owner         TEXT    NOT NULL,             -- the client that asked for it
    client        TEXT,                         -- whose registrations; NULL: everybody's
    of_state      TEXT    NOT NULL CHECK (of_state IN ('delivered', 'undeliverable')),
    since         INTEGER NOT NULL,             -- finished at or after this
    until         INTEGER NOT NULL,             -- and before this
    callback_host TEXT,
    state         TEXT    NOT NULL CHECK (state IN ('running', 'finished', 'cancelled')),
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    matched       INTEGER NOT NULL,             -- registrations that fitted at the start
    done          INTEGER NOT NULL DEFAULT 0,   -- of those, how many were made due
    after         TEXT    NOT NULL DEFAULT '',  -- the last registration looked at
    stepped_at    INTEGER NOT NULL,             -- several take turns
    CHECK ((state = 'running') = (finished_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX redelivery_running ON redelivery (stepped_at) WHERE state = 'running';
