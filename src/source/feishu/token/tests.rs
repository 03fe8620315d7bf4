use std::time::Duration;

use super::*;

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        content_type: Some("application/json; charset=utf-8".to_owned()),
        body: body.as_bytes().to_vec(),
        ..Reply::default()
    }
}

fn token(value: &str, seconds: u64) -> Issued {
    Issued { value: Secret::new(value), expire: Duration::from_secs(seconds) }
}

const AT_0: Steady = Steady(0);
fn minute(minutes: i64) -> Steady {
    Steady(minutes * 60_000)
}

#[test]
fn the_flat_reply_is_read_for_the_token_that_was_asked_for() {
    let body = r#"{"code":0,"msg":"ok","tenant_access_token":"t-1","app_access_token":"a-1","expire":7140}"#;
    let tenant = issued(&reply(200, body), Call::Internal).unwrap();
    assert_eq!((tenant.value.expose(), tenant.expire.as_secs()), ("t-1", 7_140));
    assert_eq!(issued(&reply(200, body), Call::App).unwrap().value.expose(), "a-1");
}

#[test]
fn a_configuration_error_says_which_setting_to_correct() {
    for (code, call, setting) in [
        (10_003, Call::Internal, "`app_id`"),
        (10_014, Call::Internal, "`app_secret`"),
        (10_015, Call::App, "`app_id` and `app_secret`"),
        (10_003, Call::Tenant, "`tenant_key`"),
    ] {
        let body = format!(r#"{{"code":{code},"msg":"app secret invalid"}}"#);
        let Err(Refused::Because(PollError::Account(problem))) = issued(&reply(200, &body), call)
        else {
            panic!("{code} is an account's problem")
        };
        assert_eq!(problem.reason, "bad_credentials");
        assert!(problem.message.contains(setting), "{setting} in {}", problem.message);
        assert!(problem.message.contains("app secret invalid"), "{}", problem.message);
    }
}

#[test]
fn other_failures_of_a_token_call_are_the_moments() {
    for (status, code) in
        [(200, 2_200), (200, 1_500), (200, 5_000), (200, 10_101), (429, 99_991_400), (200, 77)]
    {
        let result = issued(&reply(status, &format!(r#"{{"code":{code},"msg":"x"}}"#)), Call::App);
        assert!(
            matches!(result, Err(Refused::Because(PollError::Transient { .. }))),
            "{code}: {result:?}"
        );
    }
}

#[test]
fn a_success_without_a_usable_token_is_unreadable() {
    for body in [
        r#"{"code":0,"expire":7200}"#,
        r#"{"code":0,"tenant_access_token":"t-1"}"#,
        r#"{"code":0,"tenant_access_token":"t-1","expire":0}"#,
        r#"{"code":0,"tenant_access_token":"t-1","expire":-5}"#,
        r#"{"code":0,"tenant_access_token":"t-1","expire":"soon"}"#,
        r#"{"code":0,"tenant_access_token":"t\r\n1","expire":7200}"#,
        r#"{"code":0,"data":{"tenant_access_token":"t-1","expire":7200}}"#,
    ] {
        let result = issued(&reply(200, body), Call::Internal);
        assert!(
            matches!(result, Err(Refused::Because(PollError::Transient { .. }))),
            "{body}: {result:?}"
        );
    }
}

#[test]
fn a_full_life_is_renewed_in_its_last_half_hour_and_used_to_its_end() {
    let mut cache = Cache::default();
    assert!(cache.refresh_due(AT_0) && cache.lend(AT_0).is_none());
    cache.keep(token("t-1", 7_200), AT_0);
    assert!(!cache.refresh_due(minute(90)), "Feishu would hand out the same token");
    assert!(cache.refresh_due(minute(97)));
    assert!(cache.lend(minute(119)).is_some());
    assert!(cache.lend(minute(120)).is_none());
}

#[test]
fn a_short_life_is_renewed_at_a_fifth_and_an_absurd_one_is_not_believed() {
    let mut cache = Cache::default();
    cache.keep(token("t-1", 10), AT_0);
    assert!(!cache.refresh_due(Steady(7_999)));
    assert!(cache.refresh_due(Steady(8_000)));
    let body = r#"{"code":0,"tenant_access_token":"t-1","expire":99999999999999999999}"#;
    assert_eq!(issued(&reply(200, body), Call::Internal).unwrap().expire, LIFE_MAX);
}

#[test]
fn a_failed_renewal_is_tried_again_while_there_is_time() {
    let mut cache = Cache::default();
    cache.keep(token("t-1", 10), AT_0);
    cache.refresh_failed(Steady(8_000));
    assert!(!cache.refresh_due(Steady(8_499)));
    assert!(cache.refresh_due(Steady(8_500)));
}

#[test]
fn late_refusals_of_a_dropped_token_do_not_drop_its_successor() {
    let mut cache = Cache::default();
    let first = cache.keep(token("t-1", 7_200), AT_0);
    cache.refused(first.generation);
    assert!(cache.lend(AT_0).is_none());
    // Feishu hands the very same token out again: refusals on the way are of the old one.
    let second = cache.keep(token("t-1", 7_200), AT_0);
    cache.refused(first.generation);
    assert!(cache.lend(AT_0).is_some());
    cache.refused(second.generation);
    assert!(cache.lend(AT_0).is_none());
}

#[test]
fn the_same_token_renewed_is_still_the_one_that_may_be_refused() {
    let mut cache = Cache::default();
    let first = cache.keep(token("t-1", 60), AT_0);
    cache.keep(token("t-1", 60), Steady(50_000));
    cache.refused(first.generation);
    assert!(cache.lend(Steady(50_000)).is_none());
}
