//! The first command that the README names.

use std::process::{Command, Stdio};

use crate::http::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_does_the_main_job_and_ends_well() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outcomed"));
    command.args(["demo", "--tasks", "30"]).stdin(Stdio::null()).env_clear();
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(PATIENCE, running).await.expect("it ends by itself").unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let rest = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}{rest}");
    for words in [
        "30 delivered, every signature verified",
        "1 failed: duplicate",
        ", 0 refused;",
        "plan        a poll must save ",
        " polls a task; a delay of ",
        " of the bound",
    ] {
        assert!(told.contains(words), "{words} is not in: {told}{rest}");
    }
}
