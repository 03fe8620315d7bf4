//! References lead to secrets, and secrets are never shown.

use std::os::unix::fs::PermissionsExt;

use outcomed::config::{Credentials, StoreUrl, load};

use super::{Place, complaint};

fn app_secret(config: &outcomed::config::Config) -> &str {
    match &config.accounts[0].credentials {
        Credentials::Internal { app_secret, .. } | Credentials::Store { app_secret, .. } => {
            app_secret.expose()
        }
    }
}

fn account(reference: &str) -> String {
    format!("[[accounts]]\nname = \"a\"\napp_id = \"cli_a\"\napp_secret = \"{reference}\"\n")
}

#[test]
fn every_kind_of_reference_is_followed() {
    let place = Place::with("");
    let path = place.write("secret", "from a file\r\n\n");
    place.write("feishu", "from systemd\n");
    for (reference, secret, from) in [
        (
            "written here".to_owned(),
            "written here",
            place.path("config.toml").display().to_string(),
        ),
        (format!("file:{}", path.display()), "from a file", format!("file {}", path.display())),
        (format!("file://{}", path.display()), "from a file", format!("file {}", path.display())),
        ("env:HUSH".to_owned(), "from a variable", "environment variable HUSH".to_owned()),
        ("credential:feishu".to_owned(), "from systemd", "credential feishu".to_owned()),
    ] {
        place.write("config.toml", &account(&reference));
        let mut sources = place.sources(&[("HUSH", "from a variable")]);
        sources.credentials_dir = Some(place.directory.path().to_owned());
        let loaded = load(sources).unwrap();
        assert_eq!(app_secret(&loaded.config), secret);
        assert_eq!(loaded.secrets[0].key, "accounts[0].app_secret");
        assert_eq!(loaded.secrets[0].from, from);
    }
}

