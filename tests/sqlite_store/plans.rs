//! No statement of the embedded store looks at more rows than a bound: held for every one that
//! stands in its source, and for every verb, among many rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::{SystemClock, Timestamp};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{
    Destination, DestinationPlace, Filter, Lanes, NewRedelivery, Old, Outbox, RedeliveryFilter,
    Registry, Store,
};
use outcomed::task::{Kind, LaneName, State};
use rusqlite::Connection;
use tokio::time::Instant;

/// One client has nearly all of it and one a thousandth, on two accounts, in every state.
const FILL: &str = include_str!("fill.sql");

/// `SQLITE_ROWS=1000000 cargo test --release --test sqlite_store every_statement` is the whole size.
fn rows() -> u32 {
    std::env::var("SQLITE_ROWS").map_or(300_000, |text| text.parse().expect("a number"))
}

/// What may be read from end to end: there is a handful of each, or it is what was just selected.
const SMALL: [&str; 13] = [
    "l",
    "lane",
    "notice",
    "redelivery",
    "registration_count",
    "app_ticket",
    "rewatch",
    "json_each",
    "CONSTANT ROW",
    "r",
    "heartbeat",
    "(subquery",
    "gone_callback",
];

/// What may be sorted: one registration's newest attempts, one task's registrations, and what runs.
const SORTED: [&str; 4] =
    ["attempt WHERE registration = ?1", "WHERE task = ?1", "FROM redelivery", "FROM rewatch"];

/// What may be counted in one go: what runs, of one owner.
const COUNTED: [&str; 1] = ["FROM rewatch WHERE state = 'running' AND owner"];

/// A file with the newest schema and as many rows as are asked for.
fn filled(path: &Path, rows: u32) {
    drop(open(path));
    let db = Connection::open(path).unwrap();
    // Its writer closes the file in its own time.
    let begun = Instant::now();
    while db.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF").is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the file is not closed");
        std::thread::sleep(Duration::from_millis(10));
    }
    let made = |kinds: &str| -> Vec<(String, String, String)> {
        let sql = format!(
            "SELECT type, name, sql FROM sqlite_schema WHERE type IN ({kinds}) AND sql IS NOT NULL"
        );
        let mut statement = db.prepare(&sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    };
    // Rows first: an index of a million is made faster than it is kept.
    let later = made("'index', 'trigger'");
    for (kind, name, _) in &later {
        db.execute_batch(&format!("DROP {kind} {name}")).unwrap();
    }
    db.execute_batch(&FILL.replace("ROWS", &rows.to_string())).unwrap();
    for (_, _, sql) in &later {
        db.execute_batch(sql).unwrap();
    }
}

fn open(path: &Path) -> Sqlite {
    Sqlite::open(path, Arc::new(SystemClock::new()), Arc::new(|_, _| {})).unwrap()
}

/// The strings in a file of Rust, but for those in its tests.
fn strings(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.fold(String::new(), |code, line| code + line + "\n");
    let mut strings = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find('"') {
        let mut string = String::new();
        let mut chars = rest[at + 1..].char_indices();
        let mut end = rest.len();
        while let Some((n, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1 + n + 1;
                    break;
                }
                '\\' => drop(chars.next()),
                c => string.push(c),
            }
        }
        strings.push(string);
        rest = &rest[end..];
    }
    strings
}

/// Every statement of the store by its text, with what stands for its holes.
fn statements() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sqlite");
    let mut all = Vec::new();
    let mut named = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // A move reads every row, of a store that no daemon has open; a schema is made once.
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        if !is_rust || ["export.rs", "schema.rs"].contains(&name.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for piece in text.split("const ").skip(1) {
            if let Some((name, _)) = piece.split_once(": &str") {
                let text = strings(piece).into_iter().next().unwrap_or_default();
                named.insert(format!("{{{name}}}"), text);
            }
        }
        all.extend(strings(&text));
    }
    let words = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ", "{RE"];
    let is_sql = |text: &String| {
        let text = text.trim_start();
        words.iter().any(|word| text.starts_with(word)) && text.contains(' ')
    };
    let mut statements = Vec::new();
    for mut text in all.into_iter().filter(is_sql) {
        for (hole, with) in &named {
            text = text.replace(hole, with);
        }
        let holes: &[&str] = if text.contains("WHERE {} AND") {
            &["state = 'undeliverable'", "state IN ('delivered', 'cancelled')"]
        } else if text.contains("/* AND */") {
            statements.push(text.replace("/* AND */", "AND watched = 1"));
            &[""]
        } else {
            &[""]
        };
        statements.extend(holes.iter().map(|with| text.replace("{}", with)));
    }
    // What `list` puts together is held by its times, below.
    statements.retain(|text| !text.trim_end().ends_with(',') && !text.contains("LIMIT {FEW}"));
    statements
}

