//! The yardstick of the scheduler, built apart from it: the bound by brute force, traces of any
//! distribution, and a judge that recomputes everything from a poll log.
//!
//! ```text
//! cargo bench --bench yardstick -- bound logn:0.6,15
//! cargo bench --bench yardstick -- trace logn:0.6,15 500 40 1 > trace.csv    (tasks/min, min, seed)
//! cargo bench --bench yardstick -- burst logn:0.6,15 1000 1 > trace.csv      (at second 900)
//! cargo bench --bench yardstick -- judge trace.csv polls.csv 600             (from second 600 on)
//! cargo bench --bench yardstick -- steady | bursts | changes                (tables of docs/polling.md)
//! cargo bench --bench yardstick -- plot > docs/polling.svg
//! ```

#![expect(clippy::print_stdout, reason = "a tool speaks on standard output")]

mod bound;
mod judge;
mod plot;
mod ratios;
mod settling;
mod sliding;
mod traces;

use bound::Grid;
use settling::Settling;

const LOADS: [f64; 4] = [60.0, 200.0, 500.0, 800.0];
const BURSTS: [f64; 4] = [500.0, 1_000.0, 2_000.0, 3_000.0];
const PER_MINUTE: f64 = 1_000.0;
const PER_SECOND: f64 = 50.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["bound", settling] => bounds(&parsed(settling)),
        ["trace", settling, load, minutes, seed] => {
            let settling: Settling = parsed(settling);
            let tasks = traces::steady(&settling, parsed(load), parsed(minutes), parsed(seed));
            print!("{}", traces::csv(&tasks));
        }
        ["burst", settling, tasks, seed] => {
            let settling: Settling = parsed(settling);
            let tasks = traces::burst(&settling, parsed(tasks), parsed(seed));
            print!("{}", traces::csv(&tasks));
        }
        ["judge", trace, polls, from] => judge::judge(trace, polls, parsed(from)),
        ["steady"] => ratios::steady(),
        ["bursts"] => ratios::bursts(),
        ["changes"] => ratios::changes(),
        ["plot"] => print!("{}", plot::svg()),
        // A plain `cargo bench` runs every bench: this one has nothing to time.
        _ => println!(
            "yardstick: bound | trace | burst | judge | steady | bursts | changes | plot; see benches/yardstick/main.rs"
        ),
    }
}

fn parsed<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` cannot be read"))
}

fn bounds(settling: &Settling) {
    let grid = Grid::new(settling);
    for load in LOADS {
        let (bound, price) = grid.bound(PER_MINUTE / load);
        println!("{load:5} tasks a minute: at least {bound:7.3} s; a poll is worth {price:.4} s");
    }
    for tasks in BURSTS {
        let aligned = grid.burst(tasks, PER_MINUTE, 6);
        let sliding = sliding::floor(settling, tasks, PER_MINUTE, PER_SECOND);
        println!(
            "{tasks:5} tasks at once:   at least {aligned:7.3} s with aligned minutes, \
             {sliding:7.3} s with windows that slide"
        );
    }
}
