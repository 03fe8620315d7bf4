//! Every row of the endpoint's documentation, on replies written from it; then anything at all.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::source::TransientClass;

const JSON: &str = "application/json; charset=utf-8";

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/feishu/", $name))
    };
}

fn reply(status: u16, content_type: &str, body: &str) -> Reply {
    Reply {
        status,
        content_type: Some(content_type.to_owned()),
        body: body.as_bytes().to_vec(),
        ..Reply::default()
    }
}

fn json(status: u16, body: &str) -> Result<Polled, PollError> {
    poll(&reply(status, JSON, body))
}

fn observed(body: &str) -> Observation {
    json(200, body).unwrap().observation
}

/// A short word for the result, to be compared in tables.
fn word(result: &Result<Polled, PollError>) -> &'static str {
    match result {
        Ok(polled) => match &polled.observation {
            Observation::Pending { .. } => "pending",
            Observation::NotFound => "not_found",
            Observation::Settled(outcome) => outcome.words().1,
        },
        Err(PollError::Account(problem)) => problem.reason,
        Err(PollError::Quota { .. }) => "quota",
        Err(PollError::Token) => "token",
        Err(PollError::Transient { class, .. }) => class.name(),
    }
}

const IDS: [&str; 6] = [
    "6960663240925956657",
    "6960663240925956659",
    "6960663240925956658",
    "6960663240925956660",
    "6960663240925956656",
    "7095600054216542508",
];

fn all_ids() -> Ids {
    let [application, job, job_post, portal_resume, user, talent] =
        IDS.map(|id| Some(id.to_owned()));
    Ids {
        application_id: application,
        job_id: job,
        job_post_id: job_post,
        portal_resume_id: portal_resume,
        user_id: user,
        talent_id: talent,
    }
}

#[test]
fn the_documented_sample_is_pending_although_it_carries_a_delivery() {
    assert_eq!(
        observed(fixture!("pending_sample.json")),
        Observation::Pending { unknown_status: None }
    );
}

