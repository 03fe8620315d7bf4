-- The statements of the first version that spoke Postgres, as it prepared them: a
-- daemon of that version sends them to whatever schema it finds. Never edit; they are history.

-- register_lanes_and_tasks
WITH item AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
        AS i (account, kind, website_id, delivery_task_id, created_at)),
lanes AS (
    INSERT INTO lane (account, kind, version)
    SELECT account, kind, count(*) FROM item GROUP BY account, kind ORDER BY account, kind
    ON CONFLICT (account, kind) DO UPDATE SET version = lane.version + EXCLUDED.version
    RETURNING id, account, kind)
INSERT INTO task (lane, website_id, delivery_task_id, watched, version, registered_at)
SELECT l.id, i.website_id, i.delivery_task_id, FALSE, 0, i.created_at
FROM item i JOIN lanes l ON l.account = i.account AND l.kind = i.kind
ON CONFLICT (lane, website_id, delivery_task_id) DO NOTHING
;

-- register
WITH item AS (
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[],
                     $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
                     $12::bigint[])
                 WITH ORDINALITY AS i (account, kind, website_id, delivery_task_id, created_at, id,
                     client, callback_url, callback_origin, callback_host,
                         metadata, give_up_at, n)),
         found AS (
             SELECT i.*, t.lane, t.id AS task, t.outcome IS NULL AS open,
                    l.version + 1 - row_number() OVER (PARTITION BY l.id ORDER
                        BY i.n DESC) AS version
             FROM item i JOIN lane l ON l.account = i.account AND l.kind = i.kind
             JOIN task t ON t.lane = l.id AND t.website_id = i.website_id
                 AND t.delivery_task_id = i.delivery_task_id),
         made AS (
             INSERT INTO registration (id, client, task, lane, callback_url, callback_origin,
                 callback_host, metadata, state, created_at, give_up_at)
             SELECT id, client, task, lane, callback_url, callback_origin, callback_host, metadata,
                 'watching', created_at, give_up_at
             FROM found WHERE open ORDER BY n
             ON CONFLICT (task, client, callback_url) WHERE state <> 'cancelled' DO NOTHING
             RETURNING id),
         touched AS (
             UPDATE task t SET watched = TRUE, version = c.version
             FROM (SELECT f.task, max(f.version) AS version
                   FROM found f JOIN made m ON m.id = f.id GROUP BY f.task) c
             WHERE t.id = c.task)
         SELECT r.id, r.client, l.kind, l.account, t.website_id, t.delivery_task_id,
             r.callback_url, r.metadata, r.state, r.created_at, r.give_up_at, r.body,
             r.attempts, r.next_attempt_at, r.last_status, r.last_error, f.task, f.lane,
             m.id IS NOT NULL, t.outcome, t.settled_at, t.log_id,
                t.polls, t.last_pending_at, t.not_found_since
         FROM found f JOIN task t ON t.id = f.task JOIN lane l ON l.id = f.lane
         LEFT JOIN made m ON m.id = f.id
         LEFT JOIN registration r ON r.task = f.task AND r.client = f.client
             AND r.callback_url = f.callback_url AND r.state <> 'cancelled'
         ORDER BY f.n
;

-- take
INSERT INTO lane (account, kind, epoch) VALUES ($1, $2, 1)
ON CONFLICT (account, kind) DO UPDATE
SET epoch = lane.epoch + 1, owner = NULL, owned_since = NULL
RETURNING id, epoch, reservations, memory
;

-- watched
SELECT id, version, watched, website_id, delivery_task_id, registered_at, polls,
       last_pending_at, not_found_since,
       (SELECT min(give_up_at) FROM registration WHERE task = t.id AND state = 'watching')
FROM task t WHERE lane = $1 AND version > $2 AND watched ORDER BY version LIMIT $3
;

-- checkpoint
WITH held AS (
         UPDATE lane l SET reservations = coalesce($3, l.reservations),
                           memory = coalesce($4, l.memory)
         WHERE l.id = $1 AND l.epoch = $2 AND (l.owner IS NULL OR EXISTS (
        SELECT 1 FROM member m WHERE m.id = l.owner AND m.expires_at > clock_timestamp()))
            RETURNING l.id),
     saved AS (
         UPDATE task t SET polls = p.polls, last_pending_at = p.last_pending_at,
                           not_found_since = p.not_found_since
         FROM held, unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
             AS p (task, polls, last_pending_at, not_found_since)
         WHERE t.id = p.task AND t.lane = held.id AND t.outcome IS NULL)
     SELECT id FROM held
;

