-- What else is known of an attempt; NULL for those of older versions.
ALTER TABLE attempt ADD COLUMN connect_ms    BIGINT;
ALTER TABLE attempt ADD COLUMN first_byte_ms BIGINT;
ALTER TABLE attempt ADD COLUMN error_class   TEXT;
ALTER TABLE attempt ADD COLUMN reason        TEXT;

-- By which what is old is found.
CREATE INDEX attempt_at ON attempt (at);
CREATE INDEX registration_undeliverable ON registration (finished_at)
    WHERE state = 'undeliverable';

-- A bulk redelivery: a filter, and how far it has come.
CREATE TABLE redelivery (
    id            TEXT COLLATE "C" PRIMARY KEY,
    owner         TEXT COLLATE "C" NOT NULL,    -- the client that asked for it
    client        TEXT COLLATE "C",             -- whose registrations; NULL: everybody's
    of_state      TEXT COLLATE "C" NOT NULL CHECK (of_state IN ('delivered', 'undeliverable')),
    since         BIGINT NOT NULL,              -- finished at or after this
    until         BIGINT NOT NULL,              -- and before this
    callback_host TEXT COLLATE "C",
    state         TEXT COLLATE "C" NOT NULL CHECK (state IN ('running', 'finished', 'cancelled')),
    created_at    BIGINT NOT NULL,
    finished_at   BIGINT,
    matched       BIGINT NOT NULL,              -- registrations that fitted at the start
    done          BIGINT NOT NULL DEFAULT 0,    -- of those, how many were made due
    after         TEXT COLLATE "C" NOT NULL DEFAULT '', -- the last registration looked at
    stepped_at    BIGINT NOT NULL,              -- several take turns
    CHECK ((state = 'running') = (finished_at IS NULL))
) WITH (fillfactor = 50);

CREATE INDEX redelivery_running ON redelivery (stepped_at, id) WHERE state = 'running';
CREATE INDEX redelivery_over ON redelivery (finished_at) WHERE finished_at IS NOT NULL;

-- What a person is told about one incident, once for each client that it concerns.
CREATE TABLE notice (
    client          TEXT COLLATE "C" NOT NULL,
    subject         TEXT COLLATE "C" NOT NULL,  -- 'account NAME', 'origin URL', 'callback URL'
    raised          BOOLEAN NOT NULL,           -- while it lasts
    since           BIGINT NOT NULL,            -- when it began
    at              BIGINT NOT NULL,            -- when this event of it was decided
    id              TEXT   NOT NULL,            -- the event's webhook-id
    body            BYTEA  NOT NULL,            -- its bytes
    attempts        BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT,                     -- NULL: told, or given up
    PRIMARY KEY (client, subject)
);
