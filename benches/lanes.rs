//! What it takes to watch a million tasks on ten thousand lanes: the real polling code on a real
//! `SQLite` store, from its start until every lane has loaded its tasks and planned their looks.
//!
//! ```text
//! cargo bench --bench lanes -- 10000 100             (lanes, tasks on each)
//! cargo bench --bench lanes -- 10000 100 learned     (each lane with an estimate of its own)
//! ```

#![expect(clippy::print_stdout, reason = "a tool speaks on standard output")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outcomed::clock::{Clock, SystemClock};
use outcomed::config::{Config, QuotaLimits};
use outcomed::observability::Metrics;
use outcomed::polling::board::Board;
use outcomed::polling::estimate::Estimate;
use outcomed::polling::{self, Context, Upstream, Upstreams};
use outcomed::source::{PollError, Polled, Source, TransientClass};
use outcomed::store::fleet::{Alone, Fleet};
use outcomed::store::sqlite::Sqlite;
use outcomed::store::{Checkpoint, NewRegistration, Store};
use outcomed::task::{Kind, LaneName, TaskRef};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A batch of the API.
const BATCH: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [lanes, tasks, more @ ..] = &arguments[..] else {
        println!("lanes: LANES TASKS-ON-EACH [learned]; see benches/lanes.rs");
        return;
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(number(lanes), number(tasks), more.iter().any(|w| w == "learned")));
}

async fn measure(lanes: usize, tasks: usize, learned: bool) {
    let directory = std::env::temp_dir().join(format!("outcomed-lanes-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a directory");
    let path = directory.join("outcomed.db");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let begun = clock.steady();
    fill(&path, &clock, lanes, tasks, learned).await;
    println!(
        "filled with {lanes} lanes of {tasks} tasks in {:.1} s",
        clock.steady().since(begun).as_secs_f64()
    );
    let store = open(&path, &clock);
    let before = resident();
    let begun = clock.steady();
    let upstream = Upstream { source: Arc::new(Away), quota: QuotaLimits::default() };
    let upstreams: Upstreams = (0..lanes).map(|lane| (account(lane), upstream.clone())).collect();
    let (_keep, upstreams) = watch::channel(Arc::new(upstreams));
    let shutdown = CancellationToken::new();
    let board = Arc::new(Board::default());
    let fleet = Arc::new(Alone::new(Arc::clone(&store)));
    let member = fleet.join("bench", clock.wall()).await.expect("joined");
    let running = tokio::spawn(polling::run(Context {
        store,
        fleet,
        member,
        upstreams,
        settings: Config::default().polling,
        clock: Arc::clone(&clock),
        board: Arc::clone(&board),
        follower: Arc::new(()),
        metrics: Arc::new(Metrics::default()),
        shutdown: shutdown.clone(),
    }));
    // A lane posts itself on the board after each round: what it has loaded, it has planned.
    let watched = || board.read().iter().map(|(_, lane)| lane.watched).sum::<u64>();
    let wanted = u64::try_from(lanes * tasks).unwrap_or(u64::MAX);
    while watched() < wanted && clock.steady().since(begun) < PATIENCE {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let took = clock.steady().since(begun);
    let (now, most) = (resident(), high_water());
    println!("{} tasks watched and planned after {:.2} s", watched(), took.as_secs_f64());
    println!(
        "resident: {} MiB before, {} MiB now, {} MiB at most; {} bytes a task",
        before / MIB,
        now / MIB,
        most / MIB,
        now.saturating_sub(before) / wanted.max(1)
    );
    shutdown.cancel();
    let begun = clock.steady();
    let _ = tokio::time::timeout(PATIENCE, running).await;
    println!("stopped in good order in {:.2} s", clock.steady().since(begun).as_secs_f64());
    let _ = std::fs::remove_dir_all(&directory);
}

/// An upstream that cannot be reached: what it costs to poll is not the question here.
struct Away;

#[async_trait]
impl Source for Away {
    async fn prepare(&self) -> Result<(), PollError> {
        Err(PollError::Transient { class: TransientClass::Network, detail: "away".into() })
    }

    async fn observe(&self, _: &str, _: &str) -> Result<Polled, PollError> {
        Err(PollError::Transient { class: TransientClass::Network, detail: "away".into() })
    }
}

fn open(path: &Path, clock: &Arc<dyn Clock>) -> Arc<dyn Store> {
    let on_commit = Arc::new(|_: usize, _: Duration| {});
    Arc::new(Sqlite::open(path, Arc::clone(clock), on_commit).expect("a store"))
}

fn account(lane: usize) -> String {
    format!("tenant-{lane:05}")
}

/// Registers everything as clients do, a minute ago. The store is closed again afterwards, so that
/// its caches do not count.
async fn fill(path: &Path, clock: &Arc<dyn Clock>, lanes: usize, tasks: usize, learned: bool) {
    let store = open(path, clock);
    let at = clock.wall().before(Duration::from_secs(60));
    let registration = |number: usize| NewRegistration {
        id: format!("reg_{number:012}"),
        client: "ats".into(),
        task: TaskRef {
            kind: Kind::default(),
            account: account(number / tasks),
            website_id: "7047318856652261676".into(),
            delivery_task_id: format!(
                "{:032x}",
                (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            ),
        },
        callback_url: "https://hr.example.com/hooks/feishu".into(),
        callback_origin: "https://hr.example.com:443".into(),
        callback_host: "hr.example.com".into(),
        metadata: "{}".into(),
        created_at: at,
        give_up_at: at.after(Duration::from_secs(3_600)),
    };
    let numbers: Vec<usize> = (0..lanes * tasks).collect();
    for batch in numbers.chunks(BATCH) {
        let new = batch.iter().map(|number| registration(*number)).collect();
        store.register(new).await.expect("registered");
    }
    if learned {
        let memory = Some(memory());
        for lane in 0..lanes {
            let name = LaneName { account: account(lane), kind: Kind::default() };
            let taken = store.take(&name, clock.wall()).await.expect("taken");
            let checkpoint = Checkpoint { memory: memory.clone(), ..Checkpoint::default() };
            store.checkpoint(&taken.lease, checkpoint).await.expect("stored");
        }
    }
}

/// An estimate of tasks that take some ten seconds.
fn memory() -> Vec<u8> {
    let mut estimate = Estimate::new();
    for task in 0..200 {
        let age = 6.0 + f64::from(task % 17) / 2.0;
        estimate.pending(0.0, age - 1.0);
        estimate.settled(age - 1.0, age);
    }
    let mut lesson = estimate.lesson().expect("enough to learn from");
    let life = std::iter::from_fn(|| Some(lesson.step())).flatten().next().expect("it ends");
    estimate.learned(lesson, life);
    estimate.memory().expect("learned")
}

const MIB: u64 = 1 << 20;

fn resident() -> u64 {
    status("VmRSS:")
}

fn high_water() -> u64 {
    status("VmHWM:")
}

/// Bytes, by the kernel's own word.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
        * 1024
}
