-- What a member says of itself to the others, as text that only daemons read.
ALTER TABLE member ADD COLUMN report TEXT;

-- When the lane's owner last reserved polls, by the database's clock: so its next owner knows how
-- long ago that was, whatever the clocks of the two daemons say.
ALTER TABLE lane ADD COLUMN reserved_at TIMESTAMPTZ;

-- The newest ticket that Feishu pushed for a store app, to whichever daemon. Without the app's
-- secret, which is not here, it opens nothing.
CREATE TABLE app_ticket (
    app_id TEXT COLLATE "C" PRIMARY KEY,
    ticket TEXT   NOT NULL,
    at     BIGINT NOT NULL
);
