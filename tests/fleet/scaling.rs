//! What more daemons bring, and what a task costs the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clients::Clients;
use crate::daemon::Daemon;
use crate::postgres_cluster::Cluster;
use crate::stage::Fleet;

/// Upstream's latency: makes the work waiting-bound, as it is in life.
const LATENCY: Duration = Duration::from_millis(300);
const LANES: usize = 24;

fn seconds(name: &str, otherwise: u64) -> Duration {
    Duration::from_secs(std::env::var(name).map_or(otherwise, |text| text.parse().expect(name)))
}

/// Polls answered in a while with so many daemons, and the lanes of the one that has most.
async fn polls(cluster: &'static Cluster, daemons: usize, time: Duration) -> (usize, usize) {
    let fleet = Fleet::on(cluster, LANES, std::net::Ipv4Addr::LOCALHOST).await;
    let mut running: Vec<Daemon> = Vec::new();
    for number in 0..daemons {
        running.push(fleet.home(number + 1, LATENCY).await.start().await);
    }
    running[0].register_all(fleet.pending_tasks(20)).await;
    fleet.until_held(&running[0], daemons).await;
    let count = || fleet.upstreams.iter().map(|it| it.state().polls.len()).sum::<usize>();
    let before = count();
    tokio::time::sleep(time).await;
    let view = running[0].get("/v1/fleet").await;
    let lanes = view["members"].as_array().unwrap().iter().map(|m| m["lanes"].as_u64().unwrap());
    let most = usize::try_from(lanes.max().unwrap()).unwrap();
    assert_eq!(fleet.beyond_quota(), 0);
    (count() - before, most)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_each_daemon_shrinks_as_more_share_it_and_none_is_lost() {
    let cluster: &'static Cluster =
        tokio::task::block_in_place(|| Box::leak(Box::new(Cluster::start())));
    let time = seconds("FLEET_SCALING", 5);
    let mut shares = Vec::new();
    for daemons in 1..=3 {
        let (polls, most) = polls(cluster, daemons, time).await;
        eprintln!("{daemons} daemons: {polls} polls in {time:?}, at most {most} of {LANES} lanes each");
        shares.push((polls, most));
    }
    let (alone, all) = (shares[0].0, LANES);
    assert_eq!(shares[0].1, all);
    for (daemons, (polls, most)) in shares.iter().enumerate().skip(1) {
        assert!(polls * 10 >= alone * 8, "{polls} polls by {} daemons, {alone} by one", daemons + 1);
        assert!(most * (daemons + 1) < all * 2, "{most} lanes on one of {}", daemons + 1);
    }
}

/// What this database was asked, but for hints, beats and who looks on.
const ASKED: &str = "FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND query !~ 'pg_stat|^SET|set_config|LISTEN'";

#[tokio::test(flavor = "multi_thread")]
async fn a_task_costs_the_database_few_statements_in_life_too() {
    let fleet = Fleet::new(4).await;
    let first = fleet.home(1, LATENCY).await.start().await;
    let second = fleet.home(2, LATENCY).await.start().await;
    fleet.sql("CREATE EXTENSION pg_stat_statements");
    let clients = Arc::new(Clients::default());
    *clients.doors.lock().unwrap() = vec![first.door.clone(), second.door.clone()];
    let url = fleet.receiver.url("/");
    let running = Arc::clone(&clients).run(fleet.upstreams.clone(), url, 1.0, 1_000..4_000);
    let running = tokio::spawn(running);
    let time = seconds("FLEET_SCALING", 5) * 2;
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
    let listed = fleet.sql(&format!("SELECT calls, left(query, 90) {ASKED} ORDER BY calls DESC LIMIT 25"));
    eprintln!(
        "{tasks} tasks in {time:?}: {all} statements, of which {beside} go on by themselves and \
         {hints} are hints; {per_task} a task\n{listed}"
    );
    assert!(tasks >= 10, "{tasks} tasks");
    assert!(per_task <= 24, "{per_task} statements a task\n{listed}");
}
