//! What only a person can mend: the account waits, says what to do, and settles nothing.

use serde_json::{Value, json};

use crate::daemon::{ATS, Daemon, Stage, until, wanted};
use crate::expected::{assert_says, not_observed, succeeded};
use crate::upstream::{Say, Upstream, error, ids, success};

const SCOPE: &str = "hire:site_application:readonly";
const LINK: &str = "https://open.feishu.cn/app/cli_a1b2c3d4e5f60001/auth?q=hire:site_application:readonly&op_from=openapi";

fn missing_scope() -> Say {
    let msg = format!(
        "Access denied. One of the following scopes is required: [{SCOPE}].应用尚未开通所需的应用身份权限：[{SCOPE}]，点击链接申请并开通任一权限即可：{LINK}"
    );
    let body = json!({"code": 99_991_672, "msg": msg, "error": {
        "message": "Refer to the documentation to fix the error", "log_id": "20261122AAAA",
        "troubleshooter": "排查建议查看(Troubleshooting suggestions): https://open.feishu.cn/search?log_id=20261122AAAA",
        "permission_violations": [{"type": "action_scope_required", "subject": SCOPE}]}});
    Say::Json(400, body.to_string())
}

/// The account is suspended for this reason, everywhere a person may look.
async fn assert_suspended(daemon: &Daemon, reason: &str, told: &[&str], tasks: u64) -> Value {
    // Its token may be refused before its lane has read the task.
    let look = async || {
        let account = daemon.until_account("suspended").await;
        (account["watched"] == tasks).then_some(account)
    };
    let account = until("its tasks watched", look, || daemon.log()).await;
    assert_eq!((&account["name"], &account["reason"]), (&json!("default"), &json!(reason)));
    assert!(account["since"].is_string(), "{account}");
    let message = account["message"].as_str().unwrap();
    let log = || daemon.log();
    for word in told {
        assert!(message.contains(word), "{word} is not in: {message}");
        let logged = async || log().contains(word).then_some(());
        until(&format!("{word} in the log"), logged, log).await;
    }
    let ready = daemon.call("GET", "/readyz", "", None).await;
    assert_eq!(ready.status, 200, "{ready:?}");
    let listed = &ready.json()["suspended_accounts"][0];
    assert_eq!((&listed["name"], &listed["reason"]), (&json!("default"), &json!(reason)));
    account
}

