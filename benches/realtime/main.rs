//! The real daemon, in real time, against the stand-in Feishu that enforces its quota: many
//! minutes of tasks, one `kill -9` in the middle, and a judge that knows when each task settled.
//!
//! ```text
//! cargo bench --bench realtime -- --minutes 10 --rate 500
//! cargo bench --bench realtime -- --minutes 10 --rate 500 --warm-up 10 --settle logn:0.6,15 --seed 1
//! ```
//!
//! Ends with 1 if a poll was refused, a task lost, told twice, or polled after it was seen settled.

#![expect(clippy::print_stdout, reason = "a tool speaks on standard output")]

#[path = "../yardstick/bound.rs"]
#[expect(dead_code, reason = "the yardstick uses the rest")]
mod bound;
mod daemon;
mod report;
#[path = "../yardstick/settling.rs"]
#[expect(dead_code, reason = "the yardstick uses the rest")]
mod settling;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use stage::Stage;

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Minutes that are judged.
    minutes: f64,
    /// Minutes before them, from a cold start.
    warm_up: f64,
    /// Tasks a minute, at random times.
    rate: f64,
    /// How long tasks take.
    settle: String,
    seed: u64,
    /// Round trip to the stand-in.
    latency: Duration,
    /// The program that is run.
    daemon: PathBuf,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            minutes: 10.0,
            warm_up: 5.0,
            rate: 500.0,
            settle: "logn:0.6,15".into(),
            seed: 1,
            latency: Duration::from_millis(30),
            daemon: env!("CARGO_BIN_EXE_outcomed").into(),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.is_empty() {
        // A plain `cargo bench` runs every bench: this one would take a quarter of an hour.
        println!("realtime: --minutes N --rate N …; see benches/realtime/main.rs");
        return ExitCode::SUCCESS;
    }
    let mut run = Run::default();
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { panic!("`{}` needs a value", pair[0]) };
        match name.as_str() {
            "--minutes" => run.minutes = parsed(value),
            "--warm-up" => run.warm_up = parsed(value),
            "--rate" => run.rate = parsed(value),
            "--settle" => run.settle.clone_from(value),
            "--seed" => run.seed = parsed(value),
            "--latency-ms" => run.latency = Duration::from_millis(parsed(value)),
            "--daemon" => run.daemon = value.into(),
            _ => panic!("`{name}` is not known; see benches/realtime/main.rs"),
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if runtime.block_on(play(&run)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays the whole run; whether nothing went wrong.
async fn play(run: &Run) -> bool {
    let mut stage = Stage::set_up(run).await;
    stage.register_for(run.warm_up).await;
    let judged_from = stage.now();
    stage.register_for(run.minutes / 2.0).await;
    let killed_at = stage.now();
    let down = stage.kill_and_restart().await;
    println!("killed and restarted: ready again after {} ms", down.as_millis());
    stage.register_for(run.minutes / 2.0).await;
    let judged_to = stage.now();
    println!("the daemon's own view: {}", stage.accounts().await);
    stage.wait_for_all().await;
    report::judge(&stage, run, &report::Times { judged_from, killed_at, judged_to })
}

pub(crate) fn parsed<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` cannot be read"))
}
