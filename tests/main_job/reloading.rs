//! What a reload changes, and what it only names.

use serde_json::json;

use crate::daemon::{ATS, OPS, Stage, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_what_needs_a_restart_as_it_runs_and_says_so_each_time() {
    let mut stage = Stage::new().await;
    let daemon = stage.home.start().await;
    let polling = stage.home.polling.clone();
    stage.home.polling = "not_found_grace = \"1s\"\ngive_up_after = \"7m\"".into();
    stage.home.more = "[retention]\ndelivered = \"3d\"".into();
    stage.home.listen = "127.0.0.1:1\"\nopen_metrics = true\n#\"".into();
    for _ in 0..2 {
        daemon.forget_log();
        stage.home.write_config();
        daemon.signal("HUP");
        daemon.logged("configuration reloaded").await;
        let log = daemon.log();
        for key in
            ["http.listen", "http.open_metrics", "polling.give_up_after", "retention.delivered"]
        {
            let named = |line: &str| line.contains(key) && line.contains("needs a restart");
            assert!(log.lines().any(named), "{key}: {log}");
        }
        assert!(!log.contains("polling.not_found_grace"), "{log}");
        assert_eq!(daemon.call("GET", "/metrics", "", None).await.status, 401, "still closed");
    }
    let one = daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
    let seconds = |key: &str| {
        let at: jiff::Timestamp = one[key].as_str().unwrap().parse().unwrap();
        at.as_second()
    };
    assert_eq!(
        seconds("give_up_at") - seconds("created_at"),
        300,
        "the deadline it was started with"
    );

    // Taken back: nothing is left to say.
    stage.home.polling = polling;
    stage.home.more = String::new();
    stage.home.listen = "127.0.0.1:0".into();
    daemon.forget_log();
    stage.home.write_config();
    daemon.signal("HUP");
    daemon.logged("configuration reloaded").await;
    assert!(!daemon.log().contains("needs a restart"), "{}", daemon.log());
    assert_eq!(daemon.call("GET", "/v1/registrations", ATS, None).await.status, 200);
    assert_eq!(daemon.call("GET", "/metrics", OPS, None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_says_which_credentials_it_could_not_have_renewed() {
    let mut stage = Stage::new().await;
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("crm-token"), "oct_crm_0123456789abcdef").unwrap();
    stage.home.started_by =
        vec!["env".into(), format!("CREDENTIALS_DIRECTORY={}", credentials.path().display())];
    stage.home.more = "[[clients]]\nname = \"crm\"\nrole = \"operator\"\n\
                       token = \"credential:crm-token\""
        .into();
    let daemon = stage.home.start().await;
    daemon.signal("HUP");
    let told = daemon.logged("after changing one, restart").await;
    assert_eq!(told["fields"]["credentials"], json!("crm-token"));
    std::fs::write(credentials.path().join("crm-token"), "oct_crm_another0123456789").unwrap();
    daemon.forget_log();
    daemon.signal("HUP");
    daemon.logged("configuration reloaded").await;
    assert!(!daemon.log().contains("after changing one, restart"), "{}", daemon.log());
}
