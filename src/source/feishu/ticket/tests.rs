//! The golden pushes were encrypted and signed with other tools (openssl, sha256sum).

use super::*;

const PLAIN_TICKET: &[u8] = include_bytes!("../../../../tests/fixtures/feishu/event_ticket.json");
const PLAIN_CHALLENGE: &[u8] =
    include_bytes!("../../../../tests/fixtures/feishu/event_challenge.json");
const TICKET: &[u8] =
    include_bytes!("../../../../tests/fixtures/feishu/event_ticket_encrypted.json");
const CHALLENGE: &[u8] =
    include_bytes!("../../../../tests/fixtures/feishu/event_challenge_encrypted.json");
const TICKET_SIGNATURE: &str = "f89916139449e3fe92d3fc9424b0880f571a09b7741e698b824eaf4f9c8f618e";
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
    handle_event(body, headers, &Secret::new("v-token"), Some(&Secret::new("test key")))
}

fn without_key(body: &[u8]) -> Result<Event, EventError> {
    handle_event(body, UNSIGNED, &Secret::new("v-token"), None)
}

fn the_ticket() -> Event {
    Event::Ticket {
        app_id: "cli_9c8609450f78d102".to_owned(),
        ticket: Secret::new("t-secret-ticket"),
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
    let unset = handle_event(empty, UNSIGNED, &Secret::new(""), None);
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
    let wrong = TICKET_SIGNATURE.replace("f8", "f9");
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
