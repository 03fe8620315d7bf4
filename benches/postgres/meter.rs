//! Measures: rows a second, processor time on both sides, and bytes of the write-ahead log.

use std::time::Duration;

use tokio::time::Instant;

use crate::postgres_cluster::Cluster;

/// The kernel counts processor time in hundredths of a second.
const TICK_US: f64 = 10_000.0;

pub struct Meter {
    cluster: &'static Cluster,
    database: String,
}

struct Reading {
    at: Instant,
    ours: f64,
    theirs: f64,
    log: f64,
}

pub fn head() {
    say("on each: rows per second, microseconds of processor time, bytes of write-ahead log");
    say("verb                        callers       /s   daemon µs   Postgres µs   log bytes");
}

impl Meter {
    pub fn new((cluster, database): (&'static Cluster, &str)) -> Self {
        Self { cluster, database: database.to_owned() }
    }

    /// Runs work of so many verbs, and says what it took.
    pub async fn run(&self, verb: &str, callers: usize, count: usize, work: impl Future) {
        let before = self.read();
        work.await;
        let after = self.read();
        let took = (after.at - before.at).max(Duration::from_millis(1)).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let n = count as f64;
        say(&format!(
            "{verb:27} {callers:7} {:8.0} {:11.0} {:13.0} {:11.0}",
            n / took,
            (after.ours - before.ours) / n,
            (after.theirs - before.theirs) / n,
            (after.log - before.log) / n,
        ));
    }

    fn read(&self) -> Reading {
        let log = self.cluster.psql(&self.database, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn");
        let pids = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
        let theirs = self.cluster.psql(&self.database, pids).lines().map(ticks).sum::<f64>();
        let ours = ticks("self") * TICK_US;
        let log = log.parse().expect("a number of bytes");
        Reading { at: Instant::now(), ours, theirs: theirs * TICK_US, log }
    }
}

/// A process's processor time so far.
fn ticks(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
}

#[expect(clippy::print_stdout, reason = "the bench's answer")]
pub fn say(line: &str) {
    println!("{line}");
}
