//! What the shared store does in a second, and what each verb costs on either side.
//!
//! `cargo bench --bench postgres`. The time is a matter of this machine; what lasts are the
//! processor times of a verb, and the bytes that it makes Postgres write. Postgres keeps its data
//! in memory unless `OUTCOMED_POSTGRES_BELOW` names a directory on a disk.

#[path = "../../tests/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod postgres_cluster;

mod load;
mod meter;

use load::Load;
use meter::Meter;
use postgres_cluster::cluster;

/// Callers at once; a daemon has 16 connections.
const CALLERS: [usize; 3] = [1, 4, 16];
/// Tasks for all callers together: a second or more for each verb.
const TASKS: usize = 2_400;
/// Registrations in a batch.
const BATCH: usize = 50;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(bench());
}

async fn bench() {
    meter::head();
    for callers in CALLERS {
        let load = Load::new(cluster(), callers, TASKS / callers).await;
        let meter = Meter::new(load.database());
        let ones = TASKS / 4 / callers;
        meter.run("register, one by one", callers, TASKS / 4, load.register_one_by_one(ones)).await;
        meter.run("register, batches of 50", callers, TASKS, load.register(BATCH)).await;
        load.take().await;
        meter.run("reserve 50 polls", callers, 1_000 * callers, load.reserve(1_000)).await;
        meter.run("checkpoint of 50 tasks", callers, 100 * callers, load.progress(100)).await;
        meter.run("settle", callers, TASKS + TASKS / 4, load.settle()).await;
        meter.run("due, 16 of them", callers, 200 * callers, load.due(200)).await;
        meter.run("record_attempt", callers, TASKS, load.deliver()).await;
        meter.run("find", callers, TASKS, load.find()).await;
        meter.run("beat", callers, 200 * callers, load.beat(200)).await;
        load.sizes(TASKS + TASKS / 4);
    }
    let crowd = Load::new(cluster(), 1, TASKS).await;
    crowd.register(BATCH).await;
    crowd.take().await;
    let meter = Meter::new(crowd.database());
    meter.run("settle, one lane for all", 16, TASKS, crowd.settle_by(16)).await;
    load::claims(cluster()).await;
}
