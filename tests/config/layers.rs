//! Built-in defaults < file < environment < flags.

use std::time::Duration;

use outcomed::config::{
    Config, ConfigError, Credentials, Listen, Overrides, QuotaLimits, Sources, load,
};

use super::{ACCOUNT, CLIENT, Place};

fn port(config: &Config) -> u16 {
    match &config.http.listen {
        Listen::Tcp(address) => address.port(),
        Listen::Unix(path) => panic!("listens at {}", path.display()),
    }
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let place = Place::with("[http]\nlisten = \"127.0.0.1:1001\"\n");
    let variable = [("OUTCOMED_HTTP__LISTEN", "127.0.0.1:1002")];
    assert_eq!(port(&load(Sources::default()).unwrap().config), 8474);
    assert_eq!(port(&place.load(&[]).unwrap().config), 1001);
    assert_eq!(port(&place.load(&variable).unwrap().config), 1002);
    let mut sources = place.sources(&variable);
    sources.overrides =
        Overrides { listen: Some("127.0.0.1:1003".to_owned()), ..Overrides::default() };
    assert_eq!(port(&load(sources).unwrap().config), 1003);
}

#[test]
fn a_layer_that_says_one_thing_leaves_the_rest_to_the_others() {
    let place = Place::with("[delivery]\ntimeout = \"3s\"\n");
    let config = place.load(&[("OUTCOMED_DELIVERY__CONCURRENCY_PER_HOST", "2")]).unwrap().config;
    assert_eq!(config.delivery.timeout, Duration::from_secs(3));
    assert_eq!(config.delivery.concurrency_per_host, 2);
    assert_eq!(config.delivery.retry_delays.len(), 11);
}

#[test]
fn every_kind_of_setting_can_come_from_the_environment() {
    let place = Place::with(ACCOUNT);
    let loaded = place.load(&[
        ("OUTCOMED_HTTP__OPEN_METRICS", "true"),
        ("OUTCOMED_STORE__URL", "sqlite:/var/lib/outcomed/store.db"),
        ("OUTCOMED_POLLING__GIVE_UP_AFTER", "2d"),
        ("OUTCOMED_DELIVERY__RETRY_DELAYS", "[\"1s\", \"2s\"]"),
        ("OUTCOMED_LOG__FORMAT", "json"),
        ("OUTCOMED_ACCOUNTS__0__QUOTA__PER_SECOND", "7"),
    ]);
    let config = loaded.unwrap().config;
    assert!(config.http.open_metrics);
    assert_eq!(config.polling.give_up_after, Duration::from_secs(2 * 86_400));
    assert_eq!(config.delivery.retry_delays, [1, 2].map(Duration::from_secs));
    assert_eq!(config.accounts[0].quota, QuotaLimits { per_second: 7, per_minute: 1000 });
    assert_eq!(config.accounts[0].name, "default");
}

#[test]
fn a_secret_of_digits_stays_a_string() {
    let place = Place::with(ACCOUNT);
    let config = place.load(&[("OUTCOMED_ACCOUNTS__0__APP_SECRET", "0123")]).unwrap().config;
    let Credentials::Internal { app_secret, .. } = &config.accounts[0].credentials else {
        panic!("not internal");
    };
    assert_eq!(app_secret.expose(), "0123");
}

#[test]
fn an_account_can_come_from_the_environment_alone() {
    let place = Place::with(CLIENT);
    let variables = [
        ("OUTCOMED_ACCOUNTS__0__NAME", "default"),
        ("OUTCOMED_ACCOUNTS__0__APP_ID", "cli_a"),
        ("OUTCOMED_ACCOUNTS__0__APP_SECRET", "hush"),
    ];
    let config = place.load(&variables).unwrap().config;
    assert_eq!(config.accounts.len(), 1);
    assert_eq!(config.clients[0].name, "ats");
    let errors = place.load(&variables[..1]).unwrap_err();
    let all: Vec<String> = errors.iter().map(ConfigError::one_line).collect();
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(all[0].contains("`accounts[0].app_id` is missing"), "{all:#?}");
    assert!(all[0].contains("set OUTCOMED_ACCOUNTS__0__APP_ID"), "{all:#?}");
}

