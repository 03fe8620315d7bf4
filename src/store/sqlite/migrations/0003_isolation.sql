-- ---- watching again -------------------------------------------------------------------------

-- Why nobody can say how the task of a registration ended, and since when; NULL for every other
-- registration. Such a one does not stand in the way of registering the same again.
ALTER TABLE registration ADD COLUMN unresolved    TEXT;
ALTER TABLE registration ADD COLUMN unresolved_at INTEGER;
UPDATE registration
SET unresolved = json_extract(CAST(body AS TEXT), '$.data.failure.reason'),
    unresolved_at = CAST(round(1000 * unixepoch(
        json_extract(CAST(body AS TEXT), '$.timestamp'), 'subsec')) AS INTEGER)
WHERE substr(body, 1, 34) = CAST('{"type":"delivery_task.unresolved"' AS BLOB);

DROP INDEX registration_once;
CREATE UNIQUE INDEX registration_once ON registration (task, client, callback_url)
    WHERE state <> 'cancelled' AND unresolved IS NULL;
CREATE INDEX registration_unresolved ON registration (unresolved_at, id)
    WHERE unresolved IS NOT NULL;

-- A task keeps a final outcome only: what nobody could say may still become known.
UPDATE task SET outcome = NULL, settled_at = NULL, log_id = NULL
WHERE outcome LIKE '{"outcome":"unresolved"%';

-- The last poll of a task, and what it came to.
ALTER TABLE task ADD COLUMN last_polled_at INTEGER;
ALTER TABLE task ADD COLUMN last_answer    TEXT;

-- A bulk rewatch: a filter, and how far it has come.
CREATE TABLE rewatch (
    id          TEXT    PRIMARY KEY,
    owner       TEXT    NOT NULL,               -- the client that asked for it
    client      TEXT,                           -- whose registrations; NULL: everybody's
    account     TEXT,                           -- NULL: every account's
    reason      TEXT,                           -- NULL: whatever the reason
    since       INTEGER NOT NULL,               -- unresolved at or after this
    until       INTEGER NOT NULL,               -- and before this
    state       TEXT    NOT NULL CHECK (state IN ('running', 'finished', 'cancelled')),
    created_at  INTEGER NOT NULL,
    finished_at INTEGER,
    matched     INTEGER NOT NULL,               -- registrations that fitted at the start
    done        INTEGER NOT NULL DEFAULT 0,     -- of those, how many are watched again
    after_at    INTEGER NOT NULL,               -- the last registration read: its time
    after_id    TEXT    NOT NULL DEFAULT '',    -- and its id
    stepped_at  INTEGER NOT NULL,               -- several take turns
    CHECK ((state = 'running') = (finished_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX rewatch_running ON rewatch (stepped_at) WHERE state = 'running';

-- ---- delivery -------------------------------------------------------------------------------
-- When the first attempt of this round began: the schedule counts from then. NULL: none yet.
ALTER TABLE registration ADD COLUMN first_attempt_at INTEGER;

-- A callback URL whose receiver said 410 to this client: what ends there is not sent.
CREATE TABLE gone_callback (
    client       TEXT    NOT NULL,
    callback_url TEXT    NOT NULL,
    since        INTEGER NOT NULL,
    PRIMARY KEY (client, callback_url)
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_callback_since ON gone_callback (since);
-- By which the deliveries that wait for such a URL are found.
DROP INDEX registration_callback;
CREATE INDEX registration_waiting ON registration (client, callback_url, id)
    WHERE state = 'delivering';

-- Deliveries are isolated by origin and client.
DROP INDEX registration_due;
CREATE INDEX registration_due ON registration (callback_origin, client, next_attempt_at, id)
    WHERE state = 'delivering';

-- How often a person has asked for a delivery to be sent again since it was last attempted.
ALTER TABLE registration ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
CREATE INDEX registration_asked ON registration (client, next_attempt_at, id)
    WHERE state = 'delivering' AND asked > 0;

-- ---- bounded reads --------------------------------------------------------------------------

-- A lane's watched tasks are loaded a page at a time, in the order of their versions.
DROP INDEX task_watched;
CREATE INDEX task_watched ON task (lane, version) WHERE watched = 1;

-- What is open, each client's by itself.
DROP INDEX registration_open;
CREATE INDEX registration_open ON registration (state, client, id)
    WHERE state IN ('watching', 'delivering', 'undeliverable');

-- Bulk redeliveries look at what has ended a page at a time.
DROP INDEX registration_finished;
CREATE INDEX registration_finished ON registration (finished_at, id)
    WHERE state IN ('delivered', 'cancelled');
DROP INDEX registration_undeliverable;
CREATE INDEX registration_undeliverable ON registration (finished_at, id)
    WHERE state = 'undeliverable';
-- Their place in that order, instead of `after`. One that runs begins again: what it made due fits
-- no more.
ALTER TABLE redelivery ADD COLUMN after_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE redelivery ADD COLUMN after_id TEXT    NOT NULL DEFAULT '';
CREATE INDEX redelivery_over ON redelivery (finished_at) WHERE finished_at IS NOT NULL;

-- How many registrations stand in each state: counted as they come and go, never all at once again.
CREATE TABLE registration_count (
    state TEXT    PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO registration_count
    VALUES ('watching', 0), ('delivering', 0), ('delivered', 0), ('undeliverable', 0),
           ('cancelled', 0);
UPDATE registration_count SET count = c.count
    FROM (SELECT state, count(*) AS count FROM registration GROUP BY state) c
    WHERE c.state = registration_count.state;
CREATE TRIGGER registration_comes AFTER INSERT ON registration BEGIN
    UPDATE registration_count SET count = count + 1 WHERE state = new.state;
END;
CREATE TRIGGER registration_changes AFTER UPDATE OF state ON registration
WHEN new.state <> old.state BEGIN
    UPDATE registration_count SET count = count + (state = new.state) - (state = old.state)
    WHERE state IN (new.state, old.state);
END;
CREATE TRIGGER registration_goes AFTER DELETE ON registration BEGIN
    UPDATE registration_count SET count = count - 1 WHERE state = old.state;
END;

-- ---- store apps -----------------------------------------------------------------------------

-- The newest ticket that Feishu pushed for a store app. Without the app's secret, which is not
-- here, it opens nothing.
CREATE TABLE app_ticket (
    app_id TEXT    PRIMARY KEY,
    ticket TEXT    NOT NULL,
    at     INTEGER NOT NULL             -- when Feishu made it
) STRICT;
