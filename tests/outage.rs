//! The delivery loop and its real store in virtual time, at the size at which senders break: the
//! schedule to the millisecond, hundreds of receivers that hang, thousands of deliveries that wait.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod outage {
    pub mod world;
}

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outage::world::{Act, Scene, World};
use outcomed::observability::process::Process;
use outcomed::store::Registry;
use outcomed::task::State;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Runs a story on a clock of its own.
fn in_virtual_time<F: Future<Output = ()>>(story: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(story());
}

/// When the attempts at the one delivery began, in milliseconds since it was due.
async fn attempts(jitter: f64, act: fn(u32) -> Act) -> Vec<i64> {
    let world = World::new(move |_url, _now, attempt| act(attempt));
    let scene = Scene::start(&world, jitter);
    let ids = scene.settled(&["https://a.example/hook".to_owned()]).await;
    scene
        .until(|counts| counts.iter().all(|(state, n)| *state != State::Delivering || *n == 0))
        .await;
    let log = scene.store().attempts(&ids[0]).await.unwrap();
    let first = log[0].at.0;
    log.iter().map(|attempt| attempt.at.0 - first).collect()
}

/// Nothing is to be delivered any more.
fn over(counts: &[(State, u64)]) -> bool {
    counts.iter().all(|(state, count)| *state != State::Delivering || *count == 0)
}

/// So many callbacks at one host.
fn urls(host: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("https://{host}/{number}")).collect()
}

/// The contract's `retry_delays`, in seconds.
const DELAYS: [i64; 11] = [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

fn sums(of: impl Fn(i64) -> i64) -> Vec<i64> {
    let mut at = 0;
    let later = DELAYS.map(|delay| {
        at += of(delay * SECOND);
        at
    });
    [vec![0], later.to_vec()].concat()
}

#[test]
fn the_schedule_is_twelve_attempts_over_84_hours_to_the_millisecond() {
    in_virtual_time(async || {
        let fails = |_| Act::Status(500, None);
        assert_eq!(attempts(0.0, fails).await, sums(|delay| delay));
        assert_eq!(attempts(1.0, fails).await, sums(|delay| delay * 12 / 10));
        assert_eq!(attempts(-1.0, fails).await, sums(|delay| delay * 8 / 10));
        assert!(*sums(|delay| delay * 8 / 10).last().unwrap() > 60 * HOUR);
        assert!(*sums(|delay| delay).last().unwrap() > 72 * HOUR);
    });
}

#[test]
fn every_attempt_is_signed_with_its_own_time_however_long_it_was_due() {
    in_virtual_time(async || {
        let world = World::new(|_url, _now, _attempt| Act::Takes(10 * SECOND));
        let scene = Scene::start(&world, 0.0);
        scene.settled(&urls("slow.example", 320)).await;
        scene.until(over).await;
        assert!(world.now() > 2 * MINUTE, "most of them waited: {}", world.now());
        assert_eq!((world.requests(), world.stale()), (320, 0));
    });
}

#[test]
fn what_may_be_another_daemons_is_not_sent_until_it_is_known_to_be_ours() {
    in_virtual_time(async || {
        let world = World::new(|_url, _now, _attempt| Act::Status(200, None));
        let scene = Scene::start(&world, 0.0);
        scene.owned.store(false, Ordering::SeqCst);
        scene.settled(&urls("a.example", 5)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.requests(), 0);
        scene.owned.store(true, Ordering::SeqCst);
        scene.until(over).await;
        assert_eq!(world.requests(), 5);
    });
}

#[test]
fn retry_after_replaces_the_schedules_wait_to_the_millisecond() {
    in_virtual_time(async || {
        let asks = |attempt| match attempt {
            1 => Act::Status(503, Some("120")),
            2 => Act::Status(429, Some("7")),
            3 => Act::Status(500, Some("9999")),
            4 => Act::Status(502, Some("0")),
            _ => Act::Status(200, None),
        };
        // A 500 may not ask; a 502 that asks for nothing waits a part of the time so far.
        let found = attempts(1.0, asks).await;
        let waits: Vec<i64> = found.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits[..2], [120 * SECOND, 7 * SECOND]);
        assert_eq!(waits[2], 144 * SECOND, "the third wait of the schedule, +20 %");
        assert_eq!(waits[3], (120 + 7 + 144) * SECOND / 32);
    });
}

