-- A lane: one upstream quota, and what its owner must not forget.
CREATE TABLE lane (
    id           INTEGER PRIMARY KEY,
    account      TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    epoch        INTEGER NOT NULL DEFAULT 0,    -- grows with every owner
    version      INTEGER NOT NULL DEFAULT 0,    -- grows with every change of one of its tasks
    reservations TEXT    NOT NULL DEFAULT '[]', -- polls reserved ahead, as JSON
    memory       BLOB,                          -- what the estimate has learned
    UNIQUE (account, kind)
) STRICT;

-- A task: polled once for however many registrations wait for it.
CREATE TABLE task (
    id               INTEGER PRIMARY KEY,
    lane             INTEGER NOT NULL REFERENCES lane (id),
    website_id       TEXT    NOT NULL,
    delivery_task_id TEXT    NOT NULL,
    watched          INTEGER NOT NULL,          -- 1 while somebody waits
    version          INTEGER NOT NULL,          -- its place in the lane's order of changes
    registered_at    INTEGER NOT NULL,
    polls            INTEGER NOT NULL DEFAULT 0,
    last_pending_at  INTEGER,
    not_found_since  INTEGER,
    settled_at       INTEGER,
    log_id           TEXT,
    outcome          TEXT,                      -- JSON; set once
    UNIQUE (lane, website_id, delivery_task_id)
) STRICT;
CREATE INDEX task_changed ON task (lane, version);
CREATE INDEX task_watched ON task (lane) WHERE watched = 1;
CREATE INDEX task_named ON task (delivery_task_id);

-- A registration: who waits for a task, and how telling them goes. A delivery is due because
-- its row says so.
CREATE TABLE registration (
    id               TEXT    PRIMARY KEY,
    client           TEXT    NOT NULL,
    task             INTEGER NOT NULL REFERENCES task (id),
    callback_url     TEXT    NOT NULL,
    callback_origin  TEXT    NOT NULL,
    callback_host    TEXT    NOT NULL,
    metadata         TEXT    NOT NULL,
    state            TEXT    NOT NULL
        CHECK (state IN ('watching', 'delivering', 'delivered', 'undeliverable', 'cancelled')),
    created_at       INTEGER NOT NULL,
    give_up_at       INTEGER NOT NULL,
    body             BLOB,                      -- the callback's bytes; set once
    outcome_position INTEGER,                   -- its place in the client's log of outcomes
    attempts         INTEGER NOT NULL DEFAULT 0,
    round            INTEGER NOT NULL DEFAULT 0, -- attempts since the last redelivery
    next_attempt_at  INTEGER,
    last_status      INTEGER,
    last_error       TEXT,
    finished_at      INTEGER,
    CHECK ((state = 'delivering') = (next_attempt_at IS NOT NULL)),
    CHECK (state IN ('watching', 'cancelled') OR body IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX registration_once ON registration (task, client, callback_url)
    WHERE state <> 'cancelled';
CREATE INDEX registration_due ON registration (callback_origin, next_attempt_at)
    WHERE state = 'delivering';
CREATE UNIQUE INDEX registration_outcome ON registration (client, outcome_position)
    WHERE outcome_position IS NOT NULL;
CREATE INDEX registration_of_client ON registration (client, id);
CREATE INDEX registration_of_host ON registration (callback_host, id);
CREATE INDEX registration_open ON registration (state, id)
    WHERE state IN ('watching', 'delivering', 'undeliverable');
CREATE INDEX registration_callback ON registration (client, callback_url)
    WHERE state IN ('watching', 'delivering');
CREATE INDEX registration_finished ON registration (finished_at)
    WHERE state IN ('delivered', 'cancelled');

-- Every attempt to tell a registration.
CREATE TABLE attempt (
    registration  TEXT    NOT NULL REFERENCES registration (id) ON DELETE CASCADE,
    number        INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    duration_ms   INTEGER NOT NULL,
    status        INTEGER,
    error         TEXT,
    reply_excerpt TEXT,
    verdict       TEXT    NOT NULL,
    PRIMARY KEY (registration, number)
) STRICT, WITHOUT ROWID;

-- Where each client's log of outcomes has come to.
CREATE TABLE outcome_log (
    client   TEXT    PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Proof that a write can be made durable.
CREATE TABLE heartbeat (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
