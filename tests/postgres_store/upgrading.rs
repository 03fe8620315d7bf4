//! Claims about upgrades: daemons of two versions on one database, the newer schema under both.

use outcomed::clock::Timestamp;
use outcomed::outcome::Reason;
use outcomed::store::fleet::Fleet;
use outcomed::store::postgres::{OpenError, Postgres, SchemaError};
use outcomed::store::{
    Checkpoint, Destination, Filter, Lanes, NewRewatch, Next, Outbox, Progress, Registered,
    Registry, RewatchFilter, Rewatches, Store,
};
use outcomed::task::State;

use super::first_version::FirstVersion;
use super::fixture::{database, ending, lane, new, success};

/// A registration whose time was over in the first version.
const UNRESOLVED: &str = r#"
    INSERT INTO task (lane, website_id, delivery_task_id, watched, version, registered_at)
        SELECT id, '7047318856652261676', 'u', FALSE, 0, 1000 FROM lane;
    INSERT INTO registration (id, client, task, lane, callback_url, callback_origin, callback_host,
            metadata, state, created_at, give_up_at, body, outcome_position, finished_at)
        SELECT 'reg_u', 'crm', id, lane, 'https://crm.example/hook', 'https://crm.example:443',
            'crm.example', '{}', 'delivered', 1000, 61000, convert_to(
                '{"type":"delivery_task.unresolved","timestamp":"1970-01-01T00:01:01.123Z",'
                || '"data":{"failure":{"reason":"timed_out"},"metadata":{"a":"\u0000"}}}', 'UTF8'),
            1, 62000
        FROM task WHERE delivery_task_id = 'u'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_of_the_first_version_works_on_while_newer_ones_come() {
    let db = database();
    let old = FirstVersion::start(&db.url).await;
    for id in ["a", "b", "c"] {
        old.register(id).await;
    }
    old.live("a").await;
    db.sql(UNRESOLVED);
    // A newer daemon starts: the schema changes under the older one's prepared statements.
    let new_one = db.open().await;
    let a = new_one.find("reg_a").await.unwrap().unwrap();
    assert_eq!((a.state, a.delivery.attempts), (State::Delivered, 3));
    let attempts = new_one.attempts("reg_a").await.unwrap();
    assert_eq!(
        attempts.iter().map(|a| a.status).collect::<Vec<_>>(),
        [Some(503), Some(500), Some(200)]
    );
    assert_eq!(attempts[0].details, outcomed::store::AttemptDetails::default());

    let filter = RewatchFilter {
        client: None,
        account: Some("one".into()),
        reason: Some(Reason::TimedOut),
        since: Timestamp(61_123),
        until: Timestamp(61_124),
    };
    let (id, owner) = ("rwt_1".into(), "ops".into());
    let bulk = NewRewatch { id, owner, filter, created_at: Timestamp(70_000) };
    assert_eq!(new_one.begin_rewatch(bulk).await.unwrap().unwrap().matched, 1);

    // What one begins, the other goes on with, both ways.
    old.live("b").await;
    assert_eq!(new_one.find("reg_b").await.unwrap().unwrap().state, State::Delivered);
    let same = new("again", "ats", "one", "c");
    let again = new_one.register(vec![same]).await.unwrap().remove(0);
    assert!(matches!(again, Registered::Existing(c) if c.id == "reg_c"));
    new_one.register(vec![new("d", "ats", "one", "d")]).await.unwrap();
    old.live("c").await;
    old.live("d").await;
    // A registration with the older one is refused since the same can be registered again once it
    // is unresolved; with nothing stored.
    assert!(old.register_refused("e").await.contains("ON CONFLICT"));
    assert!(new_one.find("reg_e").await.unwrap().is_none());
    let told = new_one.outcomes("ats", 0, 100).await.unwrap();
    assert_eq!(
        told.iter().map(|(n, r)| (*n, r.id.as_str())).collect::<Vec<_>>(),
        [(1, "reg_a"), (2, "reg_b"), (3, "reg_c"), (4, "reg_d")]
    );
    assert_eq!(old.forget("a").await, 1);
    assert_eq!(new_one.prune(Timestamp(99_000), 10).await.unwrap(), 4);
}

/// What a later version may add, to every table that this one uses.
const LATER: &str = "
    DO $$ DECLARE name TEXT; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE format('ALTER TABLE %I ADD COLUMN later_a TEXT', name);
            EXECUTE format('ALTER TABLE %I ADD COLUMN later_b BIGINT NOT NULL DEFAULT 7', name);
            EXECUTE format('CREATE INDEX ON %I (later_b)', name);
        END LOOP;
    END $$;
    CREATE TABLE later (id BIGINT PRIMARY KEY, registration TEXT REFERENCES registration (id));
    INSERT INTO schema_migration (version, applied_at)
        SELECT max(version) + 1, now() FROM schema_migration";