/// Delays from due to accepted of 1,000 outcomes for 20 healthy receivers, ascending, while
/// `hanging` others never answer.
async fn healthy_delays(hanging: usize) -> Vec<i64> {
    let world = World::new(|url, _now, _attempt| match url.host_str() {
        Some(host) if host.starts_with("hangs") => Act::Hang,
        _ => Act::Takes(20),
    });
    let scene = Scene::start(&world, 0.0);
    let bad: Vec<String> = (0..hanging)
        .flat_map(|host| (0..5).map(move |n| format!("https://hangs{host:03}.example/{n}")))
        .collect();
    if !bad.is_empty() {
        scene.settled(&bad).await;
    }
    let mut delays = Vec::new();
    for round in 0..50 {
        let urls: Vec<String> =
            (0..20).map(|host| format!("https://fine{host:02}.example/{round}")).collect();
        let due = world.now();
        scene.settled(&urls).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        delays
            .extend(urls.iter().map(|url| world.accepted_at(url).map_or(i64::MAX, |at| at - due)));
    }
    delays.sort_unstable();
    delays
}

#[test]
fn five_hundred_receivers_that_hang_do_not_slow_the_healthy_ones() {
    in_virtual_time(async || {
        let p99 = |delays: &[i64]| delays[delays.len() * 99 / 100];
        let (alone, beside) = (healthy_delays(0).await, healthy_delays(500).await);
        assert!(p99(&beside) <= 2 * p99(&alone), "{} ms, {} ms", p99(&beside), p99(&alone));
        assert_eq!(beside.len(), 1_000);
        assert!(*beside.last().unwrap() < SECOND, "the slowest took {:?} ms", beside.last());
    });
}

/// `OUTAGE_WAITING=100000 cargo test --release --test outage` is the whole size.
fn waiting() -> usize {
    std::env::var("OUTAGE_WAITING").map_or(10_000, |text| text.parse().expect("a number"))
}

/// What a reply takes, and so what 16 at once come to.
const TAKES: i64 = 100;
const PER_SECOND_MAX: usize = 160;

#[test]
fn thousands_wait_out_an_hour_and_arrive_at_a_bounded_rate() {
    in_virtual_time(async || {
        let waiting = waiting();
        let world = World::new(|url, now, attempt| {
            // Of every 97th, the first reply after the outage is lost on its way.
            let number: usize = url.path()[1..].parse().unwrap();
            match now {
                ..HOUR => Act::Refuse,
                _ if number.is_multiple_of(97) && attempt == 1 => Act::LoseReply,
                _ => Act::Takes(TAKES),
            }
        });
        let scene = Scene::start(&world, 0.3);
        let urls: Vec<String> = (0..waiting).map(|n| format!("https://down.example/{n}")).collect();
        scene.settled(&urls).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let before = Process::read().unwrap().resident_bytes;
        let tried_before = world.requests();
        tokio::time::sleep(Duration::from_secs(3_400 - 60)).await;
        let grown = Process::read().unwrap().resident_bytes.saturating_sub(before);
        assert!(grown < 8 * 1024 * 1024, "{grown} bytes more while waiting");
        assert!(world.requests() - tried_before < 200, "{} probes", world.requests());

        tokio::time::sleep(Duration::from_secs(200 + 15 * 60)).await;
        let soon = world.accepted().len();
        assert!(soon > waiting * 99 / 100, "{soon} within a quarter of an hour");
        scene
            .until(|counts| counts.iter().all(|(state, n)| *state != State::Delivering || *n == 0))
            .await;
        let accepted = world.accepted();
        assert_eq!(accepted.len(), waiting);
        let mut in_second: BTreeMap<i64, usize> = BTreeMap::new();
        for (url, times) in &accepted {
            assert_eq!(times.len(), 1 + usize::from(world.was_lost(url)), "{url}");
            for at in times {
                *in_second.entry(at / SECOND).or_default() += 1;
            }
        }
        let most = in_second.values().max().unwrap();
        assert!(*most <= PER_SECOND_MAX + 16, "{most} in one second");
        assert!(world.most_at_once() <= 16);
        let first = *in_second.values().next().unwrap();
        assert!(first < PER_SECOND_MAX, "{first} in the first second: it is stampeded");
    });
}
