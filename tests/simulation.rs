//! The daemon's own loops and its real store, one daemon or several, in a world of seeded chance:
//! time is simulated, everything that can fail does in some history, and the process dies, sleeps
//! or stands still between any two effects.
//!
//! - `cargo test --test simulation` runs a few; `make simulate` runs a thousand, as CI does.
//! - `SIM_SEEDS=100000 cargo test --test simulation` runs that many; `SIM_FROM=5000` starts there and
//!   `SIM_GO_ON=1` does not end at the first that breaks a promise.
//! - `SIM_SEED=7 cargo test --test simulation` replays one, and leaves its whole history in
//!   `target/histories/seed-7.log`. A failing seed leaves the same, and says so.

mod simulation {
    mod broken;
    pub mod callbacks;
    pub mod clients;
    pub mod faults;
    pub mod fleet;
    pub mod history;
    pub mod invariants;
    pub mod leases;
    pub mod node;
    pub mod receivers;
    pub mod store;
    pub mod upstream;
    pub mod world;
}

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use simulation::history;
use simulation::world::Shared;

const SEEDS: u64 = 40;
/// Seeds are independent of each other, and machines have at least two cores.
const THREADS: u64 = 2;
/// Lines of a failing history that are shown; the file has all.
const SHOWN: usize = 60;

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// A panic anywhere in a daemon is a violation, even where the daemon survives it.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            show(panic);
        }));
    });
    PANICS.with(|panics| panics.set(0));
}

/// A database that is thrown away needs no disk.
fn in_memory() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}

/// One whole history: what happened, and what was wrong.
fn run(seed: u64) -> (Vec<String>, Option<String>) {
    count_panics();
    let world = Shared::new(seed);
    let directory = in_memory().unwrap();
    history::run(&world, &directory.path().join("sim.db"));
    if PANICS.with(Cell::get) > 0 {
        world.violated("a daemon panicked: see above".to_owned());
    }
    (world.trace(), world.violation())
}

/// Runs a history, and shows the end of one that breaks a promise.
fn check(seed: u64, keep: bool) -> Result<(), String> {
    let (trace, violation) = run(seed);
    if !keep && violation.is_none() {
        return Ok(());
    }
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../histories");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join(format!("seed-{seed}.log"));
    std::fs::write(&file, trace.join("\n")).unwrap();
    let Some(violation) = violation else { return Ok(()) };
    let end = trace.iter().position(|line| line.contains("VIOLATION")).unwrap_or(trace.len());
    let shown = trace[end.saturating_sub(SHOWN)..end].join("\n");
    Err(format!(
        "{}\n{shown}\nseed {seed} broke a promise: {violation}\nrerun it with SIM_SEED={seed}; its \
         history is in {}",
        trace[0],
        file.display()
    ))
}

#[test]
fn whatever_happens_the_quota_is_kept_nothing_is_lost_and_nobody_is_held_up() {
    if let Some(seed) = number("SIM_SEED") {
        check(seed, true).unwrap_or_else(|broken| panic!("{broken}"));
        return;
    }
    let from = number("SIM_FROM").unwrap_or(0);
    let seeds = from + number("SIM_SEEDS").unwrap_or(SEEDS);
    let go_on = number("SIM_GO_ON").is_some();
    let (next, broken) = (AtomicU64::new(from), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            if let Err(report) = check(seed, false) {
                if !go_on {
                    next.store(seeds, Ordering::Relaxed);
                }
                broken.lock().unwrap().push(report);
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let broken = broken.into_inner().unwrap();
    assert!(
        broken.is_empty(),
        "{}\n{} of the seeds broke a promise",
        broken.join("\n\n"),
        broken.len()
    );
}

#[test]
fn a_seed_replays_to_the_byte() {
    for seed in [4_711, 4_712] {
        assert!(run(seed) == run(seed), "seed {seed} had two histories");
    }
}
