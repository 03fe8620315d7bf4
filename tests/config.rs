//! The configuration, through the public door and through the real binary.
#![expect(clippy::unwrap_used, reason = "the helpers of tests, too, may simply stop")]

#[path = "config/command.rs"]
mod command;
#[path = "config/layers.rs"]
mod layers;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/secrecy.rs"]
mod secrecy;
#[path = "config/shipped.rs"]
mod shipped;
#[path = "config/unit.rs"]
mod unit;

use std::path::PathBuf;

use outcomed::config::{ConfigErrors, Loaded, Sources, load};

/// A directory with a `config.toml` in it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn with(text: &str) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        place.write("config.toml", text);
        place
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sources(&self, env: &[(&str, &str)]) -> Sources {
        Sources {
            file: Some(self.path("config.toml")),
            env: env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..Sources::default()
        }
    }

    fn load(&self, env: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
        load(self.sources(env))
    }
}

/// Every complaint about `text`, as `line:column: message: help`.
fn complaints(text: &str) -> Vec<String> {
    let place = Place::with(text);
    let file = format!("{}:", place.path("config.toml").display());
    let errors = place.load(&[]).expect_err("this text has mistakes");
    errors.iter().map(|error| error.one_line().replace(&file, "")).collect()
}

/// The one complaint about `text`.
fn complaint(text: &str) -> String {
    let all = complaints(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.into_iter().next().unwrap()
}

/// A valid account and client, to which tests add.
const ACCOUNT: &str = "[[accounts]]\nname = \"default\"\napp_id = \"cli_a\"\napp_secret = \"s\"\n";
const CLIENT: &str = "[[clients]]\nname = \"ats\"\ntoken = \"a-token-of-some-length\"\n\
    signing_secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n";
