INSERT INTO lane (account, kind, version)
SELECT 'tenant-' || n, 'hire.website_delivery', TASKS_OF_A_LANE FROM generate_series(0, 199) n;
INSERT INTO task (lane, website_id, delivery_task_id, watched, version, registered_at, outcome,
                  settled_at)
SELECT l.id, '7047318856652261676', 'old-' || l.account || '-' || n, n % 10 < 2, n, 1000,
       CASE WHEN n % 10 < 2 THEN NULL ELSE
         '{"outcome":"succeeded","delivery":null,"failure":null}' END,
       CASE WHEN n % 10 < 2 THEN NULL ELSE 2000 END
FROM lane l, generate_series(0, TASKS_OF_A_LANE - 1) n;
INSERT INTO registration (id, client, task, lane, callback_url, callback_origin, callback_host,
    metadata, state, created_at, give_up_at, body, outcome_position, next_attempt_at,
    finished_at)
SELECT 'reg_' || t.id, 'c' || t.lane % 10, t.id, t.lane, 'https://o' || t.lane % 20 || '/hook',
    'https://o' || t.lane % 20 || '.example:443', 'o' || t.lane % 20, '{}', s.state, 1000,
    61000, CASE WHEN s.state = 'watching' THEN NULL ELSE convert_to($j${"data":{"outcome":
    "succeeded","delivery":null,"failure":null,"task":{"kind":"hire.website_delivery","account":"a",
    "website_id":"1","delivery_task_id":"2"},"observed":{"registered_at":
    "2026-11-22T10:00:00Z","last_pending_at":null,"settled_at":"2026-11-22T10:00:00Z",
    "polls":3,"log_id":null}}}$j$ || repeat(' ', 300), 'UTF8') END,
    CASE WHEN s.state = 'watching' THEN NULL ELSE t.id END,
    CASE WHEN s.state = 'delivering' THEN 5000 + t.version END,
    CASE WHEN s.state = 'delivered' THEN 3000 END
FROM task t, LATERAL (SELECT CASE WHEN t.watched THEN 'watching'
    WHEN t.version % 10 = 2 THEN 'delivering' WHEN t.version % 10 = 3 THEN 'undeliverable'
    ELSE 'delivered' END AS state) s;
INSERT INTO outcome_log SELECT 'c' || n, 100000000 FROM generate_series(0, 9) n;
INSERT INTO attempt (registration, number, at, duration_ms, status, verdict)
SELECT id, 1, 3000, 20, 200, 'delivered' FROM registration WHERE state = 'delivered'
