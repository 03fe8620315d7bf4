//! The callback, described as an `OpenAPI` webhook.

use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::outcome::{Class, Failure, Ids, Observed};
use crate::task::TaskRef;

/// The body of a callback. Its bytes are the same on every attempt.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used; `outcome::body` writes the bytes")]
pub struct CallbackBody {
    /// `delivery_task.` and the outcome's class.
    #[schema(example = "delivery_task.succeeded")]
    r#type: String,
    /// When the outcome was stored.
    timestamp: Timestamp,
    /// What happened.
    data: CallbackData,
}

/// What happened to one registration's task.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct CallbackData {
    /// `reg_…`
    registration_id: String,
    /// What was waited for.
    task: TaskRef,
    /// The class.
    outcome: Class,
    /// The ids Feishu gave, if any.
    delivery: Option<Ids>,
    /// Why it did not succeed; null if it did.
    failure: Option<Failure>,
    /// When and how it was learned.
    observed: Observed,
    /// As registered, to the byte.
    #[schema(value_type = Object)]
    metadata: Value,
}

/// The document's `webhooks` member.
pub fn webhooks() -> Value {
    let header = |name: &str, description: &str| {
        json!({"name": name, "in": "header", "required": true, "description": description,
               "schema": {"type": "string"}})
    };
    json!({"outcome": {"post": {
        "operationId": "outcome",
        "summary": "How a task ended, POSTed to the registration's callback",
        "description": "Signed as Standard Webhooks says. At least once: drop repeats by \
                        `webhook-id`. 2xx is success, 410 ends it, anything else is tried again.",
        "security": [],
        "parameters": [
            header("webhook-id", "`msg_…`; the same on every attempt and every redelivery"),
            header("webhook-timestamp", "of this attempt, in Unix seconds"),
            header("webhook-signature", "`v1,…` for each secret, newest first, and `v1a,…` \
                                         where the client has an ed25519 key"),
        ],
        "requestBody": {"required": true, "content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/CallbackBody"}}}},
        "responses": {
            "2XX": {"description": "It arrived"},
            "410": {"description": "Send nothing here any more"},
            "default": {"description": "It is tried again on the schedule; `Retry-After` is \
                                        honoured with 429, 502, 503 and 504"},
        },
    }}})
}
