INSERT INTO lane (id, account, kind, version) VALUES
    (1, 'default', 'hire.website_delivery', ROWS), (2, 'rare', 'hire.website_delivery', ROWS);
-- One in 10,000 is of the rare account; one in 100 is watched; 5,000 tasks share one name.
INSERT INTO task (id, lane, website_id, delivery_task_id, watched, version, registered_at, outcome,
                  settled_at)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ROWS)
SELECT i, iif(i % 10000 = 3, 2, 1), '70473188' || i, iif(i % 200 = 9, 'shared', 't' || i),
       i % 100 = 0, i, 1000,
       iif(i % 100 = 0, NULL, '{"outcome":"succeeded","delivery":null,"failure":null}'),
       iif(i % 100 = 0, NULL, 2000)
FROM n;
INSERT INTO registration (id, client, task, callback_url, callback_origin, callback_host, metadata,
    state, created_at, give_up_at, body, outcome_position, next_attempt_at, finished_at)
SELECT printf('reg_%08d', id), iif(id % 1000 = 7, 'small', 'big'), id, 'https://big.example/hook',
       'https://big.example:443', 'big.example', '{}', state, 1000, 61000,
       iif(state = 'watching', NULL, CAST('{"data":{"outcome":"succeeded","delivery":null,
           "failure":null,"task":{"kind":"hire.website_delivery","account":"a","website_id":"1",
           "delivery_task_id":"2"},"observed":{"registered_at":"2026-11-22T10:00:00Z",
           "last_pending_at":null,"settled_at":"2026-11-22T10:00:00Z","polls":3,"log_id":null}}}'
           AS BLOB)),
       iif(state = 'watching', NULL, id), iif(state = 'delivering', 5000 + id, NULL),
       iif(state IN ('delivered', 'undeliverable', 'cancelled'), 3000 + id, NULL)
FROM (SELECT id, CASE WHEN id % 100 = 0 THEN 'watching' WHEN id % 100 = 1 THEN 'delivering'
                      WHEN id % 100 < 4 THEN 'undeliverable' WHEN id % 100 < 6 THEN 'cancelled'
                      ELSE 'delivered' END AS state FROM task);
INSERT INTO attempt (registration, number, at, duration_ms, status, verdict)
SELECT id, 1, finished_at, 20, 200, 'delivered' FROM registration
WHERE state = 'delivered' AND task % 10 = 7;
