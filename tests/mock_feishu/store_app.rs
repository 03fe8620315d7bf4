//! A store app: tickets pushed, tickets exchanged, one tenant apart from another.

use aes::Aes256;
use aes::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outcomed::mock_feishu::{App, Life, MockFeishu, Options, StoreApp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use super::kit::{LOGIN, PATIENCE, SITE, poll, post, sha256, start};

const AUTH: &str = "/open-apis/auth/v3";
const KEY: &str = "test key";

/// The app's side: an address that notes what is pushed to it.
struct Listener {
    server: MockServer,
    events: mpsc::UnboundedReceiver<Request>,
}

impl Listener {
    async fn start() -> Self {
        let server = MockServer::start().await;
        let (out, events) = mpsc::unbounded_channel();
        let note = move |request: &Request| {
            let _ = out.send(request.clone());
            ResponseTemplate::new(200)
        };
        Mock::given(any()).respond_with(note).mount(&server).await;
        Self { server, events }
    }

    async fn next(&mut self) -> Request {
        let next = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        next.expect("an event in time").expect("the listener lives")
    }

    async fn ticket(&mut self) -> String {
        let event: Value = serde_json::from_slice(&self.next().await.body).expect("JSON");
        assert_eq!(event["event"]["type"], "app_ticket");
        event["event"]["app_ticket"].as_str().expect("a ticket").into()
    }
}

async fn store_app(listener: &Listener, encrypt_key: Option<&str>) -> MockFeishu {
    let store = StoreApp {
        event_url: Some(listener.server.uri()),
        verification_token: "verify".into(),
        encrypt_key: encrypt_key.map(str::to_owned),
        tenants: vec!["tenant-1".into(), "tenant-2".into()],
    };
    let app = App { store: Some(store), ..App::default() };
    let poll_quota = "2/60s".parse().expect("a quota");
    start(Options { apps: vec![app], poll_quota, ..Options::default() }).await.0
}

async fn app_token(mock: &MockFeishu, ticket: &str) -> Value {
    let body = json!({ "app_id": App::ID, "app_secret": App::SECRET, "app_ticket": ticket });
    post(mock, &format!("{AUTH}/app_access_token"), &body).await.json()
}

async fn tenant_token(mock: &MockFeishu, app_token: &Value, tenant: &str) -> Value {
    let body = json!({ "app_access_token": app_token, "tenant_key": tenant });
    post(mock, &format!("{AUTH}/tenant_access_token"), &body).await.json()
}

#[tokio::test]
async fn a_pushed_ticket_becomes_an_app_token_and_that_a_tenant_token() {
    let mut listener = Listener::start().await;
    let mock = store_app(&listener, None).await;
    let ticket = listener.ticket().await;
    let app = app_token(&mock, &ticket).await;
    assert_eq!((&app["code"], &app["expire"]), (&json!(0), &json!(7200)));
    let tenant = tenant_token(&mock, &app["app_access_token"], "tenant-1").await;
    let token = tenant["tenant_access_token"].as_str().unwrap();
    let task = mock.control().create_task(SITE, Life::pending());
    assert_eq!(poll(&mock, token, &task).await.code(), 0);
}

#[tokio::test]
async fn each_tenant_has_a_quota_of_its_own() {
    let mut listener = Listener::start().await;
    let mock = store_app(&listener, None).await;
    let ticket = listener.ticket().await;
    let app = app_token(&mock, &ticket).await;
    let task = mock.control().create_task(SITE, Life::pending());
    for tenant in ["tenant-1", "tenant-2"] {
        let token = tenant_token(&mock, &app["app_access_token"], tenant).await;
        let token = token["tenant_access_token"].as_str().unwrap();
        let mut codes = Vec::new();
        for _ in 0..3 {
            codes.push(poll(&mock, token, &task).await.code());
        }
        assert_eq!(codes, [0, 0, 99_991_400], "{tenant}");
    }
}

#[tokio::test]
async fn a_ticket_can_be_asked_for_and_the_one_before_it_still_works() {
    let mut listener = Listener::start().await;
    let mock = store_app(&listener, None).await;
    let first = listener.ticket().await;
    let body = json!({ "app_id": App::ID, "app_secret": App::SECRET });
    let reply = post(&mock, &format!("{AUTH}/app_ticket/resend"), &body).await;
    assert_eq!((reply.status, reply.code()), (200, 0));
    let second = listener.ticket().await;
    assert_ne!(first, second);
    for ticket in [&first, &second] {
        assert_eq!(app_token(&mock, ticket).await["code"], 0);
    }
    mock.control().push_ticket(App::ID);
    listener.ticket().await;
    assert_eq!(app_token(&mock, &first).await["code"], 10_012);
}

#[tokio::test]
async fn wrong_tickets_tenants_and_kinds_of_login_are_refused_with_http_200() {
    let mut listener = Listener::start().await;
    let mock = store_app(&listener, None).await;
    let ticket = listener.ticket().await;
    let app = app_token(&mock, &ticket).await;
    assert_eq!(app_token(&mock, "x").await["code"], 10_012);
    let stranger = tenant_token(&mock, &app["app_access_token"], "tenant-3").await;
    assert_eq!(stranger["code"], 10_003);
    assert_ne!(tenant_token(&mock, &json!("a-x"), "tenant-1").await["code"], 0);
    let internal = post(&mock, LOGIN, &super::kit::credentials()).await;
    assert_eq!((internal.status, internal.code()), (200, 10_003));
}

#[tokio::test]
async fn with_an_encrypt_key_events_are_encrypted_and_signed() {
    let mut listener = Listener::start().await;
    let mock = store_app(&listener, Some(KEY)).await;
    listener.next().await;
    mock.control().push_url_check(App::ID, "echo me");
    let event = listener.next().await;
    let header = |name: &str| event.headers[name].to_str().unwrap().as_bytes().to_vec();
    let signed = [
        header("X-Lark-Request-Timestamp"),
        header("X-Lark-Request-Nonce"),
        KEY.into(),
        event.body.clone(),
    ]
    .concat();
    let digest = sha256(&signed);
    assert_eq!(header("X-Lark-Signature"), digest.as_bytes());

    let body: Value = serde_json::from_slice(&event.body).unwrap();
    let bytes = STANDARD.decode(body["encrypt"].as_str().unwrap()).unwrap();
    let key = Sha256::digest(KEY.as_bytes());
    let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&key, &bytes[..16]).unwrap();
    let mut text = bytes[16..].to_vec();
    let plain = cipher.decrypt_padded::<Pkcs7>(&mut text).unwrap();
    let plain: Value = serde_json::from_slice(plain).unwrap();
    assert_eq!(
        plain,
        json!({ "challenge": "echo me", "token": "verify", "type": "url_verification" })
    );
}
