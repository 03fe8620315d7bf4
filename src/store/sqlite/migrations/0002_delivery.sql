-- What else is known of an attempt; NULL for those of older versions.
ALTER TABLE attempt ADD COLUMN connect_ms    INTEGER;
ALTER TABLE attempt ADD COLUMN first_byte_ms INTEGER;
ALTER TABLE attempt ADD COLUMN error_class   TEXT;
ALTER TABLE attempt ADD COLUMN reason        TEXT;

-- By which what is old is found.
CREATE INDEX attempt_at ON attempt (at);
-- By which a task is forgotten with its last registration, cancelled ones among them.
CREATE INDEX registration_of_task ON registration (task);
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

-- By id within one due time: thousands fall due at once after an outage or a redelivery, and the
-- first page of them must not sort them all.
DROP INDEX registration_due;
CREATE INDEX registration_due ON registration (callback_origin, next_attempt_at, id)
    WHERE state = 'delivering';

-- What a person is told about one incident, once for each client that it concerns.
CREATE TABLE notice (
    client          TEXT    NOT NULL,
    subject         TEXT    NOT NULL,           -- 'account NAME', 'origin URL', 'callback URL'
    raised          INTEGER NOT NULL,           -- 1 while it lasts, 0 once it is over
    since           INTEGER NOT NULL,           -- when it began
    at              INTEGER NOT NULL,           -- when this event of it was decided
    id              TEXT    NOT NULL,           -- the event's webhook-id
    body            BLOB    NOT NULL,           -- its bytes
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER,                    -- NULL: told, or given up
    PRIMARY KEY (client, subject)
) STRICT, WITHOUT ROWID;
