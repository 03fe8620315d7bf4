-- ---- watching again -------------------------------------------------------------------------

-- ---- delivery -------------------------------------------------------------------------------
-- When the first attempt of this round began: the schedule counts from then. NULL: none yet.
ALTER TABLE registration ADD COLUMN first_attempt_at BIGINT;
UPDATE registration r SET first_attempt_at =
    (SELECT at FROM attempt WHERE registration = r.id AND number = r.attempts - r.round + 1)
    WHERE state = 'delivering' AND round > 0;

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

-- ---- bounded reads --------------------------------------------------------------------------

-- ---- store apps -----------------------------------------------------------------------------
