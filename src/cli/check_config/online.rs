//! `--online`: does the world agree with the configuration? Nothing is written anywhere.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use rustix::fs::{Access, access};
use url::Url;

use crate::clock::SystemClock;
use crate::config::{Account, Config, StoreUrl};
use crate::source::PollError;
use crate::source::feishu::{Feishu, Http, Tickets};
use crate::store::postgres::{OpenError, Seen, look};

/// A name server that is slower than this would make every poll slow.
const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// A database that takes longer to log in to is not usable.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// The token call retries transient failures by itself; this is the end of it.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Enough that a long list does not take minutes, and few enough not to be refused.
const ACCOUNTS_AT_ONCE: usize = 8;
/// The first bytes of every `SQLite` 3 file.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// How one check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// As it should be; what was found.
    Ok(String),
    /// Not as it should be.
    Failed {
        /// What is wrong.
        what: String,
        /// What to do.
        advice: String,
    },
    /// Not tried, and why.
    Skipped(String),
}

impl Check {
    fn failed(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), advice: advice.into() }
    }
}

/// The checks that need an upstream.
#[async_trait]
pub trait OnlineChecks: Send + Sync {
    /// Fetches the account's token once and forgets it. Costs no poll.
    async fn token(&self, account: &Account) -> Check;
}

/// Asks the accounts' real upstreams.
pub struct Upstreams(pub Http);

#[async_trait]
impl OnlineChecks for Upstreams {
    async fn token(&self, account: &Account) -> Check {
        let clock = Arc::new(SystemClock::new());
        let feishu = Feishu::new(account, self.0.clone(), &Tickets::new(), clock, Arc::default());
        match feishu.check_token().await {
            Ok(()) => Check::Ok("Feishu issued one".to_owned()),
            Err(PollError::Account(problem)) if problem.reason == "no_app_ticket" => Check::Ok(
                "Feishu accepts app_id and app_secret; the ticket comes to the running daemon"
                    .to_owned(),
            ),
            Err(PollError::Account(problem)) => Check::failed(problem.reason, problem.message),
            Err(error) => Check::failed(error.to_string(), "try again in a moment"),
        }
    }
}

/// Runs all checks, each with a deadline; the results are in the order of the configuration.
pub async fn run(config: &Config, checks: &dyn OnlineChecks) -> Vec<(String, Check)> {
    let mut results = vec![("store".to_owned(), store(&config.store).await)];
    let accounts = config.accounts.iter().map(|account| check_account(account, checks));
    let mut accounts = futures_util::stream::iter(accounts).buffered(ACCOUNTS_AT_ONCE);
    while let Some(pair) = accounts.next().await {
        results.extend(pair);
    }
    results
}

async fn check_account(account: &Account, checks: &dyn OnlineChecks) -> [(String, Check); 2] {
    let host = dns(&account.base_url).await;
    let token = if matches!(host, Check::Failed { .. }) {
        Check::Skipped("its host has no address".to_owned())
    } else {
        let token = tokio::time::timeout(TOKEN_TIMEOUT, checks.token(account)).await;
        token.unwrap_or_else(|_| {
            Check::failed("no answer in time", "check the network and base_url")
        })
    };
    [("host", host), ("token", token)]
        .map(|(what, check)| (format!("account {} {what}", account.name), check))
}

async fn dns(url: &Url) -> Check {
    let (host, port) = (url.host_str().unwrap_or(""), url.port_or_known_default().unwrap_or(443));
    match lookup(host, port).await {
        Ok(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
            Check::Ok(format!("{host} is {}", addresses.join(", ")))
        }
        Err(why) => Check::failed(
            format!("{host} has no address: {why}"),
            "check base_url and this machine's name servers",
        ),
    }
}

async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let host = host.trim_matches(['[', ']']).to_owned();
    let lookup = tokio::net::lookup_host((host, port));
    let found = tokio::time::timeout(DNS_TIMEOUT, lookup).await;
    let found = found.map_err(|_| "the name server did not answer in time".to_owned())?;
    let mut addresses: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err("there is none".to_owned()) } else { Ok(addresses) }
}

async fn store(store: &StoreUrl) -> Check {
    match store {
        StoreUrl::Sqlite(path) => sqlite(path),
        StoreUrl::Postgres(url) => postgres(url.expose()).await,
    }
}

/// Looks without `SQLite`: even opening a database read-only may create files beside it.
fn sqlite(path: &Path) -> Check {
    let advice = "run check-config as the daemon's user, or give that user the directory";
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let (file, folder) = (path.display(), directory.display());
    if !directory.is_dir() {
        return Check::failed(
            format!("{folder} is not a directory"),
            "create it, or correct store.url",
        );
    }
    if access(&directory, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Check::failed(format!("{folder} cannot be written to"), advice);
    }
    if !path.exists() {
        return Check::Ok(format!("{file} does not exist yet and will be created"));
    }
    let mut magic = Vec::new();
    match File::open(path).and_then(|f| f.take(16).read_to_end(&mut magic)) {
        Err(error) => return Check::failed(format!("{file} cannot be read: {error}"), advice),
        // An empty file is a database without tables to SQLite.
        Ok(length) if length > 0 && magic != SQLITE_MAGIC => {
            return Check::failed(
                format!("{file} is not a SQLite database"),
                "correct store.url, or move that file away",
            );
        }
        Ok(_) => {}
    }
    if access(path, Access::WRITE_OK).is_err() {
        return Check::failed(format!("{file} cannot be written to"), advice);
    }
    Check::Ok(format!("{file} can be read and written"))
}

/// Logs in as the daemon would, and changes nothing.
async fn postgres(url: &str) -> Check {
    let looking = tokio::time::timeout(STORE_TIMEOUT, look(url)).await;
    let Ok(looked) = looking else {
        return Check::failed("no answer in time", "check store.url and that the database runs");
    };
    match looked {
        Err(error @ OpenError::Schema(_)) => Check::failed(error.to_string(), "upgrade outcomed"),
        Err(error @ OpenError::Url(_)) => Check::failed(error.to_string(), "correct store.url"),
        Err(error) => Check::failed(error.to_string(), "check store.url and the database's log"),
        Ok(Seen { schema: None, may_create: false, .. }) => Check::failed(
            "its user may not create tables, and there are none yet",
            "grant it CREATE on the schema",
        ),
        Ok(Seen { version, schema: None, .. }) => {
            Check::Ok(format!("Postgres {version}; its tables will be created"))
        }
        Ok(Seen { version, schema: Some(schema), .. }) => {
            Check::Ok(format!("Postgres {version} with schema {schema}"))
        }
    }
}
