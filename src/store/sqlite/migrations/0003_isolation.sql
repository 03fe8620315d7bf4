-- ---- watching again -------------------------------------------------------------------------

-- ---- delivery -------------------------------------------------------------------------------

-- ---- bounded reads --------------------------------------------------------------------------

-- ---- store apps -----------------------------------------------------------------------------

-- The newest ticket that Feishu pushed for a store app. Without the app's secret, which is not
-- here, it opens nothing.
CREATE TABLE app_ticket (
    app_id TEXT    PRIMARY KEY,
    ticket TEXT    NOT NULL,
    at     INTEGER NOT NULL             -- when Feishu made it
) STRICT;
