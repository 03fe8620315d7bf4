//! The stand-in Feishu, the daemon, the receiver, and a client that registers at random times.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outcomed::clock::{Clock, Steady, SystemClock, Timestamp};
use outcomed::mock_feishu::{MockFeishu, Options};
use outcomed::receiver::verify::Key;
use outcomed::receiver::{Receiver, accepting};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::daemon::{Daemon, PATIENCE, SECRET, TOKEN, home};
use crate::{Run, parsed};

const WEBSITE: &str = "7047318856652261676";
/// How soon a registration that met no daemon is tried again.
const REGISTER_AGAIN: Duration = Duration::from_millis(50);

/// A callback that came.
pub(crate) struct Told {
    /// When the daemon saw the task settled, by its own word.
    pub(crate) settled_at: Timestamp,
    /// When the callback came.
    pub(crate) at: Timestamp,
    pub(crate) verified: bool,
    pub(crate) times: u32,
}

/// A task that was registered.
pub(crate) struct Registered {
    pub(crate) task: String,
    pub(crate) at: Steady,
}

pub(crate) struct Stage {
    pub(crate) feishu: MockFeishu,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) told: Arc<Mutex<BTreeMap<String, Told>>>,
    pub(crate) registered: Vec<Registered>,
    daemon: Daemon,
    api: Arc<Mutex<String>>,
    callback: String,
    http: reqwest::Client,
    random: StdRng,
    rate: f64,
    program: PathBuf,
    directory: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Stage {
    pub(crate) async fn set_up(run: &Run) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Arc::new(SystemClock::new());
        let options = Options {
            settle: parsed(&run.settle),
            seed: run.seed,
            latency: run.latency,
            ..Options::default()
        };
        let feishu = MockFeishu::start_with_clock(options, clock.clone()).await.expect("a socket");
        let key = Key::parse(SECRET).expect("a signing secret");
        let any = ([127, 0, 0, 1], 0).into();
        let receiver =
            Receiver::start(any, vec![key], accepting(), clock.clone()).await.expect("a socket");
        let callback = receiver.url();
        let told = Arc::new(Mutex::new(BTreeMap::new()));
        tokio::spawn(listen(receiver, Arc::clone(&told)));
        let directory = home(&feishu.base_url());
        let daemon = Daemon::start(&run.daemon, &directory);
        let api = Arc::new(Mutex::new(daemon.api.clone()));
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        Self {
            feishu,
            clock,
            told,
            registered: Vec::new(),
            daemon,
            api,
            callback,
            http: http.expect("a client"),
            random: StdRng::seed_from_u64(run.seed),
            rate: run.rate,
            program: run.daemon.clone(),
            directory,
        }
    }

    pub(crate) fn now(&self) -> Steady {
        self.clock.steady()
    }

    /// Creates and registers tasks, as they happen to come, for so many minutes.
    pub(crate) async fn register_for(&mut self, minutes: f64) {
        let end = self.now().after(Duration::from_secs_f64(minutes * 60.0));
        let mut at = self.now();
        loop {
            let gap = -(1.0 - self.random.random::<f64>()).ln() * 60.0 / self.rate;
            at = at.after(Duration::from_secs_f64(gap));
            tokio::time::sleep(at.min(end).since(self.now())).await;
            if at >= end {
                return;
            }
            self.register();
        }
    }

    fn register(&mut self) {
        let task = self.feishu.control().draw_task(WEBSITE);
        let body = json!({"task": {"website_id": WEBSITE, "delivery_task_id": task},
                          "callback": {"url": self.callback}});
        self.registered.push(Registered { task, at: self.now() });
        let (http, api) = (self.http.clone(), Arc::clone(&self.api));
        tokio::spawn(async move {
            loop {
                let url = format!("{}/v1/registrations", api.lock().expect("whole"));
                let answer = http.post(url).bearer_auth(TOKEN).json(&body).send().await;
                match answer {
                    Ok(answer) if answer.status().is_success() => return,
                    Ok(answer) if answer.status().is_client_error() => {
                        panic!("refused: {:?}", answer.text().await)
                    }
                    _ => tokio::time::sleep(REGISTER_AGAIN).await,
                }
            }
        });
    }

    /// `kill -9`, and a new daemon on the same store at once. How long nobody was there.
    pub(crate) async fn kill_and_restart(&mut self) -> Duration {
        let from = self.now();
        self.daemon.kill();
        let (program, directory) = (self.program.clone(), self.directory.clone());
        let start = move || Daemon::start(&program, &directory);
        let started = tokio::task::spawn_blocking(start).await;
        self.daemon = started.expect("it starts again");
        self.api.lock().expect("whole").clone_from(&self.daemon.api);
        self.now().since(from)
    }

    /// Waits until every callback has come, or it is clear that some never will.
    pub(crate) async fn wait_for_all(&self) {
        let deadline = self.now().after(PATIENCE);
        while self.told.lock().expect("whole").len() < self.registered.len()
            && self.now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the daemon says about its account.
    pub(crate) async fn accounts(&self) -> Value {
        let url = format!("{}/v1/accounts", self.daemon.api);
        let answer = self.http.get(url).bearer_auth(TOKEN).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["items"][0].take()
    }
}

async fn listen(mut receiver: Receiver, told: Arc<Mutex<BTreeMap<String, Told>>>) {
    while let Some(callback) = receiver.next().await {
        let Some(task) = callback.task_id() else { continue };
        let settled = callback.json["data"]["observed"]["settled_at"].as_str();
        let settled_at = settled.and_then(|at| at.parse().ok()).unwrap_or(callback.at);
        let mut told = told.lock().expect("whole");
        told.entry(task.to_owned()).and_modify(|it| it.times += 1).or_insert(Told {
            settled_at,
            at: callback.at,
            verified: callback.verified.is_ok(),
            times: 1,
        });
    }
}
