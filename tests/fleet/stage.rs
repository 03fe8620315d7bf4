//! A fleet's stage: one database, an upstream for each lane, a receiver, and daemons that know all.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use outcomed::store::fleet::{MemberId, assign};
use outcomed::task::{Kind, LaneName};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::daemon::{Daemon, Home, OPS, SECRET, until};
use crate::http::reply;
use crate::postgres_cluster::{Cluster, cluster};
use crate::receiver::Receiver;
use crate::upstream::{APP_ID, APP_SECRET, Upstream, WEBSITE};

/// One stage.
pub(crate) struct Fleet {
    pub(crate) cluster: &'static Cluster,
    /// The database's URL, from this machine.
    pub(crate) url: String,
    /// One for each lane, `lane-N`.
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) receiver: Receiver,
    /// What each account's table says besides.
    pub(crate) quota: String,
}

impl Fleet {
    pub(crate) async fn new(lanes: usize) -> Self {
        Self::on(tokio::task::block_in_place(cluster), lanes, Ipv4Addr::LOCALHOST).await
    }

    pub(crate) async fn on(cluster: &'static Cluster, lanes: usize, address: Ipv4Addr) -> Self {
        let url = tokio::task::block_in_place(|| cluster.database());
        let mut upstreams = Vec::new();
        for _ in 0..lanes {
            upstreams.push(Upstream::start_at(address).await);
        }
        let receiver = Receiver::behaving_at(address, &[SECRET], |_| reply(204, &[], "")).await;
        Self { cluster, url, upstreams, receiver, quota: String::new() }
    }

    /// Where another daemon lives. Its polls come through doors of their own, with this number.
    pub(crate) async fn home(&self, number: usize, latency: Duration) -> Home {
        let mut home = Home::new(self.upstreams[0].address);
        home.store_url = Some(self.url.clone());
        let mut tables = String::new();
        for (lane, upstream) in self.upstreams.iter().enumerate() {
            let door = upstream.door(number, latency).await;
            if lane == 0 {
                home.base_url = format!("http://{door}");
                write!(tables, "{}", self.quota).unwrap();
                continue;
            }
            write!(
                tables,
                "\n[[accounts]]\nname = \"lane-{lane}\"\napp_id = \"{APP_ID}\"\n\
                 app_secret = \"{APP_SECRET}\"\nbase_url = \"http://{door}\"\n{}\n",
                self.quota
            )
            .unwrap();
        }
        home.account = tables;
        home
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        let name = self.url.rsplit('/').next().unwrap();
        tokio::task::block_in_place(|| self.cluster.psql(name, sql))
    }

    /// A task for each of so many in every lane, that stay pending.
    pub(crate) fn pending_tasks(&self, each: usize) -> Vec<Value> {
        let mut bodies = Vec::new();
        for (lane, upstream) in self.upstreams.iter().enumerate() {
            for n in 0..each {
                let task = format!("p{lane}x{n}");
                upstream.script(&task, [crate::upstream::pending()]);
                bodies.push(wanted(lane, &task, &self.receiver.url("/")));
            }
        }
        bodies
    }

    /// Polls that any upstream refused for lack of quota.
    pub(crate) fn beyond_quota(&self) -> usize {
        self.upstreams.iter().map(Upstream::beyond_quota).sum()
    }

    /// Waits until there are so many members and each lane is held by the one that is to have it,
    /// and returns how long that took.
    pub(crate) async fn until_held(&self, asked: &Daemon, members: usize) -> Duration {
        let begun = Instant::now();
        let lanes = self.upstreams.len();
        let look = async || {
            let fleet = asked.get("/v1/fleet").await;
            let ids: Vec<MemberId> =
                fleet["members"].as_array().unwrap().iter().map(|m| member(&m["id"])).collect();
            let all = fleet["lanes"].as_array().unwrap();
            let right = |lane: &&Value| {
                let account = lane["account"].as_str().unwrap().to_owned();
                let name = LaneName { account, kind: Kind::HireWebsiteDelivery };
                let held = !lane["member"].is_null();
                held && !assign(&ids, [&name], member(&lane["member"])).is_empty()
            };
            let settled = ids.len() == members && all.iter().filter(right).count() == lanes;
            settled.then_some(())
        };
        until("every lane is held", look, || asked.log()).await;
        begun.elapsed()
    }
}

fn member(id: &Value) -> MemberId {
    MemberId(id.as_str().unwrap().parse().unwrap())
}

/// An account's name.
pub(crate) fn account(lane: usize) -> String {
    if lane == 0 { "default".into() } else { format!("lane-{lane}") }
}

/// A registration of this lane's task.
pub(crate) fn wanted(lane: usize, task: &str, url: &str) -> Value {
    json!({"task": {"website_id": WEBSITE, "delivery_task_id": task, "account": account(lane)},
           "callback": {"url": url}})
}

/// A metric's value on this daemon, all labels together.
pub(crate) async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let answer = daemon.call("GET", "/metrics", OPS, None).await;
    let of_it =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    let sum: f64 = answer.text.lines().filter(of_it).map(value).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let sum = sum as u64;
    sum
}