#[tokio::test(flavor = "multi_thread")]
async fn this_version_works_on_under_a_later_schema_and_refuses_to_start_on_it() {
    let db = database();
    let a = db.daemon("a").await;
    let lease = a.claim("one").await.unwrap().lane.lease;
    let life = async |id: &str| {
        let task = a.watch(&lease, "one", id).await;
        let progress = vec![(task, Progress { polls: 1, ..Progress::default() })];
        let checkpoint = Checkpoint { progress, memory: Some(vec![1]), ..Checkpoint::default() };
        a.store.checkpoint(&lease, checkpoint).await.unwrap();
        a.store.settle(&lease, ending(task), success()).await.unwrap();
        a.store.register(vec![new(&format!("{id}-late"), "ats2", "one", id)]).await.unwrap();
        for client in ["ats", "ats2"] {
            let origin = format!("https://{client}.example:443");
            let due =
                a.store.due(&Destination::new(client, origin), Timestamp(9_000), 10).await.unwrap();
            let attempt = attempt(due[0].attempts + 1);
            assert!(a.store.record_attempt(&due[0], attempt, Next::Delivered).await.unwrap());
        }
        let id = format!("reg_{id}");
        a.store.redeliver(&id, Timestamp(9_000)).await.unwrap().unwrap();
        a.store.cancel(&id, Timestamp(9_500)).await.unwrap().unwrap();
        assert_eq!(a.store.attempts(&id).await.unwrap().len(), 1);
        assert!(!a.store.list(&Filter::default(), None, 10).await.unwrap().items.is_empty());
        a.store.ping(Timestamp(1)).await.unwrap();
        assert_eq!(a.store.beat(&a.me, &[lease]).await.unwrap().lost, []);
        assert_eq!(a.store.prune(Timestamp(99_000), 10).await.unwrap(), 2);
    };
    life("before").await;
    db.sql(LATER);
    // More often than Postgres tries plans for the values at hand before it settles on one.
    for n in 0..7 {
        life(&format!("after-{n}")).await;
    }
    let refused = Postgres::open(&db.url).await.err().unwrap();
    assert!(matches!(refused, OpenError::Schema(SchemaError::Newer { .. })), "{refused}");
    assert!(refused.to_string().contains("run the newer outcomed"), "{refused}");
    // It hands over as ever.
    a.store.release(&lease).await.unwrap();
    assert!(a.store.claim(&a.me, &lane("one")).await.unwrap().is_some());
    a.store.leave(&a.me).await.unwrap();
}

fn attempt(number: u32) -> outcomed::store::Attempt {
    outcomed::store::Attempt {
        number,
        at: Timestamp(5_000),
        duration: std::time::Duration::from_millis(20),
        status: Some(200),
        error: None,
        reply_excerpt: None,
        verdict: "delivered".into(),
        details: outcomed::store::AttemptDetails::default(),
    }
}

/// What was decided on knowingly, with what it means for older daemons: `docs/fleet.md` says so.
const DECIDED: [&str; 4] = [
    // They refuse registrations: their `ON CONFLICT` names the index that this replaces.
    "CREATE UNIQUE INDEX registration_once ON registration (task, client, callback_url)\n    \
     WHERE state <> 'cancelled' AND unresolved IS NULL",
    "UPDATE registration r SET first_attempt_at =",
    // Columns that they do not know, and outcomes that they read as not there.
    "UPDATE registration\nSET unresolved = ",
    "UPDATE task SET outcome = NULL",
];

/// What makes the two claims above true of the next migration too.
#[test]
fn migrations_only_add() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/postgres/migrations");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap()).collect();
        // What a function does inside is its own: a trigger that only counts fails nobody.
        let code: String = code.join("\n").split("$$").step_by(2).collect();
        let made = |statement: &str| {
            let table =
                statement.strip_prefix("INSERT INTO ").and_then(|s| s.split_whitespace().next());
            table.is_some_and(|table| code.contains(&format!("CREATE TABLE {table} ")))
                || statement.starts_with("CREATE FUNCTION ")
                || statement.starts_with("CREATE TRIGGER ")
        };
        for statement in code.split(';').map(str::trim).filter(|s| !s.is_empty()) {
            let adds = ["CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX ", "DROP INDEX "];
            let column = statement.starts_with("ALTER TABLE ")
                && statement.contains(" ADD COLUMN ")
                && (!statement.contains("NOT NULL") || statement.contains("DEFAULT"))
                && !["DROP", "RENAME", "TYPE", "CHECK", "UNIQUE"]
                    .iter()
                    .any(|w| statement.contains(w));
            let unique = statement.starts_with("CREATE UNIQUE INDEX ")
                && !path.ends_with("0001_initial.sql");
            let decided = DECIDED.iter().any(|known| statement.starts_with(known));
            let ok = column || made(statement) || adds.iter().any(|add| statement.starts_with(add));
            assert!(
                ok && !unique || decided,
                "{}: an older daemon may fail on `{statement}`",
                path.display()
            );
        }
    }
    assert!(seen >= 2);
}
