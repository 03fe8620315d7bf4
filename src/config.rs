//! Validated settings. [`load`] reads them in layers; everything else here is plain values.
//!
//! Built-in defaults < `config.toml` < environment (`OUTCOMED_HTTP__LISTEN`) < flags. What is
//! wrong is told all at once, each with its key, its file and line, and what to do.

mod accounts;
mod callback_allow;
mod clients;
mod errors;
mod excerpt;
mod field;
mod layers;
pub mod model;
mod reader;
mod reference;
mod reload;
pub mod secret;
mod secrets;
mod sections;
mod signing_key;
mod store_url;
mod suggest;
mod tls;
mod toml_file;
mod values;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use errors::{ConfigError, ConfigErrors, Place};
pub use excerpt::Excerpt;
pub use layers::Overrides;
pub use model::*;
pub use reload::{reloaded, restart_needed};
pub use secrets::SecretUse;
pub use signing_key::SigningKey;
pub use tls::{CaFile, TlsIdentity};

use layers::Layers;
use reader::Reader;
use reference::World;
use secret::Secret;
use secrets::Secrets;
use toml_file::TomlFile;

/// A configuration is a few kilobytes; a wrong path (a device, a log) must not fill the memory.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where an installed service keeps its configuration.
const SYSTEM_FILE: &str = "/etc/outcomed/config.toml";
/// Where someone trying it out keeps it.
const LOCAL_FILE: &str = "config.toml";

/// What settings are read from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file, which must then exist. `None`: no file.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// `$CREDENTIALS_DIRECTORY`, where systemd puts credentials.
    pub credentials_dir: Option<PathBuf>,
    /// The flags.
    pub overrides: Overrides,
}

impl Sources {
    /// What this process was given. The file is `--config`, else `$OUTCOMED_CONFIG`, else
    /// `/etc/outcomed/config.toml` if it exists, else `./config.toml` if it exists, else none.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, overrides: Overrides) -> Self {
        let env: BTreeMap<String, String> = std::env::vars_os()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            })
            .collect();
        let named = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let file = file.or_else(|| named("OUTCOMED_CONFIG")).or_else(|| {
            [SYSTEM_FILE, LOCAL_FILE].map(PathBuf::from).into_iter().find(|path| path.exists())
        });
        Self { file, credentials_dir: named("CREDENTIALS_DIRECTORY"), env, overrides }
    }
}

/// Settings that were read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
    /// The file they came from, if any.
    pub file: Option<PathBuf>,
    /// Where each secret came from.
    pub secrets: Vec<SecretUse>,
    /// What systemd passed for each `credential:NAME`, by name.
    pub credentials: BTreeMap<String, Secret>,
}

/// Reads, merges and checks all settings, and follows their references to secrets.
pub fn load(sources: Sources) -> Result<Loaded, ConfigErrors> {
    let Sources { file, env, credentials_dir, overrides } = sources;
    let parsed = file.as_deref().map(read_file).transpose().map_err(ConfigErrors::new)?;
    let layers = Layers::merge(parsed, &env, overrides)?;
    let secrets = Secrets::new(World { env: &env, credentials_dir: credentials_dir.as_deref() });
    let reader = Reader::new(&layers);
    let config = read_config(&reader, &secrets);
    let (errors, mut warnings) = reader.finish();
    let (secrets, credentials) = secrets.into_uses();
    warnings.extend(file.as_deref().and_then(|file| warn_of_open_file(file, &secrets)));
    match config {
        Some(config) if errors.is_empty() => {
            Ok(Loaded { config, warnings, file, secrets, credentials })
        }
        _ => Err(ConfigErrors::new(errors)),
    }
}

/// `None` only where an error was reported.
fn read_config(reader: &Reader<'_>, secrets: &Secrets<'_>) -> Option<Config> {
    let root = reader.root();
    let http = sections::http(&root);
    let store = sections::store(&root, secrets);
    let accounts = accounts::read(&root, secrets);
    let clients = clients::read(&root, secrets);
    let polling = sections::polling(&root);
    let delivery = sections::delivery(&root);
    let retention = sections::retention(&root);
    let log = sections::log(&root);
    root.finish();
    Some(Config {
        http: http?,
        store: store?,
        accounts: accounts?,
        clients: clients?,
        polling: polling?,
        delivery: delivery?,
        retention: retention?,
        log: log?,
    })
}

fn read_file(path: &Path) -> Result<TomlFile, Vec<ConfigError>> {
    let failed = |message: String, help: &str| {
        let help = Some(help.to_owned());
        vec![ConfigError { message, help, place: Place::Path(path.to_owned()) }]
    };
    let read = std::fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = read.map_err(|error| {
        failed(
            format!("cannot read the configuration file: {error}"),
            "name another with --config or OUTCOMED_CONFIG",
        )
    })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed("the file is over 4 MiB".to_owned(), "is it the right file?"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| failed("the file is not UTF-8".to_owned(), "save it as UTF-8 text"))?;
    TomlFile::parse(path, text)
}

fn warn_of_open_file(file: &Path, secrets: &[SecretUse]) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let holds_secrets = secrets.iter().any(|secret| secret.is_in_file);
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (holds_secrets && mode & 0o004 != 0).then(|| {
        let file = file.display();
        format!("{file} holds secrets and anybody may read it: chmod o-r {file}")
    })
}

impl Default for Config {
    /// The built-in defaults: no accounts and no clients.
    fn default() -> Self {
        load(Sources::default()).map(|loaded| loaded.config).expect("the built-in defaults load")
    }
}
