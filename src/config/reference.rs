//! Secrets are references: `file:/path`, `env:NAME`, `credential:NAME`, or the secret itself.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::reader::Bad;
use super::secret::Secret;
use super::suggest;

/// No secret is as long; a wrong path (a device, a log) must not fill the memory.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// Whether this says where a secret is, rather than being one.
pub(super) fn is_reference(text: &str) -> bool {
    ["file:", "env:", "credential:"].iter().any(|prefix| text.starts_with(prefix))
}

/// What begins almost as a reference does is a slip: taken for the secret itself, everything would
/// seem well until somebody logs in with it. Never shows what follows the colon.
fn mistyped(text: &str) -> Option<Bad> {
    let (word, _) = text.split_once(':')?;
    if word.is_empty() || !word.chars().all(|c| c.is_ascii_alphabetic() || "-_ ".contains(c)) {
        return None;
    }
    let plain = word.trim().to_ascii_lowercase();
    let begins = |short: &str| plain.starts_with(short);
    let meant = match () {
        () if begins("cred") => "credential",
        () if begins("env") => "env",
        () if begins("file") => "file",
        () => suggest::nearest(&plain, ["file", "env", "credential"])?,
    };
    let bad = Bad::new(format!("begins with `{word}:`, which is no kind of reference"));
    Some(bad.help(format!(
        "did you mean `{meant}:`? If it really is the secret itself, put it into a file and write \
         file:/path"
    )))
}

/// Where references point.
pub(super) struct World<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) credentials_dir: Option<&'a Path>,
}

/// A secret that was found.
pub(super) struct Found {
    pub(super) secret: Secret,
    /// Where, fit to be shown; `None` if the setting is the secret itself.
    pub(super) from: Option<String>,
    /// The name of the credential that it was.
    pub(super) credential: Option<String>,
    pub(super) warning: Option<String>,
}

impl World<'_> {
    /// Follows a reference.
    pub(super) fn resolve(&self, text: &str) -> Result<Found, Bad> {
        let found = self.resolve_text(text)?;
        check(&found)?;
        Ok(found)
    }

    /// Follows a reference to a text of several lines, such as PEM.
    pub(super) fn resolve_text(&self, text: &str) -> Result<Found, Bad> {
        let found = if let Some(path) = text.strip_prefix("file:") {
            read_file(path)?
        } else if let Some(name) = text.strip_prefix("env:") {
            self.read_variable(name)?
        } else if let Some(name) = text.strip_prefix("credential:") {
            self.read_credential(name)?
        } else if let Some(bad) = mistyped(text) {
            return Err(bad);
        } else {
            Found { secret: Secret::new(text), from: None, credential: None, warning: None }
        };
        Ok(found)
    }

    fn read_variable(&self, name: &str) -> Result<Found, Bad> {
        let Some(value) = self.env.get(name) else {
            let bad = Bad::new(format!("refers to env:{name}, which is not set"));
            return Err(bad.help(format!("set the environment variable {name}")));
        };
        let from = Some(format!("environment variable {name}"));
        Ok(Found {
            secret: Secret::new(value.trim_end_matches(['\n', '\r'])),
            from,
            credential: None,
            warning: None,
        })
    }

    fn read_credential(&self, name: &str) -> Result<Found, Bad> {
        let is_plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        if !is_plain {
            return Err(Bad::new("refers to a credential without a plain name")
                .help("write credential:NAME as in LoadCredential=NAME:/path"));
        }
        let Some(directory) = self.credentials_dir else {
            let bad = Bad::new(format!("refers to credential:{name}, but systemd passed none"));
            return Err(bad.help(format!(
                "add LoadCredential={name}:/path to the unit; outside systemd, set \
                 CREDENTIALS_DIRECTORY to a directory that holds it, or use file:/path"
            )));
        };
        let path = directory.join(name);
        if !path.exists() {
            let bad = Bad::new(format!("refers to credential:{name}, which systemd did not pass"));
            return Err(bad.help(format!("add LoadCredential={name}:/path to the unit")));
        }
        let (secret, _) = read(&path)?;
        let from = Some(format!("credential {name}"));
        Ok(Found { secret, from, credential: Some(name.to_owned()), warning: None })
    }
}

fn read_file(path: &str) -> Result<Found, Bad> {
    // `file:///path` is how URLs say the same.
    let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
    if !path.is_absolute() {
        return Err(Bad::new("refers to a file without its full path")
            .help("write file:/full/path: a service has no directory of its own"));
    }
    let (secret, mode) = read(&path)?;
    let path = path.display();
    let warning = (mode & 0o004 != 0)
        .then(|| format!("{path} holds a secret and anybody may read it: chmod o-r {path}"));
    Ok(Found { secret, from: Some(format!("file {path}")), credential: None, warning })
}

fn read(path: &Path) -> Result<(Secret, u32), Bad> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "create it, or correct the path",
            std::io::ErrorKind::PermissionDenied => "let the daemon's user read it",
            _ => "check the path",
        };
        Bad::new(format!("refers to {shown}, which cannot be read: {error}")).help(help)
    };
    // Asked before opening: opening a pipe would wait for whoever writes to it.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Bad::new(format!("refers to {shown}, which is not a regular file")));
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| {
        if error.kind() == std::io::ErrorKind::InvalidData {
            Bad::new(format!("refers to {shown}, which is not text"))
        } else {
            failed(error)
        }
    })?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(Bad::new(format!("refers to {shown}, which is too long for a secret")));
    }
    Ok((Secret::new(text.trim_end_matches(['\n', '\r'])), metadata.permissions().mode()))
}

fn check(found: &Found) -> Result<(), Bad> {
    let secret = found.secret.expose();
    let from = found.from.as_ref().map(|from| format!(" ({from})")).unwrap_or_default();
    if secret.is_empty() {
        return Err(Bad::new(format!("is empty{from}")).help("give it a value"));
    }
    // U+FFFD stands for what was not UTF-8 in the environment.
    if secret.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        let bad = Bad::new(format!("holds line breaks or control characters{from}"));
        return Err(bad.help("a secret is one line of text"));
    }
    if secret.trim() != secret {
        return Err(Bad::new(format!("begins or ends with a space{from}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_almost_a_reference_is_a_slip_and_a_secret_is_not() {
        for (slip, meant) in [
            ("credentials:ats-token", "credential"),
            ("Credential:ats-token", "credential"),
            ("creds:x", "credential"),
            ("credentail:x", "credential"),
            ("files:/etc/x", "file"),
            ("flie:/etc/x", "file"),
            ("FILE:/etc/x", "file"),
            ("Env:NAME", "env"),
            ("evn:NAME", "env"),
            ("environment:NAME", "env"),
            (" env:NAME", "env"),
        ] {
            let bad = format!("{:?}", mistyped(slip).expect(slip));
            assert!(bad.contains(&format!("`{meant}:`")), "{slip}: {bad}");
            let secret = slip.split_once(':').unwrap().1;
            assert!(secret.len() < 2 || !bad.contains(secret), "{bad}");
        }
        for secret in ["whsec_abc", "oct_ats_0123", "a:b", "s3cret:x", "postgres://u@h/db", "p:w"] {
            assert!(mistyped(secret).is_none(), "{secret}");
        }
    }
}
