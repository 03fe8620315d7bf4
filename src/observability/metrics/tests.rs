use std::collections::BTreeMap;

use super::*;
use crate::clock::Steady;
use crate::config::QuotaLimits;
use crate::observability::process::Process;
use crate::outcome::{Ids, Reason};
use crate::polling::board::{LaneStatus, Suspension};
use crate::polling::plan::figures::Figures;
use crate::task::{Kind, State};

fn lane() -> LaneName {
    LaneName { account: "default".into(), kind: Kind::default() }
}

fn full() -> Metrics {
    let metrics = Metrics::default();
    let second = Duration::from_secs(1);
    metrics.poll(&lane(), "pending", second);
    metrics.settled(&lane(), &Outcome::succeeded(Ids::default()), second);
    metrics.settled(&lane(), &Outcome::unresolved(Reason::TimedOut), second);
    metrics.token_call("default", "ok");
    metrics.attempt("retry", Some(503), second);
    metrics.attempt("retry", None, second);
    metrics.delivered(second);
    metrics.registered("new");
    metrics.request("/v1/registrations/{id}", "GET", 200, second);
    metrics.request("/v1/registrations/{id}", "BREW", 405, second);
    metrics.commit(12, second);
    metrics.reloaded(false, Timestamp(5_000));
    let status = LaneStatus {
        suspended: Some(Suspension {
            reason: "bad_credentials".into(),
            message: "check the app secret".into(),
            since: Timestamp(0),
        }),
        failing: None,
        answered: None,
        watched: 7,
        polls_last_second: 3,
        polls_last_minute: 90,
        quota: QuotaLimits::default(),
        figures: Some(Figures {
            price: Duration::from_millis(95),
            tasks_per_minute: 190.0,
            polls_per_task: 5.25,
            expected_delay: Duration::from_millis(1_500),
            mean_delay: Some(Duration::from_millis(1_600)),
            bound: Duration::from_millis(1_280),
            ratio_to_bound: 1.25,
        }),
        alive_at: Steady(1_000),
    };
    metrics.show(Snapshot {
        lanes: vec![(lane(), status)],
        counts: vec![(State::Watching, 7)],
        origins: vec![("held", 2)],
        process: Some(Process { open_fds: 20, resident_bytes: 4096 }),
        now: Steady(3_000),
    });
    metrics
}

