//! Three daemons and every fault, one after the other, for as long as one likes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::clients::Clients;
use crate::daemon::{Daemon, Home};
use crate::network::{Cut, Network};
use crate::postgres_cluster::Cluster;
use crate::stage::{Fleet, metric};

const DAEMONS: usize = 3;
/// Small, so that a lane's dozen of tasks spends it.
const PER_SECOND: usize = 20;
const PER_MINUTE: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    Sleep,
    Cut(Cut),
    Crash,
}

const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::Sleep,
    Fault::Cut(Cut::ToStore),
    Fault::Stop,
    Fault::Cut(Cut::ToAll),
    Fault::Crash,
    Fault::Cut(Cut::FromAll),
];

fn number(name: &str, otherwise: f64) -> f64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect(name))
}

struct Nemesis {
    fleet: Fleet,
    network: Option<Network>,
    homes: Vec<Home>,
    daemons: Vec<Option<Daemon>>,
    clients: Arc<Clients>,
    sleep: Duration,
    /// Refused writes and takeovers so far, of daemons that are gone too.
    counts: BTreeMap<(usize, u32, &'static str), u64>,
    /// How long lanes had no owner, by fault.
    gaps: BTreeMap<&'static str, Vec<Duration>>,
    faults: usize,
}

impl Nemesis {
    async fn new(lanes: usize, sleep: Duration) -> Self {
        let cluster: &'static Cluster =
            tokio::task::block_in_place(|| Box::leak(Box::new(Cluster::start())));
        let network = tokio::task::block_in_place(|| Network::new(DAEMONS));
        if network.is_none() {
            eprintln!("no network namespaces here: partitions are left out (run it as root)");
        }
        let here = network.as_ref().map_or(Ipv4Addr::LOCALHOST, Network::here);
        if let Some(network) = &network {
            let (store, range) = (network.store().to_string(), network.range());
            tokio::task::block_in_place(|| cluster.open_to(&store, &range));
        }
        let mut fleet = Fleet::on(cluster, lanes, here).await;
        fleet.quota = format!("quota = {{ per_second = {PER_SECOND}, per_minute = {PER_MINUTE} }}");
        fleet.upstreams.iter().for_each(|upstream| upstream.limit(PER_SECOND, PER_MINUTE));
        let mut homes = Vec::new();
        for number in 0..DAEMONS {
            let mut home = fleet.home(number + 1, Duration::from_millis(30)).await;
            if let Some(network) = &network {
                let store = network.store().to_string();
                let url = fleet.url.replace("127.0.0.1", &store);
                home.store_url = Some(format!("{url}?sslmode=disable"));
                home.started_by = network.enter(number);
                home.listen = format!("{}:8474", network.daemon(number));
                home.callback_allow = r#"["10.213.0.0/16"]"#;
            }
            homes.push(home);
        }
        let daemons = homes.iter().map(|_| None).collect();
        let (clients, counts, gaps) = (Arc::default(), BTreeMap::new(), BTreeMap::new());
        Self { fleet, network, homes, daemons, clients, sleep, counts, gaps, faults: 0 }
    }

    async fn start(&mut self, number: usize) {
        self.daemons[number] = Some(self.homes[number].start().await);
        let doors = self.daemons.iter().flatten().map(|daemon| daemon.door.clone()).collect();
        *self.clients.doors.lock().unwrap() = doors;
    }

    /// Reads the counters of everybody who answers.
    async fn count(&mut self) {
        for number in 0..DAEMONS {
            let Some(daemon) = &self.daemons[number] else { continue };
            daemon.forget_log();
            for name in ["outcomed_fleet_refused_writes_total", "outcomed_fleet_takeovers_total"] {
                let asked =
                    tokio::time::timeout(Duration::from_secs(3), metric(daemon, name)).await;
                if let Ok(value) = asked {
                    self.counts.insert((number, daemon.pid(), name), value);
                }
            }
        }
    }

    fn counted(&self, name: &str) -> u64 {
        self.counts.iter().filter(|((_, _, counted), _)| *counted == name).map(|(_, n)| n).sum()
    }

    /// Lanes whose owner is not alive, by the database.
    fn orphans(&self) -> usize {
        self.fleet
            .sql(
                "SELECT count(*) FROM lane l WHERE EXISTS (SELECT 1 FROM task WHERE lane = l.id AND \
                 watched) AND NOT EXISTS (SELECT 1 FROM member m WHERE m.id = l.owner AND \
                 m.expires_at > clock_timestamp())",
            )
            .parse()
            .unwrap()
    }

    /// Waits until this member's lanes, and all others, are in living hands again.
    async fn until_adopted(&mut self, fault: &'static str, victim: &str, limit: Duration) {
        let begun = Instant::now();
        let left = |nemesis: &Self| {
            let held = format!("SELECT count(*) FROM lane WHERE owner = '{victim}'");
            nemesis.fleet.sql(&held) != "0" || nemesis.orphans() > 0
        };
        while left(self) && begun.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.gaps.entry(fault).or_default().push(begun.elapsed());
    }

    /// A daemon's id in the database, by its number: it has joined under no other name.
    async fn id(&self, number: usize) -> String {
        let daemon = self.daemons[number].as_ref().expect("it runs");
        daemon.get("/v1/fleet").await["answered_by"].as_str().unwrap().to_owned()
    }