#[test]
fn more_than_nine_accounts_keep_their_order() {
    let account = |n: usize| ACCOUNT.replace("default", &format!("a{n}")).replace("cli_a", "cli");
    let text: String = (0..12).map(account).collect();
    let config = Place::with(&text).load(&[]).unwrap().config;
    let names: Vec<String> = config.accounts.into_iter().map(|account| account.name).collect();
    let expected: Vec<String> = (0..12).map(|n| format!("a{n}")).collect();
    assert_eq!(names, expected);
}

#[test]
fn mistakes_in_the_environment_and_in_flags_name_the_variable_and_the_flag() {
    let place = Place::with("");
    let mut sources = place.sources(&[
        ("OUTCOMED_HTTP__LISEN", "127.0.0.1:1"),
        ("OUTCOMED_FOO__BAR", "1"),
        ("OUTCOMED_LOG_LEVEL", "debug"),
        ("OUTCOMED_DELIVERY__CONCURRENCY_PER_HOST", "many"),
        ("OUTCOMED_DELIVERY__RETRY_DELAYS", "[\"5s\", \"soon\"]"),
        ("OUTCOMED_CLIENTS__1__NAME", "second"),
    ]);
    sources.overrides.log_format = Some("xml".to_owned());
    let errors = load(sources).unwrap_err();
    let all: Vec<String> = errors.iter().map(ConfigError::one_line).collect();
    for expected in [
        "environment variable OUTCOMED_HTTP__LISEN: unknown key `http.lisen`: \
         did you mean OUTCOMED_HTTP__LISTEN?",
        "environment variable OUTCOMED_FOO__BAR: unknown key `foo`",
        "environment variable OUTCOMED_LOG_LEVEL: unknown environment variable \
         OUTCOMED_LOG_LEVEL: did you mean OUTCOMED_LOG__LEVEL, with two underscores?",
        "OUTCOMED_DELIVERY__CONCURRENCY_PER_HOST: `delivery.concurrency_per_host` must be a whole",
        "OUTCOMED_DELIVERY__RETRY_DELAYS: `delivery.retry_delays[1]` is not a duration",
        "OUTCOMED_CLIENTS__1__NAME: `clients[1]` does not belong to any of clients: count clients \
         from 0 without gaps: the next one is 0",
        "flag --log-format: `log.format` is not a format: use auto, text, json or journald",
    ] {
        assert!(all.iter().any(|line| line.contains(expected)), "no `{expected}` in {all:#?}");
    }
    assert_eq!(all.len(), 7, "{all:#?}");
}

#[test]
fn variables_of_the_client_commands_and_of_kubernetes_are_left_alone() {
    let place = Place::with("");
    let loaded = place.load(&[
        ("OUTCOMED_URL", "http://127.0.0.1:8474"),
        ("OUTCOMED_TOKEN", "hush"),
        ("OUTCOMED_CONFIG", "elsewhere.toml"),
        ("OUTCOMED_SERVICE_HOST", "10.0.0.1"),
        ("OUTCOMED_PORT", "tcp://10.0.0.1:8474"),
        ("HTTP__LISTEN", "nonsense"),
    ]);
    assert_eq!(loaded.unwrap().config, Config::default());
}

#[test]
fn the_file_is_toml_1_1() {
    let quota = "quota = {\n  per_second = 5, # each\n  per_minute = 100,\n}\n";
    let config = Place::with(&format!("{ACCOUNT}{quota}")).load(&[]).unwrap().config;
    assert_eq!(config.accounts[0].quota, QuotaLimits { per_second: 5, per_minute: 100 });
}
