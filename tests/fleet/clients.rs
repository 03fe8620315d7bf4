//! Clients that register without pause, at whichever daemon answers, and remember what was
//! acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};

use crate::daemon::ATS;
use crate::http::{Door, Response, request};
use crate::stage::wanted;
use crate::upstream::{Upstream, success};

/// An answer that takes longer is none: its daemon may be asleep, or cut off.
const ANSWER_MAX: Duration = Duration::from_secs(4);

/// Everything that was promised.
#[derive(Default)]
pub(crate) struct Clients {
    /// Registrations that were acknowledged, by their ids: their tasks.
    pub(crate) acknowledged: Mutex<BTreeMap<String, String>>,
    /// Calls that were not answered with a registration.
    pub(crate) unanswered: AtomicUsize,
    /// The daemons' doors, as they now are.
    pub(crate) doors: Mutex<Vec<Door>>,
    pub(crate) stop: AtomicBool,
    made: AtomicUsize,
}

impl Clients {
    /// Registers `each` new tasks a second in every lane, whose lives are uniform in this range.
    pub(crate) async fn run(
        self: Arc<Self>,
        upstreams: Vec<Upstream>,
        callback: String,
        each: f64,
        lives: std::ops::Range<u64>,
    ) {
        while !self.stop.load(Ordering::SeqCst) {
            let mut batch = Vec::new();
            for (lane, upstream) in upstreams.iter().enumerate() {
                if rand::random_bool(each.min(1.0)) {
                    let task = format!("n{}", self.made.fetch_add(1, Ordering::SeqCst));
                    let life = Duration::from_millis(rand::rng().random_range(lives.clone()));
                    upstream.script_after(life, &task, [success()]);
                    batch.push(wanted(lane, &task, &callback));
                }
            }
            if !batch.is_empty() {
                let clients = Arc::clone(&self);
                // Each batch on its own: one that waits for a daemon that sleeps holds up no other.
                tokio::spawn(async move { clients.register(batch).await });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Until somebody has acknowledged all of it.
    async fn register(&self, batch: Vec<Value>) {
        let body = json!({"registrations": batch}).to_string();
        let call = request("POST", "/v1/registrations/batch", ATS, Some(&body));
        loop {
            let door = {
                let doors = self.doors.lock().unwrap();
                doors[rand::random_range(0..doors.len())].clone()
            };
            let answer = tokio::time::timeout(ANSWER_MAX, door.exchange(&call)).await;
            let answer = answer.ok().flatten().and_then(|bytes| Response::parse(&bytes));
            if let Some(answer) = answer.filter(|answer| answer.status == 200) {
                let mut acknowledged = self.acknowledged.lock().unwrap();
                for result in answer.json()["results"].as_array().unwrap() {
                    let status = result["status"].as_u64().unwrap();
                    assert!(status == 200 || status == 201, "{result}");
                    let registration = &result["registration"];
                    let text = |value: &Value| value.as_str().unwrap().to_owned();
                    acknowledged.insert(
                        text(&registration["id"]),
                        text(&registration["task"]["delivery_task_id"]),
                    );
                }
                return;
            }
            self.unanswered.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
