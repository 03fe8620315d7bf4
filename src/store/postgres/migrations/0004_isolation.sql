-- ---- watching again -------------------------------------------------------------------------

-- Why nobody can say how the task of a registration ended, and since when; NULL for every other
-- registration. Such a one does not stand in the way of registering the same again.
ALTER TABLE registration ADD COLUMN unresolved    TEXT COLLATE "C";
ALTER TABLE registration ADD COLUMN unresolved_at BIGINT;
-- Read by their places and not as JSON: metadata comes last, and may hold what Postgres' JSON refuses.
UPDATE registration
SET unresolved = substring(convert_from(body, 'UTF8') FROM '"failure":\{"reason":"([a-z_]+)"'),
    unresolved_at = round(1000 * extract(epoch FROM
        substring(convert_from(body, 'UTF8') FROM '"timestamp":"([^"]+)"')::timestamptz))
WHERE substr(body, 1, 34) = convert_to('{"type":"delivery_task.unresolved"', 'UTF8');

DROP INDEX registration_once;
CREATE UNIQUE INDEX registration_once ON registration (task, client, callback_url)
    WHERE state <> 'cancelled' AND unresolved IS NULL;
CREATE INDEX registration_unresolved ON registration (unresolved_at, id)
    WHERE unresolved IS NOT NULL;

-- A task keeps a final outcome only: what nobody could say may still become known.
UPDATE task SET outcome = NULL, settled_at = NULL, log_id = NULL
WHERE outcome LIKE '{"outcome":"unresolved"%';

-- The last poll of a task, and what it came to.
ALTER TABLE task ADD COLUMN last_polled_at BIGINT;
ALTER TABLE task ADD COLUMN last_answer    TEXT COLLATE "C";

-- A bulk rewatch: a filter, and how far it has come.
CREATE TABLE rewatch (
    id          TEXT COLLATE "C" PRIMARY KEY,
    owner       TEXT COLLATE "C" NOT NULL,      -- the client that asked for it
    client      TEXT COLLATE "C",               -- whose registrations; NULL: everybody's
    account     TEXT COLLATE "C",               -- NULL: every account's
    reason      TEXT COLLATE "C",               -- NULL: whatever the reason
    since       BIGINT NOT NULL,                -- unresolved at or after this
    until       BIGINT NOT NULL,                -- and before this
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('running', 'finished', 'cancelled')),
    created_at  BIGINT NOT NULL,
    finished_at BIGINT,
    matched     BIGINT NOT NULL,                -- registrations that fitted at the start
    done        BIGINT NOT NULL DEFAULT 0,      -- of those, how many are watched again
    after_at    BIGINT NOT NULL,                -- the last registration read: its time
    after_id    TEXT COLLATE "C" NOT NULL DEFAULT '', -- and its id
    stepped_at  BIGINT NOT NULL,                -- several take turns
    CHECK ((state = 'running') = (finished_at IS NULL))
);
CREATE INDEX rewatch_running ON rewatch (stepped_at) WHERE state = 'running';

-- ---- delivery -------------------------------------------------------------------------------
-- When the first attempt of this round began: the schedule counts from then. NULL: none yet.
ALTER TABLE registration ADD COLUMN first_attempt_at BIGINT;

-- A callback URL whose receiver said 410 to this client: what ends there is not sent.
CREATE TABLE gone_callback (
    client       TEXT COLLATE "C" NOT NULL,
    callback_url TEXT COLLATE "C" NOT NULL,
    since        BIGINT NOT NULL,
    PRIMARY KEY (client, callback_url)
);
CREATE INDEX gone_callback_since ON gone_callback (since);
-- By which the deliveries that wait for such a URL are found.
DROP INDEX registration_callback;
CREATE INDEX registration_waiting ON registration (client, callback_url, id)
    WHERE state = 'delivering';

-- Deliveries are isolated by origin and client.
DROP INDEX registration_due;
CREATE INDEX registration_due ON registration (callback_origin, client, lane, next_attempt_at, id)
    WHERE state = 'delivering';