-- settle
WITH t AS (
             UPDATE task SET polls = $3, last_pending_at = $4, not_found_since = $5, outcome = $6,
                 settled_at = $7, log_id = $8, watched = FALSE
             WHERE id = $1 AND lane = $2 AND outcome IS NULL
             RETURNING id, lane, website_id, delivery_task_id)
         SELECT l.kind, l.account, t.website_id, t.delivery_task_id, r.id, r.client,
             r.created_at, r.metadata FROM t JOIN lane l ON l.id = t.lane
         JOIN registration r ON r.task = t.id AND r.state = 'watching' ORDER BY r.id
;

-- tell
WITH told AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[])
        AS i (id, client, body, back)),
log AS (
    INSERT INTO outcome_log (client, position)
    SELECT client, count(*) FROM told GROUP BY client ORDER BY client
    ON CONFLICT (client) DO UPDATE SET position = outcome_log.position + EXCLUDED.position
    RETURNING client, position)
UPDATE registration r SET state = 'delivering', body = told.body,
    outcome_position = log.position - told.back, next_attempt_at = $5
FROM told JOIN log ON log.client = told.client
WHERE r.id = told.id AND r.state = 'watching'
RETURNING r.id, r.callback_origin
;

-- due
WITH RECURSIVE shard (lane) AS (
    SELECT min(lane) FROM registration WHERE state = 'delivering' AND callback_origin = $1
    UNION ALL
    SELECT (SELECT min(lane) FROM registration
            WHERE state = 'delivering' AND callback_origin = $1 AND lane > s.lane)
    FROM shard s WHERE s.lane IS NOT NULL)
SELECT r.id, r.client, r.callback_url, r.body, r.attempts, r.round, r.next_attempt_at
FROM shard s CROSS JOIN LATERAL (
    SELECT id, client, callback_url, body, attempts, round, next_attempt_at
    FROM registration
    WHERE state = 'delivering' AND callback_origin = $1 AND lane = s.lane
    AND next_attempt_at <= $2
    ORDER BY next_attempt_at, id LIMIT $3) r
WHERE s.lane IS NOT NULL AND ($4::uuid IS NULL OR EXISTS (
    SELECT 1 FROM lane l JOIN member m ON m.id = l.owner
    WHERE l.id = s.lane AND l.owner = $4 AND m.expires_at > clock_timestamp()))
ORDER BY r.next_attempt_at, r.id LIMIT $3
;

-- record
WITH before AS (
    SELECT id, state = 'delivering' AND attempts = $2 AND round = $3 AS ours
    FROM registration WHERE id = $1 FOR NO KEY UPDATE),
moved AS (
    UPDATE registration r SET
        state           = CASE WHEN b.ours THEN $4  ELSE r.state END,
        next_attempt_at = CASE WHEN b.ours THEN $5  ELSE r.next_attempt_at END,
        attempts        = greatest(r.attempts, $6),
        round           = CASE WHEN b.ours THEN r.round + 1 ELSE r.round END,
        last_status     = CASE WHEN b.ours THEN $7  ELSE r.last_status END,
        last_error      = CASE WHEN b.ours THEN $8  ELSE r.last_error END,
        finished_at     = CASE WHEN b.ours THEN $9  ELSE r.finished_at END
    FROM before b WHERE r.id = b.id),
logged AS (
    INSERT INTO attempt
        (registration, number, at, duration_ms, status, error, reply_excerpt, verdict)
    SELECT b.id, $6, $10, $11, $7, $8, $12, $13 FROM before b
    ON CONFLICT (registration, number) DO UPDATE SET
        at = EXCLUDED.at, duration_ms = EXCLUDED.duration_ms, status = EXCLUDED.status,
        error = EXCLUDED.error, reply_excerpt = EXCLUDED.reply_excerpt,
        verdict = EXCLUDED.verdict)
SELECT ours FROM before
;

-- redeliver
WITH again AS (
             UPDATE registration
             SET state = 'delivering', next_attempt_at = $2, round = 0, finished_at = NULL
             WHERE id = $1 AND state IN ('delivering', 'delivered', 'undeliverable')
             RETURNING *),
         r AS (
             SELECT TRUE AS again, * FROM again
             UNION ALL
             SELECT FALSE, * FROM registration
             WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM again))
         SELECT r.id, r.client, l.kind, l.account, t.website_id, t.delivery_task_id,
             r.callback_url, r.metadata, r.state, r.created_at, r.give_up_at, r.body,
             r.attempts, r.next_attempt_at, r.last_status, r.last_error, r.again,
             r.callback_origin
         FROM r JOIN task t ON t.id = r.task JOIN lane l ON l.id = t.lane
;

-- forget
DELETE FROM registration
WHERE id = ANY($1) AND state IN ('delivered', 'cancelled') AND finished_at < $2
RETURNING task
;
