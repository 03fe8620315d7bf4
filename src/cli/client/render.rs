//! What a person sees: data on standard output, everything else on standard error.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::connection::Reply;

/// Prints data. Nobody reading any more (`| head`) is no failure.
pub(super) fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
}

/// Says something that is not data.
pub(super) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a reply: as it is, or as `human` shows it.
pub(super) fn reply(json: bool, reply: &Reply, human: impl FnOnce(&Value) -> String) {
    if json { print(&reply.text) } else { print(&human(&reply.value)) }
}

/// A value within `value` as text; `-` when there is none.
pub(super) fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => escaped(text),
        Some(other) => escaped(&other.to_string()),
    }
}

/// Receivers and clients choose some of what is shown; none of it may steer the terminal.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    // Ids broken over two lines could not be copied.
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header);
    }
    table
}

fn rows(header: &[&str], pointers: &[&str], list: &Value) -> String {
    let mut table = table(header);
    for item in items(list) {
        table.add_row(pointers.iter().map(|pointer| text(item, pointer)));
    }
    table.trim_fmt()
}

/// The items of a page.
pub(super) fn items(page: &Value) -> &[Value] {
    page.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Many registrations.
pub(super) fn registrations(page: &Value) -> String {
    rows(
        &["ID", "STATE", "OUTCOME", "DELIVERY TASK", "ACCOUNT", "CREATED", "ATTEMPTS"],
        &[
            "/id",
            "/state",
            "/outcome/outcome",
            "/task/delivery_task_id",
            "/task/account",
            "/created_at",
            "/delivery/attempts",
        ],
        page,
    )
}

/// One registration, line by line; lines without a value are left out.
pub(super) fn registration(value: &Value) -> String {
    const LINES: [(&str, &str); 31] = [
        ("id", "/id"),
        ("client", "/client"),
        ("state", "/state"),
        ("account", "/task/account"),
        ("website", "/task/website_id"),
        ("delivery task", "/task/delivery_task_id"),
        ("callback", "/callback/url"),
        ("metadata", "/metadata"),
        ("created", "/created_at"),
        ("gives up", "/give_up_at"),
        ("polls so far", "/watch/polls"),
        ("last polled", "/watch/last_polled_at"),
        ("last answer", "/watch/last_answer"),
        ("last code", "/watch/last_code"),
        ("next poll", "/watch/next_poll_at"),
        ("account is", "/watch/account_state"),
        ("because", "/watch/account_message"),
        ("outcome", "/outcome/outcome"),
        ("reason", "/outcome/failure/reason"),
        ("message", "/outcome/failure/message"),
        ("duplicate of", "/outcome/failure/duplicate_of"),
        ("application", "/outcome/delivery/application_id"),
        ("talent", "/outcome/delivery/talent_id"),
        ("last pending", "/outcome/observed/last_pending_at"),
        ("settled", "/outcome/observed/settled_at"),
        ("polls", "/outcome/observed/polls"),
        ("log id", "/outcome/observed/log_id"),
        ("attempts", "/delivery/attempts"),
        ("next attempt", "/delivery/next_attempt_at"),
        ("last status", "/delivery/last_status"),
        ("last error", "/delivery/last_error"),
    ];
    let mut table = table(&[]);
    for (name, pointer) in LINES {
        let shown = text(value, pointer);
        if shown != "-" {
            table.add_row([name.to_owned(), shown]);
        }
    }
    table.trim_fmt()
}

/// How far a redelivery of many is.
pub(super) fn redelivery(value: &Value) -> String {
    let (id, state) = (text(value, "/id"), text(value, "/state"));
    let (done, matched) = (text(value, "/done"), text(value, "/matched"));
    format!("{id}: {state}, {done} of {matched} sent again")
}

/// How far a rewatch of many is.
pub(super) fn rewatch(value: &Value) -> String {
    let (id, state) = (text(value, "/id"), text(value, "/state"));
    let (done, matched) = (text(value, "/done"), text(value, "/matched"));
    format!("{id}: {state}, {done} of {matched} watched again")
}

/// Every attempt.
pub(super) fn attempts(list: &Value) -> String {
    rows(
        &["#", "AT", "CONNECT (ms)", "TOOK (ms)", "STATUS", "VERDICT", "WHY", "ERROR", "REPLY"],
        &[
            "/number",
            "/at",
            "/connect_ms",
            "/duration_ms",
            "/status",
            "/verdict",
            "/reason",
            "/error",
            "/reply_excerpt",
        ],
        list,
    )
}

/// Every account, then each one's plan, and what a person should do about the suspended ones.
pub(super) fn accounts(list: &Value) -> String {
    let mut shown = rows(
        &["ACCOUNT", "STATE", "WATCHED", "POLLS 1s", "OF", "POLLS 60s", "OF", "DETECTED WITHIN"],
        &[
            "/name",
            "/state",
            "/watched",
            "/polls/last_second",
            "/quota/per_second",
            "/polls/last_minute",
            "/quota/per_minute",
            "/expected_detection_delay",
        ],
        list,
    );
    let known = |account: &&Value| account.get("ratio_to_bound").is_some_and(Value::is_number);
    let mut planned = items(list).iter().filter(known).peekable();
    if planned.peek().is_some() {
        shown.push('\n');
    }
    for account in planned {
        let text = |pointer| text(account, pointer);
        shown = format!(
            "{shown}\n{}: {} tasks a minute, {} polls a task, each must save {} of waiting\n  \
             seen {} late on average; at least {} with this quota: x{} of the bound",
            text("/name"),
            text("/tasks_per_minute"),
            text("/polls_per_task"),
            text("/poll_price"),
            text("/mean_detection_delay"),
            text("/detection_delay_bound"),
            text("/ratio_to_bound"),
        );
    }
    for account in items(list) {
        if account.get("reason").is_some_and(|reason| !reason.is_null()) {
            let (name, reason) = (text(account, "/name"), text(account, "/reason"));
            let (since, message) = (text(account, "/since"), text(account, "/message"));
            shown = format!("{shown}\n\n{name}: {reason} since {since}\n  {message}");
        }
    }
    shown
}

/// Every daemon, and whose each lane is, by the daemons' names.
pub(super) fn fleet(value: &Value) -> String {
    let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let members = list("members");
    let mut shown = table(&["MEMBER", "NAME", "SINCE", "LAST BEAT", "LANES"]);
    for member in &members {
        let fields = ["/id", "/name", "/since", "/silent_for", "/lanes"];
        shown.add_row(fields.map(|field| text(member, field)));
    }
    let name_of = |id: &str| {
        let found = members.iter().find(|member| text(member, "/id") == id);
        found.map_or_else(|| id.to_owned(), |member| format!("{} {id}", text(member, "/name")))
    };
    let mut lanes = table(&["LANE", "KIND", "HELD BY", "FOR", "TAKEOVERS"]);
    for lane in list("lanes") {
        let held_by = name_of(&text(&lane, "/member"));
        let [account, kind] = ["/account", "/kind"].map(|field| text(&lane, field));
        let [held_for, takeovers] = ["/held_for", "/takeovers"].map(|field| text(&lane, field));
        lanes.add_row([account, kind, held_by, held_for, takeovers]);
    }
    format!("{}\n\n{}", shown.trim_fmt(), lanes.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_its_members_and_their_lanes() {
        let shown = fleet(&serde_json::json!({
            "members": [{"id": "0199", "name": "alpha", "since": "2026-11-22T10:00:00.000Z",
                         "silent_for": "850ms", "lanes": 1}],
            "lanes": [{"account": "default", "kind": "hire.website_delivery", "member": "0199",
                       "held_for": "2m", "takeovers": 3},
                      {"account": "other", "kind": "hire.website_delivery", "member": null,
                       "held_for": null, "takeovers": 0}]}));
        let rows: Vec<Vec<&str>> =
            shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["0199", "alpha", "2026-11-22T10:00:00.000Z", "850ms", "1"]);
        assert_eq!(rows[4], ["default", "hire.website_delivery", "alpha", "0199", "2m", "3"]);
        assert_eq!(rows[5], ["other", "hire.website_delivery", "-", "-", "0"]);
    }

    #[test]
    fn nothing_a_receiver_says_can_steer_the_terminal() {
        let value = serde_json::json!({"error": "\u{1b}[2Jgone\nnext 飞书"});
        assert_eq!(text(&value, "/error"), "\\u{1b}[2Jgone\\nnext 飞书");
        assert_eq!(text(&value, "/absent"), "-");
    }

    #[test]
    fn an_account_that_knows_its_tasks_tells_its_plan() {
        let list = serde_json::json!({"items": [
            {"name": "default", "state": "ok", "expected_detection_delay": "850ms",
             "mean_detection_delay": "870ms", "detection_delay_bound": "820ms",
             "ratio_to_bound": 1.06, "poll_price": "95ms", "polls_per_task": 5.25,
             "tasks_per_minute": 190.5},
            {"name": "idle", "state": "ok", "ratio_to_bound": null}]});
        let shown = accounts(&list);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.contains(
            &"default: 190.5 tasks a minute, 5.25 polls a task, each must save 95ms of waiting"
        ));
        assert!(lines.contains(
            &"  seen 870ms late on average; at least 820ms with this quota: x1.06 of the bound"
        ));
        assert!(!shown.contains("idle: "), "{shown}");
    }

    #[test]
    fn a_suspended_account_says_what_to_do() {
        let list = serde_json::json!({"items": [
            {"name": "default", "state": "suspended", "reason": "missing_scope",
             "message": "grant hire:site_application", "since": "2026-11-22T10:00:00.000Z"}]});
        let shown = accounts(&list);
        assert!(shown.contains("missing_scope since 2026-11-22T10:00:00.000Z"), "{shown}");
        assert!(shown.contains("grant hire:site_application"), "{shown}");
    }
}