DROP INDEX registration_work;
CREATE INDEX registration_work ON registration (lane, callback_origin, client)
    WHERE state IN ('watching', 'delivering');

-- How often a person has asked for a delivery to be sent again since it was last attempted.
ALTER TABLE registration ADD COLUMN asked BIGINT NOT NULL DEFAULT 0;
CREATE INDEX registration_asked ON registration (client, next_attempt_at, id)
    WHERE state = 'delivering' AND asked > 0;

-- ---- bounded reads --------------------------------------------------------------------------

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
ALTER TABLE redelivery ADD COLUMN after_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE redelivery ADD COLUMN after_id TEXT COLLATE "C" NOT NULL DEFAULT '';

-- How many registrations stand in each state: counted as they come and go, never all at once again.
-- In shards, so that commits of different connections hardly ever wait for each other.
CREATE TABLE registration_count (
    shard         BIGINT PRIMARY KEY,
    watching      BIGINT NOT NULL DEFAULT 0,
    delivering    BIGINT NOT NULL DEFAULT 0,
    delivered     BIGINT NOT NULL DEFAULT 0,
    undeliverable BIGINT NOT NULL DEFAULT 0,
    cancelled     BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO registration_count
SELECT 0, count(*) FILTER (WHERE state = 'watching'),
       count(*) FILTER (WHERE state = 'delivering'),
       count(*) FILTER (WHERE state = 'delivered'),
       count(*) FILTER (WHERE state = 'undeliverable'),
       count(*) FILTER (WHERE state = 'cancelled')
FROM registration;
INSERT INTO registration_count (shard) SELECT generate_series(1, 63);

CREATE FUNCTION registration_counted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    d registration_count;
BEGIN
    SELECT 0, 0, 0, 0, 0, 0 INTO d;
    IF TG_OP <> 'DELETE' THEN
        SELECT 0, count(*) FILTER (WHERE state = 'watching'),
               count(*) FILTER (WHERE state = 'delivering'),
               count(*) FILTER (WHERE state = 'delivered'),
               count(*) FILTER (WHERE state = 'undeliverable'),
               count(*) FILTER (WHERE state = 'cancelled')
        INTO d FROM present;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        SELECT 0, d.watching - count(*) FILTER (WHERE state = 'watching'),
               d.delivering - count(*) FILTER (WHERE state = 'delivering'),
               d.delivered - count(*) FILTER (WHERE state = 'delivered'),
               d.undeliverable - count(*) FILTER (WHERE state = 'undeliverable'),
               d.cancelled - count(*) FILTER (WHERE state = 'cancelled')
        INTO d FROM past;
    END IF;
    IF d.watching = 0 AND d.delivering = 0 AND d.delivered = 0 AND d.undeliverable = 0
        AND d.cancelled = 0 THEN
        RETURN NULL;
    END IF;
    UPDATE registration_count c
    SET watching = c.watching + d.watching, delivering = c.delivering + d.delivering,
        delivered = c.delivered + d.delivered, undeliverable = c.undeliverable + d.undeliverable,
        cancelled = c.cancelled + d.cancelled
    WHERE shard = pg_backend_pid() % 64;
    RETURN NULL;
END $$;
CREATE TRIGGER registration_comes AFTER INSERT ON registration
    REFERENCING NEW TABLE AS present FOR EACH STATEMENT EXECUTE FUNCTION registration_counted();
CREATE TRIGGER registration_changes AFTER UPDATE ON registration
    REFERENCING OLD TABLE AS past NEW TABLE AS present
    FOR EACH STATEMENT EXECUTE FUNCTION registration_counted();
CREATE TRIGGER registration_goes AFTER DELETE ON registration
    REFERENCING OLD TABLE AS past FOR EACH STATEMENT EXECUTE FUNCTION registration_counted();

-- ---- store apps -----------------------------------------------------------------------------