#[test]
fn a_reference_that_leads_nowhere_says_what_to_do() {
    for (reference, expected) in [
        ("file:/nowhere/hush", "refers to /nowhere/hush, which cannot be read: No such file"),
        ("file:hush", "refers to a file without its full path"),
        ("file:/tmp", "which is not a regular file"),
        ("env:OUTCOMED_NOWHERE", "refers to env:OUTCOMED_NOWHERE, which is not set: set the"),
        ("credential:hush", "systemd passed none: add LoadCredential=hush:/path to the unit"),
        ("credential:../hush", "refers to a credential without a plain name"),
        ("", "is empty"),
        (" hush", "begins or ends with a space"),
        ("hu\\nsh", "holds line breaks"),
    ] {
        let found = complaint(&account(reference));
        assert!(found.starts_with("4:14: `accounts[0].app_secret` "), "{found}");
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn secrets_that_anybody_may_read_are_warned_of() {
    let place = Place::with("");
    let secret = place.write("secret", "hush");
    place.write("config.toml", &account(&format!("file:{}", secret.display())));
    let mode = |path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let warnings = |place: &Place| place.load(&[]).unwrap().warnings.join("\n");
    mode(&secret, 0o644);
    let advice = format!("chmod o-r {}", secret.display());
    assert!(warnings(&place).contains(&advice));
    mode(&secret, 0o640);
    assert!(!warnings(&place).contains("chmod"));
    let file = place.write("config.toml", &account("hush"));
    mode(&file, 0o644);
    assert!(warnings(&place).contains(&format!("chmod o-r {}", file.display())));
    mode(&file, 0o600);
    assert!(!warnings(&place).contains("chmod"));
}

#[test]
fn a_postgres_url_may_be_a_reference_and_is_a_secret() {
    let url = "postgres://outcomed:sesame@db.internal/outcomed";
    let place = Place::with("[store]\nurl = \"env:DATABASE\"\n");
    let loaded = place.load(&[("DATABASE", url)]).unwrap();
    assert!(matches!(&loaded.config.store, StoreUrl::Postgres(found) if found.expose() == url));
    assert!(!format!("{loaded:?}").contains("sesame"));
    let bad = place.load(&[("DATABASE", "mysql://u:sesame@h/d")]).unwrap_err();
    assert!(!format!("{bad:?} {bad}").contains("sesame"));
    assert!(bad.to_string().contains("`store.url` is not a store"));
}

/// Every secret in here is some form of "sesame".
const SESAME: &str = r#"
[store]
url = "postgres://outcomed:sesame-1@db/outcomed" # sesame-2
[[accounts]]
name = "a"
kind = "store"
app_id = "cli_a"
app_secret = "sesame-3"
tenant_key = "t"
verification_token = "sesame-4"
encrypt_key = "sesame-5"
[[clients]]
name = "c"
token = "sesame-6-sesame-6"
signing_secrets = ["whsec_sesamesesamesesamesesamesesamesesame"]
"#;

#[test]
fn no_secret_is_ever_shown() {
    let loaded = Place::with(SESAME).load(&[]).unwrap();
    assert!(!format!("{loaded:#?}").contains("sesame"));
    // The first four letters, as base64, are these bytes.
    assert_eq!(loaded.config.clients[0].signing_secrets[0].expose()[..3], [177, 235, 26]);
    assert!(!format!("{loaded:?}").contains("177, 235, 26"));
}

#[test]
fn no_mistake_makes_an_error_show_a_secret() {
    let replacements = [
        ("app_secret", "app_secrt"),
        ("\"sesame-3\"", "[\"sesame-3\"]"),
        ("\"sesame-3\"", "\"sesame-3"),
        ("\"sesame-3\"", "\"\"\"sesame-3"),
        ("\"sesame-3\"", "'''\nsesame-3\nSesame== = sesame'''"),
        ("\"sesame-3\"", "sesame-3"),
        ("\"sesame-3\"", "{ sesame = \"sesame-3\" "),
        ("app_secret =", "app_secret"),
        ("\"sesame-4\"", "\"sesame-4\\n\""),
        ("encrypt_key", "encrypt_keys"),
        ("postgres:", "mysql:"),
        ("token =", "tokn ="),
        ("\"sesame-6-sesame-6\"", "\"sesame 6\""),
        ("whsec_sesame", "sesame"),
        ("whsec_sesamesesame", "whsec_"),
        ("[\"whsec", "[7, \"whsec"),
        ("signing_secrets = [", "signing_secrets = "),
        ("[[clients]]", "[clients]"),
        ("[[accounts]]", "[[account]]"),
        ("[[accounts]]\nname = \"a\"", "[[accounts]]\nkind = \"store\""),
        ("[store]", "store = { ulr = \"sesame-7\", url = 3 }\n[stores]"),
        ("[[clients]]", "clients = [{ name = \"C\", token = \"sesame-8\" }]\n[x]"),
    ];
    for (from, to) in replacements {
        let text = SESAME.replacen(from, to, 1);
        assert_ne!(text, SESAME, "{from} is not in the text");
        let errors = Place::with(&text).load(&[]).expect_err(to);
        let shown = format!("{errors}\n{errors:?}");
        // A misspelt key is shown, a value never.
        let shown = shown.replace("sesame = …", "");
        assert!(!shown.to_lowercase().contains("sesame"), "{from} → {to}:\n{errors}");
    }
}

proptest::proptest! {
    /// Whatever few slips of the keyboard do to the file: no panic, and no secret shown.
    #[test]
    fn no_slip_of_the_keyboard_makes_an_error_show_a_secret(
        inserted in proptest::collection::vec((0..1000_usize, "[\"'=#,.\\[\\]{}\\\\\n\0é]"), 0..=3),
        deleted in (0..1000_usize, 0..=8_usize),
    ) {
        let mut text: Vec<char> = SESAME.replace("sesame", "Sesame77").chars().collect();
        let start = deleted.0 % text.len();
        text.drain(start..(start + deleted.1).min(text.len()));
        for (at, what) in inserted {
            let at = at % text.len();
            text.splice(at..at, what.chars());
        }
        let text: String = text.into_iter().collect();
        let shown = match Place::with(&text).load(&[]) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(errors) => format!("{errors}\n{errors:?}"),
        };
        proptest::prop_assert!(!shown.contains("Sesame77"), "{}\n{}", text, shown);
    }
}
