//! `GET /v1/keys`: public keys, and nothing more than public keys.

use outcomed::api::Limits;
use outcomed::config::SigningKey;
use serde_json::json;

use crate::harness::{ATS, Api, CRM, OPERATOR, config};

#[tokio::test]
async fn a_client_reads_its_own_public_keys_and_an_operator_everybodys() {
    let mut config = config();
    let [new, old, other] = [1, 2, 3].map(|seed| SigningKey::from_seed(&[seed; 32]));
    config.clients[0].signing_keys = vec![new.clone(), old.clone()];
    config.clients[1].signing_keys = vec![other.clone()];
    let api = Api::start_with(config, Limits::default()).await;
    let ats = json!({"client": "ats", "public_keys": [new.public(), old.public()]});
    let crm = json!({"client": "crm", "public_keys": [other.public()]});
    assert_eq!(api.get("/v1/keys", ATS).await.json(), json!({"items": [ats]}));
    assert_eq!(api.get("/v1/keys", CRM).await.json(), json!({"items": [crm]}));
    let all = api.get("/v1/keys", OPERATOR).await;
    assert_eq!(all.json(), json!({"items": [ats, crm]}));
    assert!(!all.text.contains("whsk_"));
    api.get("/v1/keys", "").await.problem(401, "unauthorized");
}

#[tokio::test]
async fn a_client_with_a_key_needs_no_secret_to_be_told() {
    let mut config = config();
    config.clients[0].signing_secrets.clear();
    let api = Api::start_with(config.clone(), Limits::default()).await;
    let wanted = crate::harness::wanted("task-1");
    api.post("/v1/registrations", ATS, &wanted).await.problem(403, "no-signing-secret");
    config.clients[0].signing_keys = vec![SigningKey::from_seed(&[1; 32])];
    api.config.send_replace(std::sync::Arc::new(config));
    assert_eq!(api.post("/v1/registrations", ATS, &wanted).await.status, 201);
}