/// The samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn what_happened_is_what_is_shown() {
    let samples = samples(&full().render());
    let lane = r#"account="default",kind="hire.website_delivery""#;
    for (name, value) in [
        (format!(r#"outcomed_polls_total{{{lane},result="pending"}}"#), "1"),
        (format!(r#"outcomed_tasks_settled_total{{{lane},outcome="unresolved",reason="timed_out"}}"#), "1"),
        // One of the two settled tasks ended upstream.
        (format!("outcomed_detection_delay_bound_seconds_count{{{lane}}}"), "1"),
        (r#"outcomed_delivery_attempts_total{verdict="retry",status="5xx"}"#.into(), "1"),
        (r#"outcomed_delivery_attempts_total{verdict="retry",status="none"}"#.into(), "1"),
        ("outcomed_delivery_attempt_duration_seconds_sum".into(), "2.0"),
        ("outcomed_store_writes_total".into(), "12"),
        (r#"outcomed_http_requests_total{route="/v1/registrations/{id}",method="other",status="405"}"#.into(), "1"),
        ("outcomed_config_last_reload_successful".into(), "0"),
        ("outcomed_config_last_reload_success_timestamp_seconds".into(), "0"),
        (r#"outcomed_registrations{state="watching"}"#.into(), "7"),
        (r#"outcomed_registrations{state="cancelled"}"#.into(), "0"),
        (format!("outcomed_lane_watched_tasks{{{lane}}}"), "7"),
        (format!("outcomed_lane_suspended{{{lane}}}"), "1"),
        (format!(r#"outcomed_lane_window_polls{{{lane},window="60s"}}"#), "90"),
        (format!(r#"outcomed_lane_quota_polls{{{lane},window="1s"}}"#), "50"),
        (format!("outcomed_lane_expected_detection_delay_seconds{{{lane}}}"), "1.5"),
        (format!("outcomed_lane_mean_detection_delay_seconds{{{lane}}}"), "1.6"),
        (format!("outcomed_lane_least_detection_delay_seconds{{{lane}}}"), "1.28"),
        (format!("outcomed_lane_poll_price_seconds{{{lane}}}"), "0.095"),
        (format!("outcomed_lane_bound_ratio{{{lane}}}"), "1.25"),
        (format!("outcomed_lane_polls_per_task{{{lane}}}"), "5.25"),
        (format!("outcomed_lane_tasks_per_minute{{{lane}}}"), "190.0"),
        (format!("outcomed_lane_loop_age_seconds{{{lane}}}"), "2.0"),
        (format!(r#"outcomed_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION")), "1"),
        ("process_open_fds".into(), "20"),
        ("process_resident_memory_bytes".into(), "4096"),
    ] {
        assert_eq!(samples.get(&name).map(String::as_str), Some(value), "{name}\n{samples:#?}");
    }
}

#[test]
fn a_lane_that_is_gone_is_no_longer_shown() {
    let metrics = full();
    metrics.show(Snapshot::default());
    assert!(!metrics.render().contains("outcomed_lane_watched_tasks{"));
}

#[test]
fn two_daemons_in_one_process_do_not_share_their_counts() {
    let (one, two) = (Metrics::default(), Metrics::default());
    one.commit(1, Duration::ZERO);
    assert_eq!(samples(&two.render())["outcomed_store_writes_total"], "0");
}

/// The naming rules of Prometheus and of the `OpenMetrics` text format, over everything we expose.
#[test]
fn every_name_follows_the_rules() {
    let text = full().render();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    let mut kinds = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(kinds.insert(name, kind).is_none(), "{name} stands there twice");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert!(name.starts_with("outcomed_") || name.starts_with("process_"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        for unit in ["_ms", "_millis", "_minutes", "_hours", "_kb", "_total", "_count"] {
            assert!(!name.ends_with(unit), "{name}: base units only, and suffixes are added");
        }
    }
    for (name, _) in samples(&text) {
        let bare = name.split('{').next().unwrap();
        let known = kinds.iter().any(|(family, kind)| match *kind {
            "counter" => bare == format!("{family}_total"),
            "histogram" => {
                ["_bucket", "_sum", "_count"].iter().any(|s| bare == format!("{family}{s}"))
            }
            "info" => bare == format!("{family}_info"),
            _ => bare == *family,
        });
        assert!(known, "{name} belongs to no declared metric");
    }
    let times = kinds.keys().filter(|name| {
        ["duration", "delay", "age", "timestamp"].iter().any(|word| name.contains(word))
    });
    for name in times {
        assert!(name.ends_with("_seconds"), "{name} is a time, so it says its unit");
    }
}

#[test]
fn no_label_can_carry_what_a_stranger_sends() {
    const CLOSED: [&str; 13] = [
        "account", "kind", "result", "outcome", "reason", "verdict", "status", "route", "method",
        "window", "state", "version", "le",
    ];
    for (sample, _) in samples(&full().render()) {
        let Some((_, labels)) = sample.split_once('{') else { continue };
        for label in labels.trim_end_matches('}').split("\",") {
            let name = label.split('=').next().unwrap();
            assert!(CLOSED.contains(&name), "{name} in {sample}");
        }
    }
}

#[test]
fn the_operators_table_lists_exactly_what_is_exposed() {
    let document = include_str!("../../../docs/operating.md");
    let row = |line: &'static str| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name);
    let metric = |name: &&str| name.starts_with("outcomed_") || name.starts_with("process_");
    let told: Vec<&str> = document.lines().filter_map(row).filter(metric).collect();
    let text = full().render();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exposed: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(told, exposed);
}
