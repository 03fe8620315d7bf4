use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn default_delays() -> Vec<Duration> {
    // The contract's default, in seconds.
    [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
        .map(Duration::from_secs)
        .to_vec()
}

/// As judged when the schedule has been kept to.
fn judge(
    attempts: u32,
    heard: Heard<'_>,
    delays: &[Duration],
    now: Timestamp,
    jitter: f64,
) -> Verdict {
    let elapsed = delays.iter().take(attempts as usize).sum();
    super::judge(Round { attempts, began_at: now.before(elapsed) }, heard, delays, now, jitter)
}

fn status(status: u16) -> Heard<'static> {
    Heard { status: Some(status), ..Heard::default() }
}

fn wait(verdict: &Verdict) -> Duration {
    wait_from(verdict, NOW)
}

fn wait_from(verdict: &Verdict, now: Timestamp) -> Duration {
    match verdict {
        Verdict::RetryAt { at, .. } => at.since(now),
        other => panic!("{other:?} is no retry"),
    }
}

#[test]
fn the_status_decides() {
    let delays = default_delays();
    for code in 100..=599 {
        let verdict = judge(0, status(code), &delays, NOW, 0.0);
        let expected = match code {
            200..=299 => "delivered",
            410 => "gone",
            _ => "retry",
        };
        assert_eq!(verdict.name(), expected, "{code}");
    }
    assert_eq!(judge(0, Heard::default(), &delays, NOW, 0.0).name(), "retry");
}

#[test]
fn a_2xx_that_did_not_arrive_whole_is_a_failure_but_a_410_is_a_410() {
    let broken = |code| Heard { broken: Some("timeout: 15 s"), ..status(code) };
    let verdict = judge(0, broken(200), &default_delays(), NOW, 0.0);
    let at = NOW.after(5 * SECOND);
    assert_eq!(verdict, Verdict::RetryAt { at, reason: "timeout: 15 s".into() });
    assert_eq!(judge(0, broken(410), &default_delays(), NOW, 0.0), Verdict::Gone);
}

#[test]
fn twelve_attempts_over_more_than_72_hours_then_it_gives_up() {
    let delays = default_delays();
    let mut now = NOW;
    for round in 0..11 {
        let Verdict::RetryAt { at, .. } = judge(round, status(500), &delays, now, 0.0) else {
            panic!("gave up in round {round}");
        };
        now = at;
    }
    assert!(now.since(NOW) > 72 * 3_600 * SECOND);
    let last = judge(11, status(500), &delays, now, 0.0);
    assert_eq!(last, Verdict::GaveUp { reason: "the receiver answered 500".into() });
    assert_eq!(judge(u32::MAX, status(500), &delays, now, 0.0).name(), "gave_up");
}

#[test]
fn jitter_is_twenty_percent_each_way_and_no_more() {
    let delays = [10 * SECOND];
    for (jitter, milliseconds) in
        [(-1.0, 8_000), (1.0, 12_000), (0.5, 11_000), (9.0, 12_000), (-9.0, 8_000)]
    {
        let verdict = judge(0, status(500), &delays, NOW, jitter);
        assert_eq!(wait(&verdict), Duration::from_millis(milliseconds), "{jitter}");
    }
}

#[test]
fn retry_after_is_honoured_to_the_second_and_only_where_it_means_something() {
    let asking = |code, text| Heard { retry_after: Some(text), ..status(code) };
    let delays = [5 * SECOND];
    for code in [429, 502, 503, 504] {
        assert_eq!(wait(&judge(0, asking(code, "120"), &delays, NOW, 1.0)), 120 * SECOND);
    }
    for code in [400, 404, 428, 430, 500, 501, 505, 302] {
        assert_eq!(wait(&judge(0, asking(code, "120"), &delays, NOW, 0.0)), 5 * SECOND);
    }
    assert_eq!(judge(1, asking(503, "120"), &delays, NOW, 0.0).name(), "gave_up");
}

#[test]
fn retry_after_is_bounded_both_ways() {
    let day = 24 * 3_600;
    for (text, seconds) in [
        ("0", 1),
        ("1", 1),
        ("2", 2),
        ("86400", day),
        ("86401", day),
        ("99999999999999999999999999", day),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1),
        ("Fri, 01 Jan 2100 00:00:00 GMT", day),
    ] {
        let heard = Heard { retry_after: Some(text), ..status(503) };
        assert_eq!(asked(heard, NOW), Some(seconds * SECOND), "{text}");
    }
}

#[test]
fn retry_after_reads_all_three_date_forms_of_rfc_9110() {
    // RFC 9110, 5.6.7: three spellings of one moment, 784111777 s after the epoch.
    let now = Timestamp((784_111_777 - 90) * 1_000);
    for text in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "  Sun, 06 Nov 1994 08:49:37 GMT ",
    ] {
        assert_eq!(retry_after(text, now), Some(90 * SECOND), "{text}");
    }
}

