//! Claims about opening the store.

use std::time::Duration;

use futures_util::future::join_all;
use outcomed::clock::Timestamp;
use outcomed::store::Store;
use outcomed::store::postgres::{OpenError, Postgres, SchemaError};
use tokio::time::Instant;

use super::fixture::database;

async fn refused(url: &str) -> OpenError {
    let started = Instant::now();
    let error = Postgres::open(url).await.err().expect("it must be refused");
    assert!(started.elapsed() < Duration::from_secs(10), "at once, not after waiting for it");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_start_together_make_the_schema_once() {
    let db = database();
    let stores = join_all((0..8).map(|_| Postgres::open(&db.url))).await;
    for store in stores {
        store.unwrap().ping(Timestamp(1)).await.unwrap();
    }
    assert_eq!(db.sql("SELECT string_agg(version::text, ' ') FROM schema_migration"), "0 1 2 3 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let db = database();
    drop(db.open().await);
    db.sql("INSERT INTO schema_migration VALUES (999, now())");
    let error = refused(&db.url).await;
    assert!(matches!(error, OpenError::Schema(SchemaError::Newer { found: 999, .. })), "{error}");
    assert_eq!(db.sql("SELECT max(version) FROM schema_migration"), "999");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_will_never_have_us_says_why_at_once() {
    let db = database();
    let told = refused(&db.url.replace("/test_", "/no_such_")).await.to_string();
    assert!(told.contains("does not exist") && told.contains("check"), "{told}");
    let told = refused(&db.url.replace("postgres@", "nobody:hunter2@")).await.to_string();
    assert!(told.contains("nobody") && !told.contains("hunter2"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_a_way_in() {
    let db = database();
    let store = Postgres::open(&db.cluster.by_socket(&db.url)).await.unwrap();
    store.ping(Timestamp(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_connection_is_a_verified_one() {
    let db = database();
    let authority = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let certificate = db.cluster.write("server.pem", &authority.cert.pem());
    let key = db.cluster.write("server.key", &authority.signing_key.serialize_pem());
    for (setting, value) in [("ssl_cert_file", &certificate), ("ssl_key_file", &key)] {
        db.sql(&format!("ALTER SYSTEM SET {setting} = '{}'", value.display()));
    }
    db.sql("ALTER SYSTEM SET ssl = on");
    db.sql("SELECT pg_reload_conf()");

    let base = db.url.replace("127.0.0.1", "localhost");
    let root = certificate.display().to_string().replace('/', "%2F");
    let trusting = format!("{base}?sslmode=verify-full&sslrootcert={root}");
    let store = loop {
        // The server reads its settings again when it gets round to it.
        match Postgres::open(&trusting).await {
            Ok(store) => break store,
            Err(error) => assert!(error.to_string().contains("TLS"), "{error}"),
        }
    };
    store.ping(Timestamp(1)).await.unwrap();
    let encrypted = "SELECT count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE ssl AND datname = current_database()";
    assert_eq!(db.sql(encrypted), "t");
    // Another authority's word is not enough.
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let other = db.cluster.write("other.pem", &other.cert.pem());
    let root = other.display().to_string().replace('/', "%2F");
    let suspicious = format!("{base}?sslmode=require&sslrootcert={root}");
    let told = refused(&suspicious).await.to_string();
    assert!(told.contains("certificate"), "{told}");
}
