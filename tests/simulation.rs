//! The daemon's own loops and its real store, in a world of seeded chance: time is simulated,
//! everything that can fail does, and the process dies between any two effects.
//!
//! `SIM_SEED=7 cargo test --test simulation` runs one seed; `SIM_SEEDS=10000` runs that many.

mod simulation {
    pub mod clients;
    pub mod daemon;
    pub mod invariants;
    pub mod receivers;
    pub mod store;
    pub mod upstream;
    pub mod world;
}

use rand::RngExt;
use simulation::daemon::{End, QUOTA, live};
use simulation::invariants;
use simulation::world::Shared;

/// Incarnations that are killed or stopped before the one that may finish.
const DEATHS: u32 = 6;
const SEEDS: u64 = 40;
/// Seeds are independent of each other, and machines have at least two cores.
const THREADS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// One whole history. Returns what happened in it, for comparing.
fn run(seed: u64) -> String {
    let world = Shared::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sim.db");
    for _ in 0..DEATHS {
        let end = if world.chance(0.7) {
            End::Crash(world.lock().rng.random_range(1..900))
        } else {
            End::Stop(world.lock().rng.random_range(1..120_000))
        };
        live(&world, &path, &end);
    }
    world.lock().calm = true;
    live(&world, &path, &End::Quiet);
    invariants::quota_was_kept(&world, QUOTA);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = outcomed::store::sqlite::Sqlite::open_simulated(&path).unwrap();
    let store: std::sync::Arc<dyn outcomed::store::Store> = std::sync::Arc::new(store);
    runtime.block_on(invariants::nothing_is_lost(&world, &store));
    let world = world.lock();
    format!("{} ms, {:?}, {:?}", world.now(), world.arrivals, world.accepted)
}

#[test]
fn whatever_happens_the_quota_is_kept_and_nothing_is_lost() {
    if let Some(seed) = number("SIM_SEED") {
        run(seed);
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let share = (thread..seeds).step_by(usize::try_from(THREADS).unwrap());
            scope.spawn(move || share.for_each(run_or_name));
        }
    });
}

fn run_or_name(seed: u64) {
    let held = std::panic::catch_unwind(|| run(seed));
    assert!(held.is_ok(), "seed {seed} broke a promise: rerun it with SIM_SEED={seed}");
}

#[test]
fn a_seed_replays_to_the_byte() {
    assert_eq!(run(4_711), run(4_711));
}
