//! `outcomed check-config`, the real binary.

use std::process::{Command, Output};

use outcomed::cli::check_config::online::{self, Check, OnlineChecks};
use outcomed::config::Account;

use super::{ACCOUNT, CLIENT, Place};

/// Runs `check-config` in the place's directory, with nothing of ours in the environment.
fn check(place: &Place, args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outcomed"));
    command.arg("check-config").args(args).current_dir(place.directory.path());
    command.env_clear().envs(env.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_good_file_is_described_without_its_secrets() {
    let place = Place::with("");
    let secret = place.write("app-secret", "sesame-1\n");
    let account = ACCOUNT.replace("\"s\"", &format!("\"file:{}\"", secret.display()));
    let client = CLIENT.replace("a-token-of-some-length", "env:ATS_TOKEN");
    place.write("config.toml", &format!("{account}{client}callback_allow = [\"10.0.0.0/8\"]\n"));
    let env = [("ATS_TOKEN", "sesame-2-sesame-2"), ("OUTCOMED_HTTP__LISTEN", "127.0.0.1:9")];
    let (code, out, err) = check(&place, &["--config", "config.toml"], &env);
    assert_eq!(code, 0, "{out}{err}");
    for expected in [
        "config.toml: ok".to_owned(),
        "listen       http://127.0.0.1:9".to_owned(),
        "store        sqlite:outcomed.db".to_owned(),
        "default    internal app cli_a, https://open.feishu.cn, quota 50 a second and 1000 a minute"
            .to_owned(),
        format!("app_secret from file {}", secret.display()),
        "ats        client, 1 signing secret, callbacks to public https and 10.0.0.0/8".to_owned(),
        "token from environment variable ATS_TOKEN".to_owned(),
        "signing_secrets[0] from config.toml".to_owned(),
        "12 attempts over".to_owned(),
    ] {
        assert!(out.contains(&expected), "no `{expected}` in:\n{out}");
    }
    assert!(!format!("{out}{err}").contains("sesame"));
    assert!(!format!("{out}{err}").contains("MfKQ9r8"));
}

#[test]
fn a_bad_file_ends_in_78_with_every_mistake_and_its_line() {
    let place = Place::with("[http]\nlisen = \"x\"\n[log]\nformat = \"xml\"\n");
    let (code, out, err) = check(&place, &["--config", "config.toml"], &[]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(err.contains("unknown key `http.lisen`\n --> config.toml:2:1"), "{err}");
    assert!(err.contains("`log.format` is not a format\n --> config.toml:4:10"), "{err}");
    assert!(err.ends_with("2 errors in the configuration\n"), "{err}");
}

#[test]
fn the_file_is_the_flag_then_the_variable_then_the_one_at_hand() {
    let place = Place::with("[http]\nlisten = \"127.0.0.1:1\"\n");
    place.write("variable.toml", "[http]\nlisten = \"127.0.0.1:2\"\n");
    place.write("flag.toml", "[http]\nlisten = \"127.0.0.1:3\"\n");
    let variable = [("OUTCOMED_CONFIG", "variable.toml")];
    let flag = ["--config", "flag.toml"];
    assert!(check(&place, &flag, &variable).1.contains("http://127.0.0.1:3"));
    assert!(check(&place, &[], &variable).1.contains("http://127.0.0.1:2"));
    let (_, out, _) = check(&place, &[], &[]);
    // On a machine with the service installed, its file is the one at hand.
    if !std::path::Path::new("/etc/outcomed/config.toml").exists() {
        assert!(out.contains("http://127.0.0.1:1"), "{out}");
    }
    let (code, _, err) = check(&place, &[], &[("OUTCOMED_CONFIG", "missing.toml")]);
    assert_eq!(code, 78, "a file that was asked for must exist");
    assert!(err.contains("missing.toml"), "{err}");
}

#[test]
fn online_looks_at_hosts_and_the_store_and_writes_nothing() {
    let account = format!("{ACCOUNT}base_url = \"http://127.0.0.1:9\"\n");
    let place = Place::with(&account);
    let args = ["--config", "config.toml", "--online"];
    let (_, out, _) = check(&place, &args, &[]);
    assert!(out.contains("outcomed.db does not exist yet and will be created"), "{out}");
    assert!(out.contains("account default host      ok: 127.0.0.1 is 127.0.0.1"), "{out}");
    assert!(out.contains("account default token"), "{out}");
    assert!(!place.path("outcomed.db").exists());

    place.write("outcomed.db", "this is a letter, not a database");
    let (code, out, _) = check(&place, &args, &[]);
    assert_eq!(code, 1);
    assert!(out.contains("FAILED: outcomed.db is not a SQLite database"), "{out}");
    let nowhere = [("OUTCOMED_STORE__URL", "sqlite:nowhere/outcomed.db")];
    let (code, out, _) = check(&place, &args, &nowhere);
    assert_eq!(code, 1);
    assert!(out.contains("nowhere is not a directory"), "{out}");
}

#[test]
fn online_accepts_a_real_database_and_leaves_it_as_it_is() {
    let place = Place::with("");
    let path = place.path("outcomed.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    drop(database);
    let files = || std::fs::read_dir(place.directory.path()).unwrap().count();
    let (before, bytes) = (files(), std::fs::read(&path).unwrap());
    let (code, out, _) = check(&place, &["--config", "config.toml", "--online"], &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("outcomed.db can be read and written"), "{out}");
    assert_eq!((files(), std::fs::read(&path).unwrap()), (before, bytes));
}

/// An upstream that never answers for `slow`, and refuses everybody else.
struct Upstream;

#[async_trait::async_trait]
impl OnlineChecks for Upstream {
    async fn token(&self, account: &Account) -> Check {
        if account.name == "slow" {
            std::future::pending::<()>().await;
        }
        Check::Failed { what: "app secret invalid".into(), advice: "correct app_secret".into() }
    }
}

#[tokio::test(start_paused = true)]
async fn online_asks_for_every_token_and_does_not_wait_for_ever() {
    let local = "base_url = \"http://127.0.0.1:9\"\n";
    let slow = ACCOUNT.replace("default", "slow");
    let place = Place::with(&format!("{slow}{local}{ACCOUNT}{local}"));
    let config = place.load(&[]).unwrap().config;
    let results = online::run(&config, &Upstream).await;
    let result = |what: &str| {
        let found = results.iter().find(|(name, _)| name == what);
        format!("{:?}", found.unwrap().1)
    };
    assert!(result("account slow token").contains("no answer in time"), "{results:?}");
    assert!(result("account default token").contains("app secret invalid"), "{results:?}");
}
