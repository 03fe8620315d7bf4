//! What a store's URL says.

use std::path::PathBuf;

use url::Url;

use super::Sources;
use super::model::StoreUrl;
use super::reader::Bad;
use super::reference::World;
use super::secret::Secret;

impl StoreUrl {
    /// Reads a URL from the command line, where, as in `store.url`, it may be a reference to one:
    /// a password should not be seen in the list of processes.
    pub fn read(text: &str, sources: &Sources) -> Result<Self, String> {
        let told = |bad: Bad| match bad.help {
            Some(help) => format!("{}; {help}", bad.message),
            None => bad.message,
        };
        if text.starts_with("sqlite:") {
            return sqlite(text).map_err(told);
        }
        let world =
            World { env: &sources.env, credentials_dir: sources.credentials_dir.as_deref() };
        let found = world.resolve(text).map_err(told)?;
        parse(found.secret.expose()).map_err(told)
    }
}

/// Reads a URL that is no reference.
pub(super) fn parse(text: &str) -> Result<StoreUrl, Bad> {
    if text.starts_with("sqlite:") {
        return sqlite(text);
    }
    let is_postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if is_postgres && Url::parse(text).is_ok() {
        return Ok(StoreUrl::Postgres(Secret::new(text)));
    }
    Err(Bad::new("is not a store").help("write sqlite:PATH or postgres://user@host/database"))
}

/// Reads `sqlite:PATH`.
pub(super) fn sqlite(text: &str) -> Result<StoreUrl, Bad> {
    let bad = |message: &str| {
        Err(Bad::new(message).help("write sqlite:PATH, such as sqlite:/var/lib/outcomed/store.db"))
    };
    let path = text.strip_prefix("sqlite:").unwrap_or(text);
    let path = path.strip_prefix("//").unwrap_or(path);
    match path {
        "" => bad("names no file"),
        _ if path.starts_with(":memory:") => bad("must be a file: memory forgets outcomes"),
        _ if path.contains('?') => bad("takes no parameters after `?`"),
        _ => Ok(StoreUrl::Sqlite(PathBuf::from(path))),
    }
}
