//! Feishu's official SDKs, unmodified, against the mock.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use outcomed::mock_feishu::{Api, App, Ending, Life, MockFeishu, Options};
use serde_json::{Value, json};

use super::kit::SITE;

/// Loading an SDK takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const EARLIER: &str = "6960663240925956655";

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), name].iter().collect()
}

fn installed(path: PathBuf) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing: run `make test` or `tests/sdk/setup.sh`, which install the official SDKs",
        path.display()
    );
    path
}

/// On a thread of its own: the mock needs the test's.
async fn run(mut script: Command) -> Output {
    let (done, output) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || done.send(script.output()));
    output.await.expect("the thread lives").expect("the script starts")
}

/// Runs a script against a fresh mock and checks what it saw.
async fn create_and_poll(mut script: Command) -> (MockFeishu, Value) {
    let mock = MockFeishu::start(Options::default()).await.expect("a free port");
    for ending in [
        Ending::Succeeded,
        Ending::Duplicate { message: "again".into(), of: EARLIER.into() },
        Ending::Rejected { message: "closed".into() },
    ] {
        mock.control().script_next_task(Life::ending(ending, Duration::from_millis(700)));
    }
    script
        .env("MOCK_URL", mock.base_url())
        .env("APP_ID", App::ID)
        .env("APP_SECRET", App::SECRET)
        .env("SITE", SITE)
        .env("NO_PROXY", "127.0.0.1");
    let output = tokio::time::timeout(PATIENCE, run(script)).await.expect("it ends in time");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    (mock, seen)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn check(mock: &MockFeishu, seen: &Value) {
    let ended = &seen["ended"];
    let pending = ended[0]["pending"].as_u64().expect("a number");
    let task = mock.control().task(text(&ended[0]["task_id"])).expect("it was created");
    assert!(pending > 0, "it saw the task pending first");
    assert_eq!((&ended[0]["status"], task.polls), (&json!(2), pending + 1));
    let id: u64 = text(&ended[0]["application_id"]).parse().expect("a number");
    assert!(id > 1 << 53);
    assert_eq!((&ended[1]["status"], text(&ended[1]["extra_info"])), (&json!(3), EARLIER));
    assert_eq!((&ended[2]["status"], text(&ended[2]["status_msg"])), (&json!(3), "closed"));
    assert!(ended[2]["extra_info"].as_str().is_none_or(|text| text.trim().is_empty()));
    let unknown = &seen["unknown"];
    assert_eq!((&unknown["status"], &unknown["code"]), (&json!(400), &json!(1_002_008)));
    assert!(text(&unknown["log_id"]).starts_with("2026"));
    assert!(text(&unknown["troubleshooter"]).contains("log_id="));
    mock.control().journal(|journal| {
        assert_eq!(journal.calls(Api::Auth), 1, "one login serves every call");
        assert_eq!(journal.answered(Api::Create, "ok"), 3);
        assert_eq!(journal.calls(Api::Unknown), 0);
    });
}

#[tokio::test]
async fn the_official_python_sdk_works_unmodified() {
    let mut script = Command::new(installed(folder("target/sdk/venv/bin/python")));
    script.arg(folder("tests/sdk/create_and_poll.py"));
    let (mock, seen) = create_and_poll(script).await;
    check(&mock, &seen);
    assert!(seen["ended"][0]["log_id"].as_str().unwrap().starts_with("2026"));
}

#[tokio::test]
async fn the_official_node_sdk_works_unmodified() {
    let sdk = folder("target/sdk/node");
    installed(sdk.join("node_modules/@larksuiteoapi/node-sdk"));
    let mut script = Command::new("node");
    script.arg(folder("tests/sdk/create_and_poll.mjs")).env("SDK_FOLDER", sdk);
    let (mock, seen) = create_and_poll(script).await;
    check(&mock, &seen);
}
