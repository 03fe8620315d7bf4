//! A daemon of the first version that spoke Postgres, as far as the database can tell.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

/// The schema that it made.
const SCHEMA: &str = include_str!("../../src/store/postgres/migrations/0001_initial.sql");
const BOOK: &str = "
    CREATE TABLE schema_migration (version BIGINT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL);
    INSERT INTO schema_migration VALUES (0, now()), (1, now())";
const STATEMENTS: &str = include_str!("first_version.sql");
/// The callback's bytes, which it made itself.
const BODY: &[u8] = br#"{"type":"delivery_task.succeeded","timestamp":"2026-11-22T10:00:00.123Z",
    "data":{"registration_id":"r","task":{"kind":"hire.website_delivery","account":"one",
    "website_id":"1","delivery_task_id":"2"},"outcome":"succeeded","delivery":null,"failure":null,
    "observed":{"registered_at":"2026-11-22T10:00:00Z","last_pending_at":null,
    "settled_at":"2026-11-22T10:00:00Z","polls":3,"log_id":null},"metadata":{}}}"#;

/// The daemon, which prepared its statements on the schema that it knew.
pub struct FirstVersion {
    client: Client,
    statements: BTreeMap<&'static str, Statement>,
}

impl FirstVersion {
    /// Makes its schema in an empty database, and starts.
    pub async fn start(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(BOOK).await.unwrap();
        client.batch_execute(SCHEMA).await.unwrap();
        let mut statements = BTreeMap::new();
        for part in STATEMENTS.split("\n;\n").filter(|part| !part.trim().is_empty()) {
            let (name, sql) = part.rsplit_once("\n-- ").unwrap().1.split_once('\n').unwrap();
            statements.insert(name, client.prepare(sql).await.unwrap());
        }
        assert_eq!(statements.len(), 11);
        Self { client, statements }
    }

    async fn ask(&self, name: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        let rows = self.client.query(&self.statements[name], params).await;
        rows.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    /// Registers a task, as `reg_ID` of the client `ats`.
    pub async fn register(&self, id: &str) {
        assert_eq!(self.try_register(id).await.unwrap(), 1);
        self.client.batch_execute("COMMIT").await.unwrap();
    }

    /// Why a registration is refused.
    pub async fn register_refused(&self, id: &str) -> String {
        let refused = self.try_register(id).await.expect_err("it is refused");
        self.client.batch_execute("ROLLBACK").await.unwrap();
        refused.as_db_error().unwrap().message().to_owned()
    }

    async fn try_register(&self, id: &str) -> Result<usize, tokio_postgres::Error> {
        let (registration, url) = (format!("reg_{id}"), "https://ats.example/hook");
        let (one, kind, site) = (["one"], ["hire.website_delivery"], ["7047318856652261676"]);
        let (ids, times) = ([registration.as_str()], [1_000_i64]);
        self.client.batch_execute("BEGIN").await.unwrap();
        let (one, kind, site, id) = (&one[..], &kind[..], &site[..], &[id][..]);
        let times = &times[..];
        self.ask("register_lanes_and_tasks", &[&one, &kind, &site, &id, &times]).await;
        let (clients, urls) = (&["ats"][..], &[url][..]);
        let (origins, hosts) = (&["https://ats.example:443"][..], &["ats.example"][..]);
        let (metadata, give_up) = (&["{}"][..], &[61_000_i64][..]);
        let made = self
            .client
            .query(
                &self.statements["register"],
                &[
                    &one,
                    &kind,
                    &site,
                    &id,
                    &times,
                    &&ids[..],
                    &clients,
                    &urls,
                    &origins,
                    &hosts,
                    &metadata,
                    &give_up,
                ],
            )
            .await?;
        Ok(made.len())
    }

    /// The rest of a task's life: polled, settled, tried twice, redelivered, delivered.
    pub async fn live(&self, id: &str) {
        let taken = self.ask("take", &[&"one", &"hire.website_delivery"]).await;
        let (lane, epoch): (i64, i64) = (taken[0].get(0), taken[0].get(1));
        let watched = self.ask("watched", &[&lane, &0_i64, &1_000_i64]).await;
        let ours = watched.iter().find(|row| row.get::<_, &str>(4) == id).expect("it is watched");
        let (task, none) = (ours.get::<_, i64>(0), None::<i64>);
        let (polls, tasks, nones) = (vec![1_i64], vec![task], vec![none]);
        let reserved = r#"[{"at":"2026-11-22T10:00:00.000Z","polls":50}]"#;
        let memory: Option<Vec<u8>> = None;
        let kept = [
            &lane as &(dyn ToSql + Sync),
            &epoch,
            &reserved,
            &memory,
            &tasks,
            &polls,
            &nones,
            &nones,
        ];
        assert_eq!(self.ask("checkpoint", &kept).await.len(), 1);
        let outcome = r#"{"outcome":"succeeded","delivery":null,"failure":null}"#;
        let log: Option<&str> = None;
        let settled = self
            .ask("settle", &[&task, &lane, &3_i64, &none, &none, &outcome, &5_000_i64, &log])
            .await;
        let (registration, client): (String, String) = (settled[0].get(4), settled[0].get(5));
        let told = self
            .ask(
                "tell",
                &[&vec![&registration], &vec![&client], &vec![BODY], &vec![0_i64], &5_000_i64],
            )
            .await;
        assert_eq!(told.len(), 1);
        self.attempt(&registration, (0, 0), Some(503), "delivering", Some(6_000)).await;
        self.attempt(&registration, (1, 1), Some(500), "undeliverable", None).await;
        let again = self.ask("redeliver", &[&registration, &7_000_i64]).await;
        assert_eq!(again[0].get::<_, &str>(8), "delivering");
        self.attempt(&registration, (2, 0), Some(200), "delivered", None).await;
    }

    async fn attempt(
        &self,
        id: &str,
        (attempts, round): (i64, i64),
        status: Option<i64>,
        state: &str,
        next: Option<i64>,
    ) {
        let nobody: Option<uuid::Uuid> = None;
        let origin = "https://ats.example:443";
        let due = self.ask("due", &[&origin, &9_000_i64, &100_i64, &nobody]).await;
        assert!(due.iter().any(|row| row.get::<_, &str>(0) == id), "{id} is due");
        let error: Option<&str> = None;
        let finished = next.is_none().then_some(5_020_i64);
        let (number, verdict) = (attempts + 1, if next.is_some() { "retry" } else { "over" });
        let recorded = self
            .ask(
                "record",
                &[
                    &id, &attempts, &round, &state, &next, &number, &status, &error, &finished,
                    &5_000_i64, &20_i64, &error, &verdict,
                ],
            )
            .await;
        assert!(recorded[0].get::<_, bool>(0), "the row was as it was read");
    }

    /// Forgets a registration that is over.
    pub async fn forget(&self, id: &str) -> usize {
        self.ask("forget", &[&vec![format!("reg_{id}")], &99_000_i64]).await.len()
    }
}
