//! Every mistake is told, at its place, with what to do.

use super::{ACCOUNT, CLIENT, Place, complaint, complaints};

#[test]
fn all_mistakes_are_told_at_once_from_top_to_bottom() {
    let all = complaints(
        "[http]\nlisen = \"127.0.0.1:1\"\n[delivery]\ntimeout = 15\nretry_delays = []\n\
         [polling]\ngive_up_after = \"soon\"\n[logs]\nlevel = \"info\"\n",
    );
    assert_eq!(
        all,
        [
            "2:1: unknown key `http.lisen`: did you mean `listen`?",
            "4:11: `delivery.timeout` must be a string: write it in quotes, a duration with its \
             unit: \"30s\"",
            "5:1: `delivery.retry_delays` must hold 1 to 100 durations: with none, a receiver \
             that is down for a moment would miss its outcome",
            "7:17: `polling.give_up_after` is not a duration: write one such as 500ms, 30s, 1h \
             or 7d",
            "8:2: unknown key `logs`: did you mean `log`?",
        ]
    );
}

#[test]
fn a_mistake_is_shown_as_rustc_shows_one() {
    let place = Place::with("[http]\n  lisen = \"127.0.0.1:1\" # soon\n");
    let shown = place.load(&[]).unwrap_err().to_string();
    let file = place.path("config.toml");
    let expected = format!(
        "error: unknown key `http.lisen`\n \
          --> {}:2:3\n  \
           |\n\
         2 |   lisen = …\n  \
           |   ^^^^^ did you mean `listen`?\n\n\
         1 error in the configuration",
        file.display()
    );
    assert_eq!(shown, expected);
}

