-- ---- watching again -------------------------------------------------------------------------

-- ---- delivery -------------------------------------------------------------------------------
-- When the first attempt of this round began: the schedule counts from then. NULL: none yet.
ALTER TABLE registration ADD COLUMN first_attempt_at INTEGER;
UPDATE registration SET first_attempt_at =
    (SELECT at FROM attempt WHERE registration = id AND number = attempts - round + 1)
    WHERE state = 'delivering' AND round > 0;

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

-- ---- bounded reads --------------------------------------------------------------------------

-- ---- store apps -----------------------------------------------------------------------------

-- The newest ticket that Feishu pushed for a store app. Without the app's secret, which is not
-- here, it opens nothing.
CREATE TABLE app_ticket (
    app_id TEXT    PRIMARY KEY,
    ticket TEXT    NOT NULL,
    at     INTEGER NOT NULL             -- when Feishu made it
) STRICT;