fn plan(db: &Connection, sql: &str) -> Vec<String> {
    let mut statement =
        db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let rows = statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>();
    rows.unwrap()
}

fn assert_indexed(db: &Connection) {
    let statements = statements();
    assert!(statements.len() > 60, "{} statements: the source is not read", statements.len());
    let mut bad = Vec::new();
    for sql in &statements {
        let counts = sql.contains("count(*)") && !COUNTED.iter().any(|of| sql.contains(of));
        if counts {
            bad.push(format!("{sql}\n  counts without a bound"));
        }
        for step in plan(db, sql) {
            let scanned = step.strip_prefix("SCAN ");
            let small = scanned.is_none_or(|table| SMALL.iter().any(|it| table.starts_with(it)));
            let few = SORTED.iter().any(|of| sql.contains(of));
            let sorts = step.contains("TEMP B-TREE") && !few;
            if !small || sorts {
                bad.push(format!("{sql}\n  {step}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// How long it takes when nothing else is in the way: tried again if it seems long.
async fn time<T, F: Future<Output = T>>(most: Duration, verb: impl Fn() -> F) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        drop(verb().await);
        least = least.min(begun.elapsed());
        if least < most {
            break;
        }
    }
    least
}

/// How long it takes to look at every row once.
fn scan(db: &Connection) -> Duration {
    let begun = Instant::now();
    let all = "SELECT count(metadata || callback_url) FROM registration NOT INDEXED";
    let rows: u32 = db.query_row(all, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, self::rows());
    begun.elapsed()
}

/// Every combination of a filter's parts, each common or rare.
fn filters() -> Vec<Filter> {
    let some = |name: &str| Some(name.to_owned());
    let mut filters = Vec::new();
    for client in [None, some("big"), some("small")] {
        for state in [None].into_iter().chain(State::ALL.map(Some)) {
            for account in [None, some("default"), some("rare")] {
                for host in [None, some("big.example"), some("none.example")] {
                    for delivery_task_id in [None, some("shared")] {
                        filters.push(Filter {
                            client: client.clone(),
                            state,
                            account: account.clone(),
                            callback_host: host.clone(),
                            delivery_task_id,
                        });
                    }
                }
            }
        }
    }
    filters
}

/// Nothing takes as long as a third of the rows.
async fn assert_quick(store: &Sqlite, scan: Duration) {
    let most = scan / 3;
    let quick = |what: &str, took: Duration| {
        assert!(took < most, "{what} took {took:?}, and looking at every row {scan:?}");
    };
    for filter in filters() {
        quick(&format!("{filter:?}"), time(most, || store.list(&filter, None, 50)).await);
    }
    let lane = LaneName { account: "default".into(), kind: Kind::HireWebsiteDelivery };
    let taken = store.take(&lane, Timestamp(0)).await.unwrap();
    let lease = taken.lease;
    quick("watched", time(most, || store.watched(&lease, 0, 1_000)).await);
    quick("changes", time(most, || store.changes(&lease, taken.version - 1_000, 1_000)).await);
    quick("lanes", time(most, || store.lanes()).await);
    quick("counts", time(most, || store.counts()).await);
    let first = DestinationPlace::default();
    quick("destinations", time(most, || store.destinations(&first, 1_000)).await);
    quick("outcomes", time(most, || store.outcomes("big", 100_000, 100)).await);
    let to = Destination::new("big", "https://big.example:443");
    quick("due", time(most, || store.due(&to, Timestamp(90_000_000), 50)).await);
    quick("asked", time(most, || store.asked(Timestamp(90_000_000), 50)).await);
    quick("prune", time(most, || store.prune(Timestamp(90_000_000), 50)).await);
    for old in [Old::Attempts, Old::Undeliverable, Old::Redeliveries] {
        quick("forget", time(most, || store.forget(old, Timestamp(90_000_000), 50)).await);
    }
    for (n, state) in [State::Delivered, State::Undeliverable].into_iter().enumerate() {
        let filter = RedeliveryFilter {
            client: Some("nobody".into()),
            state,
            since: Timestamp(0),
            until: Timestamp(90_000_000),
            callback_host: None,
        };
        let (id, owner) = (format!("rdl_{n}"), format!("o{n}"));
        let new = NewRedelivery { id, owner, filter, created_at: Timestamp(1) };
        store.begin_redelivery(new).await.unwrap();
        let only = [format!("o{}", 1 - n)];
        quick("step", time(most, || store.step_redelivery(&only, 50, Timestamp(2))).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_is_indexed_and_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let begun = Instant::now();
    tokio::task::block_in_place(|| filled(&path, rows()));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(240), "{took:?} to fill");
    let db = Connection::open(&path).unwrap();
    assert_indexed(&db);
    let scan = scan(&db);
    assert_quick(&open(&path), scan).await;
}