#[test]
fn bad_values_are_pointed_at() {
    let place = Place::with("[delivery]\nretry_delays = [\"5s\", \"-1s\"]\n");
    let shown = place.load(&[]).unwrap_err().to_string();
    assert!(
        shown.contains("2 | retry_delays = [\"5s\", \"-1s\"]\n  |                       ^^^^^")
    );
    for (text, expected) in [
        ("[http]\nlisten = \"localhost:80\"", "2:10: `http.listen` is not an address"),
        ("[http]\nlisten = true", "2:10: `http.listen` must be a string"),
        ("[http]\nopen_metrics = \"yes\"", "2:16: `http.open_metrics` must be true or false"),
        ("http = 1", "1:8: `http` must be a table"),
        ("[store]\nurl = \"outcomed.db\"", "2:7: `store.url` is not a store: write sqlite:PATH"),
        ("[store]\nurl = \"sqlite::memory:\"", "2:7: `store.url` must be a file"),
        ("[polling]\ngive_up_after = \"0s\"", "2:17: `polling.give_up_after` must be more than"),
        ("[polling]\npoll_worth = 2026-11-22", "2:14: `polling.poll_worth` must be a string"),
        ("[delivery]\nconcurrency_per_host = 0", "2:24: `delivery.concurrency_per_host` must be"),
        ("[delivery]\nconcurrency_per_host = 1.5", "`delivery.concurrency_per_host` must be a w"),
        ("[log]\nlevel = \"loud\"", "2:9: `log.level` is not a level or a filter"),
    ] {
        let found = complaint(text);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn mistakes_in_accounts_are_told_for_each_of_them() {
    for (added, expected) in [
        ("base_url = \"http://open.feishu.cn\"", "5:12: `accounts[0].base_url` must be https"),
        ("kind = \"stor\"", "5:8: `accounts[0].kind` is not a kind of app"),
        ("tenant_key = \"t\"", "5:14: `accounts[0].tenant_key` is for store apps only"),
        ("quota = { per_second = 0 }", "5:24: `accounts[0].quota.per_second` must be from 1"),
        ("quota = { per_minute = 20 }", "5:1: `accounts[0].quota` allows more a second (50) than"),
        ("quota = { per_hour = 20 }", "5:11: unknown key `accounts[0].quota.per_hour`"),
        ("app-secret = \"x\"", "5:1: unknown key `accounts[0].app-secret`: did you mean `app_sec"),
        (ACCOUNT, "6:8: `accounts[1].name` repeats `accounts[0].name`"),
    ] {
        let found = complaint(&format!("{ACCOUNT}{added}\n"));
        assert!(found.contains(expected), "{found}");
    }
    let all = complaints("[[accounts]]\nname = \"Default\"\nkind = \"store\"\n");
    let expected = ["app_id", "app_secret", "tenant_key", "verification_token"]
        .map(|key| format!("1:1: `accounts[0].{key}` is missing"));
    for expected in expected {
        assert!(all.iter().any(|found| found.starts_with(&expected)), "{all:#?}");
    }
    assert!(all.iter().any(|found| found.starts_with("2:8: `accounts[0].name` is not a name")));
    let found = complaint("[accounts]\nname = \"default\"\n");
    assert!(found.contains("2:1: `accounts.name` does not belong to any of accounts"), "{found}");
    assert!(found.contains("write [[accounts]]"), "{found}");
}

#[test]
fn mistakes_in_clients_are_told_for_each_of_them() {
    let hash = "0123456789abcdef".repeat(4);
    for (added, expected) in [
        (format!("token_sha256 = \"{hash}\""), "5:16: `clients[0]` has both `token` and"),
        ("role = \"admin\"".into(), "5:8: `clients[0].role` is not a role: use \"client\" or"),
        (
            "callback_allow = [\"10.0.0.0/99\"]".into(),
            "5:19: `clients[0].callback_allow[0]` is not",
        ),
        (
            "callback_allow = \"10.0.0.0/8\"".into(),
            "5:18: `clients[0].callback_allow` must be a list",
        ),
        (CLIENT.replace("ats", "b"), "7:9: `clients[1].token` is the same token as `clients[0]"),
    ] {
        let found = complaint(&format!("{CLIENT}{added}\n"));
        assert!(found.contains(expected), "{found}");
    }
    let (head, _) = CLIENT.split_once("signing").unwrap();
    assert!(complaint(head).starts_with("1:1: `clients[0].signing_secrets` holds no secret"));
    let found = complaint(
        &format!("{head}signing_secrets = [\"whsec_AAAA\", \"whsk_AAAA\"]\n")
            .replace(", \"whsk_AAAA\"", ""),
    );
    assert!(found.contains("4:20: `clients[0].signing_secrets[0]` must be 24 to 64 bytes"));
    let found = complaint("[[clients]]\nname = \"ops\"\nrole = \"operator\"\n");
    assert!(found.contains("1:1: `clients[0]` has neither `token` nor `token_sha256`"), "{found}");
    let found =
        complaint("[[clients]]\nname = \"o\"\nrole = \"operator\"\ntoken_sha256 = \"ab\"\n");
    assert!(found.contains("4:16: `clients[0].token_sha256` is not a SHA-256 hash"), "{found}");
}

#[test]
fn keys_certificates_and_alert_urls_are_checked_where_they_are_read() {
    let pair = || rcgen::KeyPair::generate().unwrap();
    let (own, other) = (pair(), pair());
    let certificate = rcgen::CertificateParams::new(vec!["outcomed".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&own).unwrap().pem();
    let identity = |certificate: &str, key: &str| {
        format!("tls_certificate = '''{certificate}'''\ntls_key = '''{key}'''")
    };
    for (added, expected) in [
        (
            "signing_keys = [\"whsec_AAAA\"]".to_owned(),
            "signing_keys[0]` does not begin with whsk_",
        ),
        ("signing_keys = [\"whsk_AAAA\"]".to_owned(), "signing_keys[0]` must be 32 or 64 bytes"),
        ("tls_key = \"x\"".to_owned(), "`clients[0].tls_key` needs `clients[0].tls_certificate`"),
        (identity("none", &own.serialize_pem()), "tls_certificate` holds no PEM certificate"),
        (identity(&certificate, "none"), "tls_key` holds no PEM private key"),
        (identity(&certificate, &other.serialize_pem()), "tls_key` is not the key of"),
        ("alert_url = \"hooks\"".to_owned(), "alert_url` is not a URL"),
        ("alert_url = \"ftp://a/\"".to_owned(), "alert_url` must be an https URL"),
    ] {
        let found = complaint(&format!("{CLIENT}{added}\n"));
        assert!(found.contains(expected), "{found}");
        assert!(!found.contains("PRIVATE KEY"), "{found}");
    }
    let place = Place::with(&format!("{CLIENT}{}\n", identity(&certificate, &own.serialize_pem())));
    assert!(place.load(&[]).unwrap().config.clients[0].tls_identity.is_some());
}

#[test]
fn files_of_authorities_are_read_at_once_and_a_bad_one_is_named() {
    let place = Place::with("");
    let empty = place.write("empty.pem", "nothing\n").display().to_string();
    for (file, expected) in [
        ("ca.pem", "is not a full path"),
        ("/nonexistent/ca.pem", "cannot be read"),
        ("/dev/zero", "not a regular file"),
        (empty.as_str(), "which holds no certificate"),
    ] {
        let found = complaint(&format!("[delivery]\nextra_ca_files = [\"{file}\"]\n"));
        assert!(found.starts_with("2:19: `delivery.extra_ca_files[0]`"), "{found}");
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn broken_toml_is_told_with_its_line() {
    let all = complaints("[http]\nlisten = \"127.0.0.1:1\nopen_metrics = true\n[log\n");
    assert!(all[0].starts_with("2:") && all[0].contains("not valid TOML"), "{all:#?}");
    assert!(all.iter().any(|found| found.starts_with("4:")), "{all:#?}");
    assert!(complaint("[http]\n[http]\n").contains("duplicate key"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let place = Place::with("");
    std::fs::write(place.path("config.toml"), b"a = \"\xff\"").unwrap();
    assert!(place.load(&[]).unwrap_err().to_string().contains("not UTF-8"));
    std::fs::remove_file(place.path("config.toml")).unwrap();
    let shown = place.load(&[]).unwrap_err().to_string();
    assert!(shown.contains("config.toml\n") && shown.contains("No such file"), "{shown}");
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let warnings = |text: &str| Place::with(text).load(&[]).unwrap().warnings.join("\n");
    assert!(warnings("").contains("there are no accounts"));
    assert!(warnings("").contains("there are no clients"));
    let twin = ACCOUNT.replace("default", "twin");
    assert!(
        warnings(&format!("{ACCOUNT}{twin}")).contains("`default` and `twin` are the same app")
    );
    let more = format!("{ACCOUNT}quota = {{ per_second = 51 }}\n");
    assert!(warnings(&more).contains("above Feishu's published 50 a second"));
    assert!(!warnings(&format!("{more}base_url = \"http://127.0.0.1:1\"\n")).contains("published"));
    assert!(warnings(&CLIENT.replace("a-token-of-some-length", "abc")).contains("can be guessed"));
    let open = "[http]\nlisten = \"0.0.0.0:1\"\nopen_metrics = true\n";
    assert!(warnings(open).contains("lets everybody"));
    let all = format!("{CLIENT}callback_allow = [\"0.0.0.0/0\"]\n");
    assert!(warnings(&all).contains("allows every address"));
}

#[test]
fn a_mistyped_reference_is_not_taken_for_the_secret() {
    let account = |secret: &str| {
        let text = ACCOUNT.replace("\"s\"", &format!("{secret:?}"));
        Place::with(&format!("{text}{CLIENT}")).load(&[])
    };
    for (slip, meant) in
        [("credentials:feishu", "credential:"), ("files:/etc/x", "file:"), ("Env:X", "env:")]
    {
        let shown = account(slip).unwrap_err().to_string();
        assert!(shown.contains(&format!("did you mean `{meant}`")), "{shown}");
        let word = slip.split_once(':').unwrap().1;
        assert!(!shown.contains(&format!(":{word}")), "it may be the secret: {shown}");
    }
    assert!(account("s3cr:et").is_ok());
}

#[test]
fn two_accounts_of_one_store_app_agree_on_what_is_the_apps() {
    let store = |name: &str, secret: &str, token: &str, key: &str| {
        format!(
            "[[accounts]]\nname = \"{name}\"\nkind = \"store\"\napp_id = \"cli_s\"\n\
             app_secret = \"{secret}\"\ntenant_key = \"{name}\"\nverification_token = \
             \"{token}\"\n{key}"
        )
    };
    let first = store("a", "s", "v", "");
    let load = |second: String| Place::with(&format!("{first}{second}{CLIENT}")).load(&[]);
    assert!(load(store("b", "s", "v", "")).is_ok());
    for (second, key) in [
        (store("b", "s", "w", ""), "verification_token"),
        (store("b", "t", "v", ""), "app_secret"),
        (store("b", "s", "v", "encrypt_key = \"k\"\n"), "encrypt_key"),
    ] {
        let shown = load(second).unwrap_err().to_string();
        assert!(shown.contains(&format!("its `{key}` is another")), "{shown}");
    }
}