#[test]
fn a_malformed_retry_after_leaves_the_schedule_alone() {
    for text in ["", "soon", "-5", "1.5", "5s", "Sun, 06 Nov 1994 08:49:37 CET"] {
        let heard = Heard { retry_after: Some(text), ..status(503) };
        assert_eq!(asked(heard, NOW), None, "{text}");
    }
    assert_eq!(asked(status(503), NOW), None);
}

#[test]
fn every_verdict_says_why() {
    let why = |round, heard, asked| judge(round, heard, &[SECOND], NOW, 0.0).why(asked);
    assert_eq!(why(0, status(204), false), "accepted");
    assert_eq!(why(0, status(500), false), "schedule");
    assert_eq!(why(0, status(503), true), "retry_after");
    assert_eq!(why(1, status(503), true), "schedule_used_up");
    assert_eq!(why(0, status(410), false), "gone");
}

#[test]
fn a_redirect_says_what_to_do() {
    let Verdict::RetryAt { reason, .. } = judge(0, status(302), &[SECOND], NOW, 0.0) else {
        panic!("no retry");
    };
    assert!(reason.contains("302") && reason.contains("register the final URL"), "{reason}");
}

/// Has a receiver answer as `answers` says, given the time since the first attempt, until the end
/// of the schedule. Returns how many attempts there were, and when the last one ended.
fn played<'a>(takes: Duration, answers: impl Fn(Duration) -> Heard<'a>) -> (u32, Duration) {
    let delays = default_delays();
    let mut now = NOW;
    for attempts in 0..10_000 {
        now = now.after(takes);
        let heard = answers(now.since(NOW));
        match super::judge(Round { attempts, began_at: NOW }, heard, &delays, now, 0.0) {
            Verdict::RetryAt { at, .. } => {
                assert!(heard.retry_after.is_none() || at.since(now) >= SECOND);
                now = at;
            }
            Verdict::GaveUp { .. } => return (attempts + 1, now.since(NOW)),
            other => panic!("{other:?}"),
        }
    }
    panic!("it never ends");
}

fn restarting() -> Heard<'static> {
    Heard { retry_after: Some("1"), ..status(503) }
}

#[test]
fn short_waits_that_a_receiver_asks_for_use_up_no_schedule_and_stay_few() {
    let whole: Duration = default_delays().iter().sum();
    let (attempts, elapsed) = played(Duration::ZERO, |_| restarting());
    assert!((200..500).contains(&attempts), "{attempts} attempts");
    assert!((whole..whole + whole / 30).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn after_a_deployment_the_whole_schedule_is_left() {
    let whole: Duration = default_delays().iter().sum();
    let deployment = 60 * SECOND;
    let answers = |elapsed| if elapsed < deployment { restarting() } else { status(500) };
    let (attempts, elapsed) = played(SECOND / 10, answers);
    assert!((whole..whole + 60 * SECOND).contains(&elapsed), "{elapsed:?}");
    assert!((45..70).contains(&attempts), "{attempts} attempts");
}

#[test]
fn time_without_attempts_uses_up_no_schedule() {
    let delays = default_delays();
    let began_at = NOW.before(10 * 86_400 * SECOND);
    let verdict = super::judge(Round { attempts: 1, began_at }, status(500), &delays, NOW, 0.0);
    assert_eq!(wait(&verdict), delays[1], "the daemon was stopped for ten days");
}

#[test]
fn long_waits_that_a_receiver_asks_for_use_up_a_place_each() {
    let day = Heard { retry_after: Some("86400"), ..status(429) };
    let (attempts, elapsed) = played(Duration::ZERO, |_| day);
    assert_eq!((attempts, elapsed), (12, 11 * 86_400 * SECOND));
}

proptest! {
    #[test]
    fn no_header_breaks_it_and_no_wait_leaves_its_bounds(text in "\\PC{0,60}") {
        let heard = Heard { retry_after: Some(&text), ..status(503) };
        if let Some(wait) = asked(heard, NOW) {
            prop_assert!((RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&wait));
        }
    }

    #[test]
    fn a_schedule_that_nobody_changes_has_as_many_attempts_as_it_says(
        jitters in prop::collection::vec(-1.0..=1.0, 11),
        takes in 0_u32..15,
    ) {
        let delays = default_delays();
        let mut now = NOW;
        for (attempts, jitter) in (0..).zip(jitters) {
            now = now.after(takes * SECOND);
            let round = Round { attempts, began_at: NOW };
            let verdict = super::judge(round, status(500), &delays, now, jitter);
            let delay = delays[attempts as usize];
            prop_assert!(wait_from(&verdict, now).abs_diff(delay) <= delay / 5 + SECOND / 1000);
            let Verdict::RetryAt { at, .. } = verdict else { unreachable!() };
            now = at;
        }
        let round = Round { attempts: 11, began_at: NOW };
        prop_assert_eq!(super::judge(round, status(500), &delays, now, 0.0).name(), "gave_up");
    }
}
