//! The golden pushes were encrypted and signed with other tools (openssl, sha256sum).

use super::*;

const PLAIN_TICKET: &[u8] = include_bytes!("../../../../tests/fixtures/feishu/event_ticket.json");
const PLAIN_CHALLENGE: &[u8] =
    include_bytes!("../../../../tests/fixtures/feishu/event_challenge.json");
const TICKET: &[u8] =
    include_bytes!("../../../../tests/fixtures/feishu/event_ticket_encrypted.json");
const CHALLENGE: &[u8] =
    include_bytes!("../../../../tests/fixtures/feishu/event_challenge_encrypted.json");
const TICKET_SIGNATURE: &str = "b42b90e4d249404a888e04cfc8191dca636f4d43658acdfa2c9ace7ce0c3ddba";
/// A moment after the golden pushes were made.
const NOW: Timestamp = Timestamp(1_700_000_030_000);
const UNSIGNED: EventHeaders<'static> =
    EventHeaders { timestamp: None, nonce: None, signature: None };

fn signed(signature: &str) -> EventHeaders<'_> {
    EventHeaders {
        timestamp: Some("1700000000"),
        nonce: Some("nonce-1"),
        signature: Some(signature),
    }
}

fn with_key(body: &[u8], headers: EventHeaders<'_>) -> Result<Event, EventError> {
    let (token, key) = (Secret::new("v-token"), Secret::new("test key"));
    handle_event(body, headers, Keys { verification_token: &token, encrypt_key: Some(&key) }, NOW)
}

fn without_key(body: &[u8]) -> Result<Event, EventError> {
    without_key_at(body, UNSIGNED, NOW)
}

fn without_key_at(
    body: &[u8],
    headers: EventHeaders<'_>,
    now: Timestamp,
) -> Result<Event, EventError> {
    let token = Secret::new("v-token");
    handle_event(body, headers, Keys { verification_token: &token, encrypt_key: None }, now)
}

fn the_ticket() -> Event {
    Event::Ticket {
        app_id: "cli_9c8609450f78d102".to_owned(),
        ticket: Secret::new("t-secret-ticket"),
        at: Timestamp(1_700_000_000_717),
        uuid: Some("bc447199585340d1f3728d26b1c0297a".to_owned()),
    }
}

#[test]
fn the_documented_vector_decrypts() {
    let vector = "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk=";
    assert_eq!(decrypt(vector, &Secret::new("test key")).unwrap(), b"hello world");
    assert_eq!(decrypt(vector, &Secret::new("other key")), None);
}

#[test]
fn a_plain_push_with_the_right_token_is_read() {
    assert_eq!(without_key(PLAIN_TICKET), Ok(the_ticket()));
    assert_eq!(without_key(PLAIN_CHALLENGE), Ok(Event::Challenge("ajls384kdjx98XX".into())));
    let other = br#"{"schema":"2.0","header":{"token":"v-token","event_type":"x"},"event":{}}"#;
    assert_eq!(without_key(other), Ok(Event::Other));
}

#[test]
fn a_push_with_another_token_is_refused() {
    for body in [
        &br#"{"challenge":"c","token":"v-tokem","type":"url_verification"}"#[..],
        br#"{"challenge":"c","type":"url_verification"}"#,
        br#"{"challenge":"c","token":"","type":"url_verification"}"#,
        br#"{"schema":"2.0","token":"v-token","header":{"token":"x"},"event":{}}"#,
        b"{}",
        b"[]",
    ] {
        assert_eq!(without_key(body), Err(EventError::WrongToken));
    }
    let empty = br#"{"challenge":"c","token":"","type":"url_verification"}"#;
    let none = Secret::new("");
    let keys = Keys { verification_token: &none, encrypt_key: None };
    let unset = handle_event(empty, UNSIGNED, keys, NOW);
    assert_eq!(unset, Err(EventError::WrongToken), "an empty token proves nothing");
}

#[test]
fn an_encrypted_and_signed_push_is_read() {
    assert_eq!(with_key(TICKET, signed(TICKET_SIGNATURE)), Ok(the_ticket()));
}

