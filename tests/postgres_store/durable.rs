//! Claims about what is on the disk when a verb returns, and about what is one transaction.

use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::outcome::{Outcome, Reason};
use outcomed::store::fleet::Fleet;
use outcomed::store::postgres::{OpenError, Postgres};
use outcomed::store::{
    Attempt, AttemptDetails, Checkpoint, Destination, Lanes, Next, Outbox, Registry, Reservation,
    Store,
};

use super::fixture::{Database, database, ending, new, success};

/// Every table notes, for each write, how its transaction is going to be committed.
fn note_commits(db: &Database) {
    db.sql("CREATE TABLE noted (written TEXT, commits TEXT)");
    db.sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO noted VALUES (TG_TABLE_NAME, current_setting('synchronous_commit'));
             RETURN NULL;
         END $$",
    );
    db.sql(
        "DO $$ DECLARE t TEXT; BEGIN
             FOR t IN SELECT tablename FROM pg_tables
                      WHERE schemaname = 'public' AND tablename <> 'noted' LOOP
                 EXECUTE format('CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON %I
                                 FOR EACH STATEMENT EXECUTE FUNCTION note()', t);
             END LOOP;
         END $$",
    );
}

fn attempt() -> Attempt {
    Attempt {
        number: 1,
        at: Timestamp(6_000),
        duration: Duration::ZERO,
        status: Some(200),
        error: None,
        reply_excerpt: None,
        verdict: "delivered".into(),
        details: AttemptDetails::default(),
    }
}

/// A daemon's whole day.
async fn live(db: &Database) {
    let a = db.daemon("a").await;
    let lease = a.claim("one").await.unwrap().lane.lease;
    let task = a.watch(&lease, "one", "t1").await;
    let checkpoint = Checkpoint {
        reservations: Some(vec![Reservation { at: Timestamp(2_000), polls: 8, boot: None }]),
        ..Checkpoint::default()
    };
    a.store.checkpoint(&lease, checkpoint).await.unwrap();
    a.store.beat(&a.me, &[lease]).await.unwrap();
    a.store.settle(&lease, ending(task), success()).await.unwrap();
    let ats = Destination::new("ats", "https://ats.example:443");
    let delivery = a.store.due(&ats, Timestamp(9_000), 1).await.unwrap().remove(0);
    assert!(a.store.record_attempt(&delivery, attempt(), Next::Delivered).await.unwrap());
    a.store.redeliver("reg_t1", Timestamp(7_000)).await.unwrap();
    let late = a.watch(&lease, "one", "t2").await;
    let timed_out = Outcome::unresolved(Reason::TimedOut);
    a.store.give_up(&lease, ending(late), timed_out).await.unwrap();
    a.store.cancel("reg_t2", Timestamp(8_000)).await.unwrap();
    a.store.ping(Timestamp(9_000)).await.unwrap();
    a.store.release(&lease).await.unwrap();
    a.store.leave(&a.me).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_asynchronously_whatever_the_database_is_set_to() {
    let db = database();
    drop(db.open().await);
    note_commits(&db);
    let name = db.url.rsplit('/').next().unwrap();
    for setting in ["on", "off"] {
        db.sql(&format!("ALTER DATABASE {name} SET synchronous_commit = {setting}"));
        live(&db).await;
        let found = db.sql("SELECT string_agg(DISTINCT commits, ' ') FROM noted");
        assert_eq!(found, "on", "with {setting}");
        for table in ["registration", "task", "lane", "member", "attempt", "outcome_log"] {
            let writes = format!("SELECT count(*) > 0 FROM noted WHERE written = '{table}'");
            assert_eq!(db.sql(&writes), "t", "{table}");
        }
        db.sql("TRUNCATE noted, registration, task, lane, member, outcome_log CASCADE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_and_the_deliveries_that_it_makes_due_are_one_transaction() {
    let db = database();
    let a = db.daemon("a").await;
    let lease = a.claim("one").await.unwrap().lane.lease;
    for client in ["crm", "erp"] {
        a.store.register(vec![new(client, client, "one", "t1")]).await.unwrap();
    }
    let task = a.watch(&lease, "one", "t1").await;
    a.store.settle(&lease, ending(task), success()).await.unwrap();
    let rows = "FROM (SELECT xmin FROM task UNION ALL SELECT xmin FROM registration
                      UNION ALL SELECT xmin FROM outcome_log) written";
    assert_eq!(db.sql(&format!("SELECT count(*), count(DISTINCT xmin::text) {rows}")), "7|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settling_that_fails_midway_leaves_nothing_and_can_be_done_again() {
    let db = database();
    let a = db.daemon("a").await;
    let lease = a.claim("one").await.unwrap().lane.lease;
    let task = a.watch(&lease, "one", "t1").await;
    db.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation';
         END $$",
    );
    db.sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON registration
         FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    // More often than there are connections: none of them keeps anything of it.
    for _ in 0..20 {
        a.store.settle(&lease, ending(task), success()).await.unwrap_err();
        a.store.ping(Timestamp(9_000)).await.unwrap();
    }
    assert_eq!(db.sql("SELECT outcome IS NULL AND watched FROM task"), "t");
    db.sql("DROP TRIGGER refuse ON registration");
    a.store.settle(&lease, ending(task), success()).await.unwrap();
    assert_eq!(db.sql("SELECT state FROM registration"), "delivering");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_and_its_version_are_one_transaction() {
    let db = database();
    db.sql("CREATE TABLE schema_migration (version BIGINT PRIMARY KEY, applied_at TIMESTAMPTZ)");
    db.sql("ALTER TABLE schema_migration ADD CONSTRAINT refuse CHECK (version = 0)");
    let refused = Postgres::open(&db.url).await.err().expect("no version can be written");
    assert!(matches!(refused, OpenError::Away(_)), "{refused}");
    assert_eq!(db.sql("SELECT count(*) FROM pg_class WHERE relname = 'registration'"), "0");
    db.sql("ALTER TABLE schema_migration DROP CONSTRAINT refuse");
    db.open().await.ping(Timestamp(1)).await.unwrap();
}
