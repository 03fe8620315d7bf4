//! What more daemons bring, and what a task costs the database.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::clients::Clients;
use crate::daemon::{Daemon, SECRET, until};
use crate::http::{Answer, reply};
use crate::postgres_cluster::Cluster;
use crate::receiver::{Callback, Receiver};
use crate::stage::{Fleet, wanted};
use crate::upstream::success;

/// What a receiver takes: a delivery is waiting, as it is in life.
const LATENCY: Duration = Duration::from_millis(300);
const LANES: usize = 24;

/// Tasks of each lane: more than three daemons tell in a while, where that is measured.
fn tasks() -> usize {
    if measuring() { 110 } else { 15 }
}

/// Whether this run is for the figures. Otherwise it shares the machine with all other tests, and
/// only shows that any number of daemons does the work, each its share of the lanes.
fn measuring() -> bool {
    std::env::var("FLEET_SCALING").is_ok()
}

fn seconds(name: &str, otherwise: u64) -> Duration {
    Duration::from_secs(std::env::var(name).map_or(otherwise, |text| text.parse().expect(name)))
}

/// Outcomes told a second by so many daemons, while each has a backlog; and the most lanes that one
/// of them has.
async fn rate(cluster: &'static Cluster, daemons: usize) -> (f64, usize) {
    let mut fleet = Fleet::on(cluster, LANES, Ipv4Addr::LOCALHOST).await;
    let slowly = |_: &Callback| Answer::After(LATENCY, Box::new(reply(204, &[], "")));
    fleet.receiver = Receiver::behaving(&[SECRET], slowly).await;
    let mut running: Vec<Daemon> = Vec::new();
    for number in 0..daemons {
        running.push(fleet.home(number + 1, Duration::ZERO).await.start().await);
    }
    running[0].register_all(fleet.pending_tasks(1)).await;
    fleet.until_held(&running[0], daemons).await;
    for (lane, upstream) in fleet.upstreams.iter().enumerate() {
        let bodies = (0..tasks()).map(|n| {
            let task = format!("s{lane}x{n}");
            upstream.script(&task, [success()]);
            wanted(lane, &task, &fleet.receiver.url("/"))
        });
        running[lane % daemons].register_all(bodies.collect()).await;
    }
    let known = "SELECT count(*) FROM task WHERE outcome IS NOT NULL";
    let told = || fleet.receiver.so_far().len();
    // By then deliveries go out as many at once as they may.
    let all = async || (fleet.sql(known) == (LANES * tasks()).to_string()).then_some(());
    until("all outcomes are known", all, || running[0].log()).await;
    let (before, begun) = (told(), Instant::now());
    if measuring() {
        tokio::time::sleep(seconds("FLEET_SCALING", 6)).await;
    }
    let more = u32::try_from(told() - before).unwrap();
    let rate = f64::from(more) / begun.elapsed().as_secs_f64();
    fleet.receiver.distinct(LANES * tasks()).await;
    let view = running[0].get("/v1/fleet").await;
    let lanes = view["members"].as_array().unwrap().iter().map(|m| m["lanes"].as_u64().unwrap());
    assert_eq!(fleet.beyond_quota(), 0);
    fleet.receiver.assert_repeats_are_faithful();
    (rate, usize::try_from(lanes.max().unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_daemons_do_more_work_by_this_ratio() {
    let cluster: &'static Cluster =
        tokio::task::block_in_place(|| Box::leak(Box::new(Cluster::start())));
    let mut rates = Vec::new();
    for daemons in 1..=3 {
        let (rate, most) = rate(cluster, daemons).await;
        let ratio = rate / rates.first().unwrap_or(&rate);
        assert!(daemons == 1 || most < LANES, "{daemons} daemons, and one has all lanes");
        if measuring() {
            eprintln!(
                "{daemons} daemons tell {rate:.1} outcomes a second: {ratio:.2} times one's; at most {most} of {LANES} lanes each"
            );
        }
        rates.push(rate);
    }
    if measuring() {
        assert!(rates[1] > rates[0] * 1.5, "{rates:?}");
        assert!(rates[2] > rates[0] * 2.0, "{rates:?}");
    }
}

/// What this database was asked, but for hints, beats and who looks on.
const ASKED: &str = "FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND query !~ 'pg_stat|^SET|set_config|LISTEN'";

#[tokio::test(flavor = "multi_thread")]
async fn a_task_costs_the_database_few_statements_in_life_too() {
    let fleet = Fleet::new(4).await;
    let first = fleet.home(1, Duration::ZERO).await.start().await;
    let second = fleet.home(2, Duration::ZERO).await.start().await;
    fleet.sql("CREATE EXTENSION pg_stat_statements");
    let clients = Arc::new(Clients::default());
    *clients.doors.lock().unwrap() = vec![first.door.clone(), second.door.clone()];
    let url = fleet.receiver.url("/");
    let running = Arc::clone(&clients).run(fleet.upstreams.clone(), url, 1.0, 1_000..4_000);
    let running = tokio::spawn(running);
    let time = seconds("FLEET_SCALING", 4) * 2;
    tokio::time::sleep(Duration::from_secs(4)).await;
    fleet.sql("SELECT pg_stat_statements_reset()");
    let settled = || fleet.sql("SELECT count(*) FROM task WHERE outcome IS NOT NULL");
    let before: u64 = settled().parse().unwrap();
    tokio::time::sleep(time).await;
    let tasks = settled().parse::<u64>().unwrap() - before;
    let calls = |more: &str| -> u64 {
        fleet.sql(&format!("SELECT coalesce(sum(calls), 0) {ASKED} {more}")).parse().unwrap()
    };
    let idle = "query ~ 'member|heartbeat|busy|pair|redelivery|notice|GROUP BY state'";
    let (all, beside) = (calls(""), calls(&format!("AND ({idle})")));
    let hints = calls("AND query ~ 'pg_notify'");
    clients.stop.store(true, Ordering::SeqCst);
    running.await.unwrap();
    let per_task = (all - beside - hints) / tasks.max(1);
    let listed =
        fleet.sql(&format!("SELECT calls, left(query, 90) {ASKED} ORDER BY calls DESC LIMIT 25"));
    eprintln!(
        "{tasks} tasks in {time:?}: {all} statements, of which {beside} go on by themselves and \
         {hints} are hints; {per_task} a task\n{listed}"
    );
    assert!(tasks >= 10, "{tasks} tasks");
    assert!(per_task <= 24, "{per_task} statements a task\n{listed}");
}