#[test]
fn only_the_url_check_may_come_unsigned() {
    let challenge = Ok(Event::Challenge("ajls384kdjx98XX".into()));
    assert_eq!(with_key(CHALLENGE, UNSIGNED), challenge);
    assert_eq!(with_key(TICKET, UNSIGNED), Err(EventError::NotSigned));
}

#[test]
fn a_changed_body_header_or_signature_is_refused() {
    let wrong = TICKET_SIGNATURE.replace("b4", "b5");
    assert_eq!(with_key(TICKET, signed(&wrong)), Err(EventError::NotSigned));
    assert_eq!(with_key(CHALLENGE, signed(TICKET_SIGNATURE)), Err(EventError::NotSigned));
    let later = EventHeaders { timestamp: Some("1700000001"), ..signed(TICKET_SIGNATURE) };
    assert_eq!(with_key(TICKET, later), Err(EventError::NotSigned));
    let bare = EventHeaders { timestamp: None, nonce: None, ..signed(TICKET_SIGNATURE) };
    assert_eq!(with_key(TICKET, bare), Err(EventError::NotSigned));
}

#[test]
fn a_stranger_cannot_tell_bad_padding_from_bad_content() {
    for body in [&br#"{"encrypt":"AAAA"}"#[..], br#"{"encrypt":"!"}"#, br#"{"encrypt":""}"#, TICKET]
    {
        assert_eq!(with_key(body, UNSIGNED), Err(EventError::NotSigned));
    }
}

#[test]
fn key_and_encryption_go_together_or_the_push_is_refused() {
    assert_eq!(with_key(PLAIN_TICKET, signed(TICKET_SIGNATURE)), Err(EventError::Plain));
    assert_eq!(with_key(PLAIN_CHALLENGE, UNSIGNED), Err(EventError::Plain));
    assert_eq!(without_key(TICKET), Err(EventError::NoEncryptKey));
}

#[test]
fn a_ticket_without_its_app_or_itself_is_malformed() {
    for event in
        [r#"{"app_id":"cli_1","type":"app_ticket"}"#, r#"{"app_ticket":"t","type":"app_ticket"}"#]
    {
        let body = format!(r#"{{"token":"v-token","type":"event_callback","event":{event}}}"#);
        assert_eq!(without_key(body.as_bytes()), Err(EventError::Malformed));
    }
    assert_eq!(without_key(b"challenge"), Err(EventError::Malformed));
}

#[test]
fn a_push_from_another_time_is_refused() {
    let sent = Timestamp(1_700_000_000_717);
    let five = Duration::from_secs(300);
    for now in [sent.after(five), sent.before(five)] {
        assert_eq!(without_key_at(PLAIN_TICKET, UNSIGNED, now), Ok(the_ticket()));
    }
    let milli = Duration::from_millis(1);
    for now in [sent.after(five + milli), sent.before(five + milli)] {
        assert_eq!(without_key_at(PLAIN_TICKET, UNSIGNED, now), Err(EventError::Stale));
    }
    let header = |timestamp| EventHeaders { timestamp: Some(timestamp), ..UNSIGNED };
    assert_eq!(without_key_at(PLAIN_TICKET, header("1700000001"), NOW), Ok(the_ticket()));
    for other in ["1699999700", "1700000400", "", "-1", "now", "99999999999999999999", "9.9.9"] {
        let read = without_key_at(PLAIN_TICKET, header(other), NOW);
        assert_eq!(read, Err(EventError::Stale), "{other}");
    }
    let second = br#"{"schema":"2.0","header":{"token":"v-token","create_time":"1700000000000"}}"#;
    assert_eq!(without_key(second), Ok(Event::Other));
    let later = NOW.after(five);
    assert_eq!(without_key_at(second, UNSIGNED, later), Err(EventError::Stale));
}

proptest::proptest! {
    #[test]
    fn no_push_whatsoever_panics(
        body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        encrypted in "[A-Za-z0-9+/=]{0,100}",
        signature in ".{0,70}",
    ) {
        let _ = without_key(&body);
        let _ = with_key(&body, signed(&signature));
        let wrapped = format!(r#"{{"encrypt":"{encrypted}"}}"#);
        proptest::prop_assert!(with_key(wrapped.as_bytes(), UNSIGNED).is_err());
    }
}
