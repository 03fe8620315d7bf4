//! The four layers, merged by figment: built-in defaults < file < environment < flags.
//!
//! figment keeps, with every merged value, which layer it came from; together with the file's
//! spans and the variables' names that gives every error its place.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::errors::{ConfigErrors, Place};
use super::toml_file::TomlFile;

/// What applies where nothing else was said. `config.toml` shows the same values; a test holds
/// them together.
pub(super) const DEFAULTS: &str = r#"
accounts = []
clients = []
[http]
listen = "127.0.0.1:8474"
open_metrics = false
[store]
url = "sqlite:outcomed.db"
[polling]
give_up_after = "1h"
not_found_grace = "30s"
poll_worth = "10ms"
[delivery]
timeout = "15s"
retry_delays = ["5s", "30s", "2m", "10m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"]
concurrency_per_host = 16
extra_ca_files = []
[retention]
delivered = "30d"
undeliverable = "90d"
attempts = "30d"
[log]
level = "info"
format = "auto"
"#;

const PREFIX: &str = "OUTCOMED_";
const FILE: &str = "file";
const ENVIRONMENT: &str = "environment";
const FLAGS: &str = "flags";

/// What `serve` was told on its command line. Each wins over everything else.
// No `Debug`: a store's URL may hold a password.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
    /// `--store`
    pub store: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
}

impl Overrides {
    fn entries(&self) -> [(&'static str, [&'static str; 2], Option<&String>); 4] {
        [
            ("--listen", ["http", "listen"], self.listen.as_ref()),
            ("--store", ["store", "url"], self.store.as_ref()),
            ("--log-level", ["log", "level"], self.log_level.as_ref()),
            ("--log-format", ["log", "format"], self.log_format.as_ref()),
        ]
    }
}

/// One layer, as figment wants it.
struct Layer {
    name: &'static str,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// All layers, and where each setting of them was written.
pub(super) struct Layers {
    figment: Figment,
    file: Option<TomlFile>,
    /// Path → the variable that sets it.
    variables: BTreeMap<Vec<String>, String>,
    overrides: Overrides,
    /// Variables that start as ours do but have no `__`.
    pub(super) flat_variables: Vec<String>,
}

impl Layers {
    /// Merges the layers.
    pub(super) fn merge(
        file: Option<TomlFile>,
        env: &BTreeMap<String, String>,
        overrides: Overrides,
    ) -> Result<Self, ConfigErrors> {
        let defaults = TomlFile::parse("built-in defaults".as_ref(), DEFAULTS.to_owned())
            .map_err(ConfigErrors::new)?
            .values;
        let (variables, environment) = read_environment(env);
        let mut flags = Dict::new();
        for (_, path, value) in overrides.entries() {
            if let Some(value) = value {
                insert(&mut flags, &path.map(str::to_owned), Value::from(value.as_str()));
            }
        }
        let from_file = file.as_ref().map(|file| file.values.clone()).unwrap_or_default();
        let figment = Figment::new()
            .merge(Layer { name: "built-in defaults", values: defaults })
            .merge(Layer { name: FILE, values: from_file })
            .merge(Layer { name: ENVIRONMENT, values: environment })
            .merge(Layer { name: FLAGS, values: flags });
        let flat_variables = env
            .keys()
            .filter(|name| name.starts_with(PREFIX) && !name.contains("__"))
            .cloned()
            .collect();
        Ok(Self { figment, file, variables, overrides, flat_variables })
    }

    /// The merged settings.
    pub(super) fn values(&self) -> Dict {
        // Our layers cannot fail, and there is one profile.
        let mut profiles = self.figment.data().unwrap_or_default();
        profiles.remove(&Profile::Default).unwrap_or_default()
    }

    /// Whether this value came from a variable, where everything is a string.
    pub(super) fn is_from_environment(&self, tag: Tag) -> bool {
        self.layer(tag) == Some(ENVIRONMENT)
    }

    /// Where this value was written.
    pub(super) fn place_of_value(&self, path: &[String], tag: Tag) -> Place {
        match self.layer(tag) {
            Some(FILE) => self.file.as_ref().and_then(|file| file.place_of_value(path)),
            // An element of a list belongs to the variable that holds the list.
            Some(ENVIRONMENT) => {
                self.variable(path).or_else(|| self.variable(&path[..path.len().max(1) - 1]))
            }
            Some(FLAGS) => self
                .overrides
                .entries()
                .iter()
                .find(|(_, key, _)| key.as_slice() == path)
                .map(|(flag, ..)| Place::Flag(flag)),
            _ => None,
        }
        .unwrap_or(Place::Nowhere)
    }

    /// Where this key, or its nearest table, was written, in the file rather than elsewhere.
    pub(super) fn place_of_key(&self, path: &[String]) -> Place {
        (1..=path.len())
            .rev()
            .map(|length| &path[..length])
            .find_map(|path| {
                let in_file = self.file.as_ref().and_then(|file| file.place_of_key(path));
                in_file.or_else(|| self.variable(path))
            })
            .unwrap_or(Place::Nowhere)
    }

    /// The variable that sets this path, or the first that sets something below it.
    fn variable(&self, path: &[String]) -> Option<Place> {
        let below = |found: &&Vec<String>| found.starts_with(path);
        let exact = self.variables.get(path);
        let name = exact.or_else(|| self.variables.keys().find(below).map(|p| &self.variables[p]));
        name.map(|name| Place::Variable(name.clone()))
    }

    fn layer(&self, tag: Tag) -> Option<&str> {
        self.figment.get_metadata(tag).map(|metadata| metadata.name.as_ref())
    }
}

/// The variable that sets `path`.
pub(super) fn variable_name(path: &[String]) -> String {
    format!("{PREFIX}{}", path.join("__").to_ascii_uppercase())
}

type Variables = BTreeMap<Vec<String>, String>;

/// `OUTCOMED_SECTION__KEY`, every value a string as it stands: `0123` may be a secret.
fn read_environment(env: &BTreeMap<String, String>) -> (Variables, Dict) {
    let mut variables = Variables::new();
    let mut values = Dict::new();
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")) else {
            continue;
        };
        let path: Vec<String> = rest.to_ascii_lowercase().split("__").map(str::to_owned).collect();
        insert(&mut values, &path, Value::from(value.as_str()));
        variables.insert(path, name.clone());
    }
    (variables, values)
}

fn insert(values: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            values.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let entry = values.entry(key.clone()).or_insert_with(|| Value::from(Dict::new()));
            if entry.as_dict().is_none() {
                *entry = Value::from(Dict::new());
            }
            if let Value::Dict(_, below) = entry {
                insert(below, rest, value);
            }
        }
    }
}