    async fn strike(&mut self, fault: Fault) {
        let victim = rand::random_range(0..DAEMONS);
        let patience = Duration::from_secs(40);
        self.faults += 1;
        eprintln!("{fault:?} of daemon {victim}");
        match fault {
            Fault::Kill => {
                let id = self.id(victim).await;
                self.daemons[victim].take().expect("it runs").kill().await;
                self.until_adopted("kill", &id, patience).await;
                self.start(victim).await;
            }
            Fault::Stop => {
                let id = self.id(victim).await;
                let mut daemon = self.daemons[victim].take().expect("it runs");
                daemon.signal("TERM");
                self.until_adopted("stop", &id, patience).await;
                assert_eq!(daemon.ended().await.code(), Some(0), "{}", daemon.log());
                self.start(victim).await;
            }
            Fault::Sleep => {
                let id = self.id(victim).await;
                let signal = |name| self.daemons[victim].as_ref().expect("it runs").signal(name);
                signal("STOP");
                let wakes = Instant::now() + self.sleep;
                self.until_adopted("sleep", &id, patience).await;
                tokio::time::sleep_until(wakes).await;
                self.daemons[victim].as_ref().expect("it runs").signal("CONT");
            }
            Fault::Cut(cut) => {
                let id = self.id(victim).await;
                let Some(network) = &self.network else { return };
                network.cut(victim, cut);
                let heals = Instant::now() + Duration::from_secs(20);
                self.until_adopted("cut", &id, patience).await;
                tokio::time::sleep_until(heals).await;
                self.network.as_ref().expect("it is there").heal(victim);
            }
            Fault::Crash => {
                let cluster = self.fleet.cluster;
                tokio::task::block_in_place(|| cluster.kill());
                tokio::time::sleep(Duration::from_secs(5)).await;
                tokio::task::block_in_place(|| cluster.restart());
            }
        }
    }

    /// Everybody is well, and everything promised is kept.
    async fn end(&mut self) {
        self.clients.stop.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        let open = "SELECT count(*) FROM registration WHERE state IN ('watching', 'delivering')";
        while self.fleet.sql(open) != "0" {
            assert!(begun.elapsed() < Duration::from_secs(180), "{} open", self.fleet.sql(open));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.count().await;
    }

    fn judge(&self) {
        let acknowledged = self.clients.acknowledged.lock().unwrap().clone();
        let callbacks = self.fleet.receiver.so_far();
        self.fleet.receiver.assert_repeats_are_faithful();
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        for callback in &callbacks {
            let json = callback.json();
            assert_eq!(json["data"]["outcome"], "succeeded", "{json}");
            let id = json["data"]["registration_id"].as_str().unwrap().to_owned();
            *told.entry(id).or_default() += 1;
        }
        let lost: Vec<_> = acknowledged.keys().filter(|id| !told.contains_key(*id)).collect();
        let repeats = callbacks.len() - told.len();
        let polls: usize = self.fleet.upstreams.iter().map(|it| it.state().polls.len()).sum();
        let fullest =
            self.fleet.upstreams.iter().map(|it| it.most_in_any(Duration::from_secs(60))).max();
        let beyond = self.fleet.beyond_quota();
        eprintln!(
            "{} faults; {} acknowledged, {} lost; {} callbacks, {repeats} repeats; {polls} polls, \
             {beyond} beyond the quota, {fullest:?} of {PER_MINUTE} in the fullest minute; \
             {} refused writes, {} takeovers; {} calls unanswered; without an owner for {:?}",
            self.faults,
            acknowledged.len(),
            lost.len(),
            callbacks.len(),
            self.counted("outcomed_fleet_refused_writes_total"),
            self.counted("outcomed_fleet_takeovers_total"),
            self.clients.unanswered.load(Ordering::SeqCst),
            self.gaps,
        );
        assert!(lost.is_empty(), "{lost:?}");
        assert_eq!(beyond, 0, "polls beyond the quota");
        assert!(repeats * 100 <= callbacks.len(), "{repeats} repeats of {}", callbacks.len());
        let kills = self.gaps.get("kill").into_iter().flatten();
        assert!(kills.max().is_none_or(|gap| *gap < Duration::from_secs(10)), "{:?}", self.gaps);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_nemesis_loses_a_registration_breaks_a_quota_or_repeats_much() {
    let time = Duration::from_secs_f64(60.0 * number("FLEET_MINUTES", 0.75));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let lanes = number("FLEET_LANES", 6.0) as usize;
    let sleep = Duration::from_secs_f64(number("FLEET_STOP", 9.0));
    let mut nemesis = Nemesis::new(lanes, sleep).await;
    for daemon in 0..DAEMONS {
        nemesis.start(daemon).await;
    }
    let clients = Arc::clone(&nemesis.clients);
    let (upstreams, url) = (nemesis.fleet.upstreams.clone(), nemesis.fleet.receiver.url("/"));
    let each = number("FLEET_RATE", 0.5);
    let running = tokio::spawn(clients.run(upstreams, url, each, 5_000..35_000));
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(8)).await;
    for fault in FAULTS.into_iter().cycle() {
        if begun.elapsed() > time {
            break;
        }
        nemesis.count().await;
        nemesis.strike(fault).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    nemesis.end().await;
    running.await.unwrap();
    nemesis.judge();
}