async fn assert_all_watching(daemon: &Daemon, tasks: usize) {
    let list = daemon.get("/v1/registrations").await;
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), tasks);
    assert!(items.iter().all(|it| it["state"] == "watching" && it["outcome"].is_null()), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_suspends_the_account_until_a_reload_brings_the_right_one() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    stage.home.set_app_secret("not-the-secret");
    upstream.script("a", [success()]);
    let daemon = stage.home.start().await;
    let registered = daemon.register(&wanted("a", &receiver.url("/a"))).await;
    assert_suspended(&daemon, "bad_credentials", &["app_secret", "10014"], 1).await;
    assert!(!daemon.log().contains("not-the-secret"), "the secret is in the log");
    assert_all_watching(&daemon, 1).await;
    // Its own deadline is kept meanwhile.
    let mut short = wanted("b", &receiver.url("/b"));
    short["give_up_after"] = json!("1s");
    let short = daemon.register(&short).await;
    let told = receiver.distinct(1).await.remove(0);
    let why = not_observed(&told, &["account default", "bad_credentials", "app_secret"]);
    assert_says(&told, &short, &json!({}), &why, upstream);
    let calls = upstream.state().token_calls.len();
    assert!(calls <= 4, "{calls} token calls with a wrong secret");
    assert!(upstream.state().polls.is_empty());

    stage.home.set_app_secret(crate::upstream::APP_SECRET);
    daemon.signal("HUP");
    let told = receiver.distinct(2).await.remove(1);
    assert_says(&told, &registered, &json!({}), &succeeded(&ids()), upstream);
    daemon.until_account("ok").await;
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready["suspended_accounts"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_told_with_its_console_link_and_heals_by_itself() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    for task in ["a", "b", "c"] {
        upstream.script(task, [success()]);
    }
    upstream.state().to_all = Some(missing_scope());
    let daemon = stage.home.start().await;
    let bodies = ["a", "b", "c"].map(|task| wanted(task, &receiver.url("/")));
    daemon.register_all(bodies.to_vec()).await;
    assert_suspended(&daemon, "missing_scope", &[SCOPE, LINK], 3).await;
    assert_all_watching(&daemon, 3).await;
    let polls = upstream.state().polls.len();
    assert!(polls <= 6, "{polls} polls into a missing scope");
    upstream.state().to_all = None;
    receiver.distinct(3).await;
    daemon.until_account("ok").await;
    upstream.assert_polite();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_base_url_suspends_the_account_until_a_reload_brings_the_right_one() {
    let mut stage = Stage::new().await;
    let elsewhere = Upstream::start().await;
    elsewhere.state().elsewhere = true;
    let right =
        std::mem::replace(&mut stage.home.base_url, format!("http://{}", elsewhere.address));
    stage.upstream.script("a", [success()]);
    let daemon = stage.home.start().await;
    daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    assert_suspended(&daemon, "wrong_base_url", &["base_url", "https://open.feishu.cn"], 1).await;
    assert_all_watching(&daemon, 1).await;
    stage.home.base_url = right;
    stage.home.write_config();
    daemon.signal("HUP");
    stage.receiver.distinct(1).await;
    daemon.until_account("ok").await;
    stage.upstream.assert_polite();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_a_person_must_mend_suspends_and_settles_nothing() {
    let stage = Stage::new().await;
    let upstream = &stage.upstream;
    upstream.script("a", [success()]);
    upstream.state().to_all = Some(missing_scope());
    let daemon = stage.home.start().await;
    daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    for (status, code, reason) in [
        (400, 99_991_662, "app_disabled"),
        (400, 99_991_673, "app_not_installed"),
        (400, 99_991_401, "ip_denied"),
        (400, 99_991_676, "no_permission"),
        (429, 99_991_403, "monthly_quota"),
        (400, 99_991_661, "token_not_sent"),
    ] {
        upstream.state().to_all = Some(error(status, code));
        // A reload looks again at once.
        daemon.signal("HUP");
        let suspended = async || {
            let account = daemon.get("/v1/accounts").await["items"][0].take();
            (account["reason"] == reason).then_some(account)
        };
        let account = until(reason, suspended, || daemon.log()).await;
        assert!(account["message"].as_str().unwrap().contains(&code.to_string()), "{account}");
        assert_all_watching(&daemon, 1).await;
    }
    upstream.state().to_all = None;
    daemon.signal("HUP");
    stage.receiver.distinct(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_at_a_reload_changes_nothing_and_says_why() {
    let mut stage = Stage::new().await;
    stage.upstream.script("a", [success()]);
    let daemon = stage.home.start().await;
    stage.home.base_url = "http://127.0.0.1:9".into();
    stage.home.more = "[polling2]\nx = 1\n[delivvery]\ntimeout = \"1s\"".into();
    stage.home.write_config();
    daemon.signal("HUP");
    daemon.logged("nothing is changed").await;
    let log = daemon.log();
    for word in ["delivvery", "polling2", "config.toml"] {
        assert!(log.contains(word), "{word} is not in the log: {log}");
    }
    let metrics = daemon.call("GET", "/metrics", crate::daemon::OPS, None).await.text;
    assert!(metrics.contains("outcomed_config_last_reload_successful 0"), "{metrics}");
    // The old upstream and the old client still hold.
    daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    stage.receiver.distinct(1).await;
    let list = daemon.call("GET", "/v1/registrations", ATS, None).await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 1);
    assert!(!log.contains(ATS), "a token is in the log");
}
