//! Callbacks that aim at what is not the caller's: refused at the door, whatever their spelling.

use serde_json::json;

use crate::daemon::{ATS, Stage, wanted};
use crate::upstream::success;

/// Nobody's business, or no URL.
const FORGED: [&str; 65] = [
    "http://example.com/hook",
    "HTTP://example.com/hook",
    "ftp://example.com/hook",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "//example.com/hook",
    "example.com/hook",
    "https://",
    "https:///hook",
    "https://example.com/#x",
    "https://exa mple.com/",
    " https://example.com/",
    "https://example.com/\n",
    "https://exa\tmple.com/",
    "https://example.com:99999/",
    "https://user@example.com/",
    "https://user:password@example.com/",
    "https://:password@example.com/",
    "https://example.com@127.0.0.1/",
    "http://127.0.0.1/",
    "https://127.0.0.1/",
    "https://127.0.0.1:8474/v1/registrations",
    "https://127.1/",
    "https://127.255.255.254/",
    "https://0x7f.1/",
    "https://0x7f000001/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.0.0.1./",
    "https://127\u{3002}0\u{3002}0\u{3002}1/",
    "https://\u{2460}\u{2461}\u{2466}.0.0.1/",
    "https://%31%32%37.0.0.1/",
    "https:/\\127.0.0.1/",
    "https:127.0.0.1",
    "https:example.com/hook",
    "https:///example.com/hook",
    "https:\\\\example.com\\hook",
    "https:\\\\127.0.0.1\\",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fc00::1]/",
    "https://[fd12:3456::1]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[ff02::1]/",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_callback_is_422_at_registration_and_at_a_ping() {
    let mut stage = Stage::new().await;
    stage.home.callback_allow = "[]";
    let daemon = stage.home.start().await;
    for url in FORGED {
        let body = wanted("a", url).to_string();
        let answer = daemon.call("POST", "/v1/registrations", ATS, Some(&body)).await;
        assert_eq!(answer.status, 422, "{url}: {answer:?}");
        assert_eq!(answer.pointers(), ["/callback/url"], "{url}");
        let ping = json!({"url": url}).to_string();
        let answer = daemon.call("POST", "/v1/callbacks/ping", ATS, Some(&ping)).await;
        assert_eq!(answer.status, 422, "{url}: {answer:?}");
        assert_eq!(answer.pointers(), ["/url"], "{url}");
    }
    assert_eq!(daemon.get("/v1/registrations").await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_opens_nothing_beside_it() {
    let mut stage = Stage::new().await;
    for (allowed, good, bad) in [
        (
            r#"["http://127.0.0.1", "10.1.0.0/16"]"#,
            "http://10.1.0.9/hook",
            ["http://127.0.0.1/", "http://10.2.0.1/", "https://10.2.0.1/", "http://[::1]/"],
        ),
        (
            r#"["hooks.example.com"]"#,
            "https://hooks.example.com/hook",
            [
                "http://hooks.example.com/",
                "https://127.0.0.1/",
                "http://x.com/",
                "https://10.1.0.1/",
            ],
        ),
    ] {
        stage.home.callback_allow = allowed;
        let daemon = stage.home.start().await;
        for url in bad {
            let body = wanted("a", url).to_string();
            let answer = daemon.call("POST", "/v1/registrations", ATS, Some(&body)).await;
            assert_eq!(answer.status, 422, "{url} with {allowed}: {answer:?}");
        }
        daemon.register(&wanted("a", good)).await;
    }
}

/// Names are resolved when they are dialled: it is then that they must not lead inside.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_is_refused_where_it_is_dialled() {
    let mut stage = Stage::new().await;
    stage.home.callback_allow = "[]";
    stage.upstream.script("a", [success()]);
    let daemon = stage.home.start().await;
    let url = format!("https://localhost:{}/", stage.receiver.address.port());
    let body = wanted("a", &url).to_string();
    let answer = daemon.call("POST", "/v1/registrations", ATS, Some(&body)).await;
    if answer.status == 422 {
        return;
    }
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let ended = daemon.until_state(&id, "undeliverable").await;
    assert_eq!(ended["delivery"]["last_status"], json!(null), "{ended}");
    assert!(stage.receiver.so_far().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_to_the_daemons_own_api_is_not_made() {
    let stage = Stage::new().await;
    stage.upstream.script("a", [success()]);
    let daemon = stage.home.start().await;
    let crate::http::Door::Tcp(own) = daemon.door else { unreachable!() };
    let body = wanted("a", &format!("http://{own}/v1/registrations")).to_string();
    let answer = daemon.call("POST", "/v1/registrations", ATS, Some(&body)).await;
    if answer.status == 422 {
        return;
    }
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let ended = daemon.until_state(&id, "undeliverable").await;
    assert_eq!(ended["delivery"]["last_status"], json!(null), "it answered itself: {ended}");
}
