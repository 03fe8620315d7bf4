//! The shipped `config.toml` says what is true.

use std::path::Path;

use outcomed::config::{Config, Credentials, Role};

use super::Place;

fn shipped() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml")).unwrap()
}

/// `#key` is an example's setting, `# text` an explanation.
fn uncommented(text: &str) -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(uncomment).collect()
}

#[test]
fn the_shipped_file_shows_the_built_in_defaults() {
    let loaded = Place::with(&shipped()).load(&[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    // Leaving any setting out of the file would also give the default: each must be there.
    let file: toml::Table = shipped().parse().unwrap();
    let keys: Vec<String> = file
        .iter()
        .flat_map(|(section, table)| {
            table.as_table().unwrap().keys().map(move |key| format!("{section}.{key}"))
        })
        .collect();
    let mut expected = vec![
        "http.listen",
        "http.open_metrics",
        "store.url",
        "polling.give_up_after",
        "polling.not_found_grace",
        "polling.poll_worth",
        "delivery.timeout",
        "delivery.retry_delays",
        "delivery.concurrency_per_host",
        "delivery.extra_ca_files",
        "retention.delivered",
        "retention.undeliverable",
        "retention.attempts",
        "log.level",
        "log.format",
    ];
    expected.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, expected);
}

#[test]
fn the_built_in_defaults_are_those_of_the_contract() {
    let config = Config::default();
    let seconds = |duration: std::time::Duration| duration.as_secs();
    assert_eq!(format!("{:?}", config.http.listen), "Tcp(127.0.0.1:8474)");
    assert_eq!(format!("{:?}", config.store), "Sqlite(\"outcomed.db\")");
    assert_eq!(seconds(config.polling.give_up_after), 3600);
    assert_eq!(seconds(config.polling.not_found_grace), 30);
    assert_eq!(config.polling.poll_worth.as_millis(), 10);
    assert_eq!(seconds(config.delivery.timeout), 15);
    let delays: Vec<u64> = config.delivery.retry_delays.iter().copied().map(seconds).collect();
    let (minute, hour) = (60, 3600);
    let expected = [
        5,
        30,
        2 * minute,
        10 * minute,
        30 * minute,
        2 * hour,
        5 * hour,
        10 * hour,
        14 * hour,
        20 * hour,
        24 * hour,
    ];
    assert_eq!(delays, expected);
    assert_eq!(config.delivery.concurrency_per_host, 16);
    assert_eq!(seconds(config.retention.delivered), 30 * 24 * hour);
    assert_eq!(seconds(config.retention.undeliverable), 90 * 24 * hour);
    assert_eq!(seconds(config.retention.attempts), 30 * 24 * hour);
    assert_eq!((config.log.level.as_str(), config.accounts.len()), ("info", 0));
}

#[test]
fn the_examples_in_the_shipped_file_work_once_uncommented() {
    let place = Place::with(&uncommented(&shipped()));
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["outcomed".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&pair).unwrap().pem();
    for (name, secret) in [
        ("feishu-app-secret", "hush"),
        ("store-app-secret", "hush"),
        ("store-verification-token", "hush"),
        ("store-encrypt-key", "hush"),
        ("ats-token", "a-token-of-some-length"),
        ("ats-whsec", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("ats-whsk", "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="),
        ("ats-tls-certificate", &certificate),
        ("ats-tls-key", &pair.serialize_pem()),
    ] {
        place.write(name, secret);
    }
    let mut sources = place.sources(&[]);
    sources.credentials_dir = Some(place.directory.path().to_owned());
    let loaded = outcomed::config::load(sources).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let config = loaded.config;
    assert_eq!(config.accounts[0].quota, outcomed::config::QuotaLimits::default());
    assert_eq!(config.accounts[0].base_url.as_str(), "https://open.feishu.cn/");
    let Credentials::Store { encrypt_key, .. } = &config.accounts[1].credentials else {
        panic!("the second example is a store app");
    };
    assert!(encrypt_key.is_some());
    assert_eq!(config.clients[0].signing_secrets.len(), 1);
    assert_eq!(config.clients[0].signing_keys.len(), 1);
    assert!(config.clients[0].tls_identity.is_some() && config.clients[0].alert_url.is_some());
    assert_eq!(config.clients[1].role, Role::Operator);
}