#[test]
fn every_shape_of_not_yet_is_pending() {
    for data in [
        r#""data":null"#,
        r#""data":{}"#,
        r#""data": { } "#,
        r#""data":[]"#,
        r#""data":"""#,
        r#""msg":"no data at all""#,
        r#""data":{"status":null}"#,
        r#""data":{"status":0}"#,
        r#""data":{"status":1}"#,
        r#""data":{"delivery":{"application_id":"1"}}"#,
    ] {
        let body = format!(r#"{{"code":0,{data}}}"#);
        assert_eq!(observed(&body), Observation::Pending { unknown_status: None }, "{body}");
    }
}

#[test]
fn an_undocumented_status_is_pending_and_named() {
    for (status, named) in [("4", 4), ("-1", -1), ("22", 22), ("99999999999999999999", i64::MAX)] {
        let body = format!(r#"{{"code":0,"data":{{"status":{status}}}}}"#);
        assert_eq!(observed(&body), Observation::Pending { unknown_status: Some(named) });
    }
}

#[test]
fn a_status_or_data_of_another_type_settles_nothing() {
    for data in [
        r#"{"status":"2"}"#,
        r#"{"status":"3"}"#,
        r#"{"status":2.0}"#,
        r#"{"status":3e0}"#,
        r#"{"status":true}"#,
        r#"{"status":[2]}"#,
        r#"{"status":{"status":2}}"#,
        r#"[{"status":2}]"#,
        r#""status 2""#,
        "2",
    ] {
        let result = json(200, &format!(r#"{{"code":0,"data":{data}}}"#));
        assert_eq!(word(&result), "unreadable", "{data}");
    }
}

#[test]
fn a_success_carries_every_id_but_the_deprecated_one() {
    let settled = Observation::Settled(Outcome::succeeded(all_ids()));
    assert_eq!(observed(fixture!("succeeded.json")), settled);
}

#[test]
fn ids_keep_their_digits_as_numbers_and_blank_ones_are_absent() {
    let body = r#"{"code":0,"data":{"status":2,"delivery":{
        "application_id":6960663240925956657,"job_id":"  ","talent_id":null,"user_id":{}}}}"#;
    let ids = Ids { application_id: Some("6960663240925956657".into()), ..Ids::default() };
    assert_eq!(observed(body), Observation::Settled(Outcome::succeeded(ids)));
    let bare = Observation::Settled(Outcome::succeeded(Ids::default()));
    assert_eq!(observed(r#"{"code":0,"data":{"status":2}}"#), bare);
    assert_eq!(observed(r#"{"code":0,"data":{"status":2,"delivery":"odd"}}"#), bare);
}

#[test]
fn a_failure_is_a_duplicate_only_with_an_earlier_id() {
    let rejected = Outcome::failed(Ids::default(), Some("职位已关闭".into()), None);
    assert_eq!(observed(fixture!("rejected.json")), Observation::Settled(rejected));
    let duplicate = Outcome::failed(
        Ids::default(),
        Some("重复投递".into()),
        Some("6960663240925956657".into()),
    );
    assert_eq!(observed(fixture!("duplicate.json")), Observation::Settled(duplicate));
}

#[test]
fn every_documented_refusal_has_its_class() {
    let coded = |code: i64| format!(r#"{{"code":{code},"msg":"whatever"}}"#);
    for (status, code, expected) in [
        (400, 1_002_008, "not_found"),
        (200, 1_002_008, "not_found"),
        (400, 1_002_002, "invalid_task"),
        (500, 1_002_001, "upstream"),
        (500, 1_020_001, "upstream"),
        (429, 99_991_400, "quota"),
        (400, 99_991_400, "quota"),
        (429, 99_991_403, "monthly_quota"),
        (400, 99_991_663, "token"),
        (200, 99_991_663, "token"),
        (400, 99_991_664, "token"),
        (400, 99_991_665, "token"),
        (401, 99_991_671, "token"),
        (400, 20_005, "token"),
        (200, 20_005, "token"),
        (400, 99_991_661, "token_not_sent"),
        (400, 99_991_672, "missing_scope"),
        (400, 99_991_662, "app_disabled"),
        (400, 99_991_673, "app_not_installed"),
        (400, 99_991_401, "ip_denied"),
        (403, 99_991_676, "no_permission"),
        (400, 1_234_567, "upstream"),
        (200, 1_234_567, "upstream"),
        (429, 1_234_567, "quota"),
        (500, 0, "upstream"),
        (404, 0, "upstream"),
        (500, 1_002_002, "upstream"),
        (503, 1_002_008, "upstream"),
    ] {
        assert_eq!(word(&json(status, &coded(code))), expected, "HTTP {status}, code {code}");
    }
}

#[test]
fn what_is_not_feishus_json_is_told_by_its_content_type_first() {
    let settled = fixture!("succeeded.json");
    for (status, content_type, body, expected) in [
        (502, "text/html", fixture!("edge_page.html"), "unreadable"),
        (400, "text/html; charset=utf-8", fixture!("edge_page.html"), "unreadable"),
        (504, "", "", "unreadable"),
        (504, JSON, "", "unreadable"),
        (200, JSON, " \r\n", "unreadable"),
        (200, "text/html", settled, "unreadable"),
        (200, "text/plain", settled, "unreadable"),
        (200, JSON, "[]", "unreadable"),
        (200, JSON, "{}", "unreadable"),
        (200, JSON, r#"{"code":"0","data":{"status":2}}"#, "unreadable"),
        (200, JSON, r#"{"code":null,"data":{"status":2}}"#, "unreadable"),
        (302, "text/html", "", "unreadable"),
        (429, "text/html", "<html>slow down</html>", "quota"),
        (404, "text/plain", "404 page not found", "wrong_base_url"),
        (404, "Text/Plain; charset=utf-8", "404 page not found", "wrong_base_url"),
        (404, "text/html", "<html>404</html>", "unreadable"),
    ] {
        let result = poll(&reply(status, content_type, body));
        assert_eq!(word(&result), expected, "HTTP {status} {content_type} {body}");
    }
    let untyped = Reply { content_type: None, ..reply(200, "", settled) };
    assert_eq!(word(&poll(&untyped)), "none", "no type at all: judged by the body");
}

#[test]
fn a_quota_refusal_says_how_long_to_wait() {
    let mut refused = reply(429, JSON, fixture!("quota.json"));
    assert_eq!(poll(&refused), Err(PollError::Quota { reset: None }));
    refused.ratelimit_reset = Some("1.5".to_owned());
    let reset = Some(Duration::from_millis(1_500));
    assert_eq!(poll(&refused), Err(PollError::Quota { reset }));
}

#[test]
fn a_missing_scope_names_the_scopes_the_link_and_the_log_id() {
    let Err(PollError::Account(problem)) = json(400, fixture!("missing_scope.json")) else {
        panic!("an account's problem")
    };
    for part in [
        "grant the app the scope hire:site_application:readonly",
        "Access denied",
        "missing: hire:site_application:readonly, hire:site_application",
        "https://open.feishu.cn/app/cli_a1b2c3/auth?q=hire:site_application:readonly,",
        "token_type=tenant",
        "log id 20261122100000DEADBEEF",
    ] {
        assert!(problem.message.contains(part), "{part} in {}", problem.message);
    }
    assert!(!problem.message.contains('\n'));
}

#[test]
fn the_support_id_comes_from_the_header_else_from_the_error() {
    let body = fixture!("task_not_found.json");
    let in_body = json(400, body).unwrap().log_id;
    assert_eq!(in_body.as_deref(), Some("2026112210000000000000000000000A1B"));
    let from_header = Reply { log_id: Some(" 02178 ".to_owned()), ..reply(400, JSON, body) };
    assert_eq!(poll(&from_header).unwrap().log_id.as_deref(), Some("02178"));
    let spelled = json(400, r#"{"code":1002008,"error":{"logid":"abc"}}"#).unwrap().log_id;
    assert_eq!(spelled.as_deref(), Some("abc"));
    assert_eq!(json(400, r#"{"code":1002008,"error":"none"}"#).unwrap().log_id, None);
}

fn is_settled(result: &Result<Polled, PollError>) -> bool {
    matches!(result, Ok(Polled { observation: Observation::Settled(_), .. }))
}

fn any_content_type() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        Just(Some(JSON.to_owned())),
        Just(Some("text/html".to_owned())),
        ".{0,30}".prop_map(Some),
    ]
}

proptest! {
    #[test]
    fn no_reply_whatsoever_panics(
        status in 0_u16..=999,
        content_type in any_content_type(),
        log_id in proptest::option::of(".{0,200}"),
        ratelimit_reset in proptest::option::of(".{0,20}"),
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            r#"\{"code":(0|99991672|1002002),"msg":".{0,20}","(data|error)":.{0,60}\}"#
                .prop_map(String::into_bytes),
        ],
    ) {
        let _ = poll(&Reply { status, content_type, log_id, ratelimit_reset, body });
    }

    #[test]
    fn a_damaged_success_never_settles(cut in 0..fixture!("succeeded.json").trim_end().len()) {
        let body = &fixture!("succeeded.json").as_bytes()[..cut];
        let damaged = Reply { body: body.to_vec(), ..reply(200, JSON, "") };
        prop_assert!(!is_settled(&poll(&damaged)));
    }

    #[test]
    fn a_success_body_under_another_http_status_never_settles(status in 0_u16..=999) {
        prop_assume!(!(200..300).contains(&status));
        prop_assert!(!is_settled(&json(status, fixture!("succeeded.json"))));
    }

    #[test]
    fn no_code_but_0_and_1002002_ever_settles(code: i64, status in 0_u16..=999) {
        prop_assume!(code != 0 && code != INVALID_PARAMETER);
        let body = fixture!("succeeded.json").replacen('0', &code.to_string(), 1);
        prop_assert!(!is_settled(&json(status, &body)));
    }

    #[test]
    fn no_change_of_one_byte_makes_the_pending_sample_settle_unless_it_is_the_status(
        position in 0..fixture!("pending_sample.json").len(),
        byte: u8,
    ) {
        let mut body = fixture!("pending_sample.json").as_bytes().to_vec();
        prop_assume!(body[position] != b'1' || !b"23".contains(&byte));
        body[position] = byte;
        let changed = Reply { body, ..reply(200, JSON, "") };
        prop_assert!(!is_settled(&poll(&changed)));
    }
}

#[test]
fn a_transient_detail_names_the_code_and_the_log_id() {
    let error = json(400, r#"{"code":1234567,"msg":"odd","error":{"log_id":"L1"}}"#).unwrap_err();
    let PollError::Transient { class: TransientClass::Code(_), detail } = error else {
        panic!("transient")
    };
    assert_eq!(detail, "HTTP 400 with code 1234567: odd (log id L1)");
}
