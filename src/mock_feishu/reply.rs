//! What goes back: every answer that Feishu's gateway and edge are known to give.

use std::time::Duration;

use serde_json::{Value, json};

use super::options::{App, QuotaStatus};
use super::windows::Spent;

/// The scopes of which the poll needs one.
const SCOPES: [&str; 2] = ["hire:site_application:readonly", "hire:site_application"];

/// One reply, ready for a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The word for it, in the counts.
    pub word: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// None for an empty body.
    pub content_type: Option<&'static str>,
    /// Beyond the ones that every reply has.
    pub headers: Vec<(&'static str, String)>,
    /// The body's bytes.
    pub body: String,
    /// How it goes out.
    pub manner: Manner,
}

/// How a reply goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it is.
    AtOnce,
    /// The head at once, the body in pieces that take this long altogether.
    Slowly(Duration),
    /// Not at all: the connection is reset.
    Reset,
}

impl Reply {
    /// A JSON reply.
    pub(super) fn json(word: &'static str, status: u16, body: &Value) -> Self {
        Self {
            word,
            status,
            content_type: Some("application/json; charset=utf-8"),
            headers: Vec::new(),
            body: body.to_string(),
            manner: Manner::AtOnce,
        }
    }

    /// A reply of the edge: not JSON, and without Feishu's own headers.
    fn edge(
        word: &'static str,
        status: u16,
        content_type: Option<&'static str>,
        body: &str,
    ) -> Self {
        let (headers, manner) = (Vec::new(), Manner::AtOnce);
        Self { word, status, content_type, headers, body: body.into(), manner }
    }

    /// The gateway's refusal, with its `error` object.
    pub(super) fn refusal(
        word: &'static str,
        status: u16,
        code: i64,
        msg: &str,
        log: &str,
    ) -> Self {
        Self::refusal_with(word, status, (code, msg), log, json!({}))
    }

    fn refusal_with(
        word: &'static str,
        status: u16,
        (code, msg): (i64, &str),
        log_id: &str,
        mut error: Value,
    ) -> Self {
        error["log_id"] = log_id.into();
        error["troubleshooter"] = format!(
            "排查建议查看(Troubleshooting suggestions): https://open.feishu.cn/search?from=openapi&log_id={log_id}&code={code}"
        )
        .into();
        Self::json(word, status, &json!({ "code": code, "msg": msg, "error": error }))
    }

    /// No `Bearer` token was sent.
    pub(super) fn no_token(log_id: &str) -> Self {
        let msg =
            "Missing access token for authorization. Please make a request with token attached.";
        Self::refusal("no_token", 400, 99_991_661, msg, log_id)
    }

    /// The token is unknown, expired or withdrawn.
    pub(super) fn bad_token(log_id: &str) -> Self {
        let msg = "Invalid access token for authorization. Please make a test attempt with the correct token.";
        Self::refusal("bad_token", 400, 99_991_663, msg, log_id)
    }

    /// A limit is spent; says how long to wait, in whole seconds as Feishu does.
    pub(super) fn quota(status: QuotaStatus, spent: Spent, log_id: &str) -> Self {
        let msg = "request trigger frequency limit";
        let mut reply = Self::refusal("quota", status.code(), 99_991_400, msg, log_id);
        let seconds = spent.reset.as_millis().div_ceil(1000).max(1);
        reply.headers.push(("x-ogw-ratelimit-limit", spent.window.calls.to_string()));
        reply.headers.push(("x-ogw-ratelimit-reset", seconds.to_string()));
        reply
    }

    /// The tenant's monthly quota is gone.
    pub(super) fn monthly_quota(log_id: &str) -> Self {
        let msg = "This month's API call quota has been exceeded";
        Self::refusal("monthly_quota", 429, 99_991_403, msg, log_id)
    }

    /// A scope is missing: with the console link and the violations of a real reply.
    pub(super) fn missing_scope(app: &App, log_id: &str) -> Self {
        let link = format!(
            "https://open.feishu.cn/app/{}/auth?q={}&op_from=openapi&token_type=tenant",
            app.id,
            SCOPES.join(",")
        );
        let msg = format!(
            "Access denied. One of the following scopes is required: [{}].应用尚未开通所需的应用身份权限：[{}]，点击链接申请并开通任一权限即可：{link}",
            SCOPES.join(", "),
            SCOPES.join(", ")
        );
        let violation = |scope| json!({ "type": "action_scope_required", "subject": scope });
        let error = json!({
            "permission_violations": SCOPES.map(violation),
            "helps": [{ "url": link, "description": "apply for the scope" }],
        });
        Self::refusal_with("missing_scope", 400, (99_991_672, &msg), log_id, error)
    }

    /// Required fields of a body are missing.
    pub(super) fn missing_fields(fields: &[&str], log_id: &str) -> Self {
        let violation =
            |field: &&str| json!({ "field": field, "description": format!("{field} is required") });
        let violations: Vec<Value> = fields.iter().map(violation).collect();
        let error = json!({ "field_violations": violations });
        Self::refusal_with(
            "bad_request",
            400,
            (99_992_402, "field validation failed"),
            log_id,
            error,
        )
    }

    /// The task is unknown, or was deleted.
    pub(super) fn task_not_found(log_id: &str) -> Self {
        Self::refusal("task_not_found", 400, 1_002_008, "Task not found or task error", log_id)
    }

    /// The ids are malformed.
    pub(super) fn invalid_task(log_id: &str) -> Self {
        Self::refusal("invalid_task", 400, 1_002_002, "parameter error", log_id)
    }

    /// Feishu's own failure.
    pub(super) fn system_error(log_id: &str) -> Self {
        Self::refusal("system_error", 500, 1_002_001, "system error", log_id)
    }

    /// What the gateway says to an unknown path or method.
    pub(super) fn unknown_path() -> Self {
        Self::edge("unknown_path", 404, Some("text/plain"), "404 page not found")
    }

    /// The edge cannot reach the gateway.
    pub(super) fn bad_gateway() -> Self {
        let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";
        Self::edge("bad_gateway", 502, Some("text/html"), page)
    }

    /// The gateway did not answer the edge in time.
    pub(super) fn gateway_timeout() -> Self {
        Self::edge("gateway_timeout", 504, None, "")
    }

    /// The edge dislikes the request.
    pub(super) fn edge_page() -> Self {
        let page = "<html>\r\n<head><title>400 Bad Request</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n</body>\r\n</html>\r\n";
        Self::edge("edge_page", 400, Some("text/html"), page)
    }

    /// JSON that ends too early.
    pub(super) fn broken_json() -> Self {
        let json = Some("application/json; charset=utf-8");
        Self::edge("broken_json", 200, json, r#"{"code":0,"msg":"success","data":{"sta"#)
    }

    /// No reply: the connection is reset.
    pub(super) fn reset() -> Self {
        Self { manner: Manner::Reset, ..Self::edge("reset", 0, None, "") }
    }

    /// Whether the gateway itself wrote it, and so gave it a log id.
    pub(super) fn has_log_id(&self) -> bool {
        self.content_type.is_some_and(|kind| kind.starts_with("application/json"))
    }
}
