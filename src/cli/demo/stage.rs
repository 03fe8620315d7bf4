//! What the demo plays with: everything real, on free loopback ports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::story::{Arrival, Figures, Plan};
use crate::app::{App, StartError};
use crate::clock::{Clock as _, SystemClock, millis};
use crate::config::secret::Secret;
use crate::config::{
    Account, CallbackAllow, Client, Config, Credentials, Http, Listen, QuotaLimits, Role,
    SigningSecret, StoreUrl,
};
use crate::mock_feishu::{Api, App as FeishuApp, Ending, Life, MockFeishu, Options, Settle};
use crate::receiver::verify::Key;
use crate::receiver::{Received, Receiver, accepting, failing_first};
use crate::service::Notifier;

const WEBSITE: &str = "7047318856652261676";
/// So that the failing receiver is told while somebody is watching.
const RETRY_DELAYS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
/// Attempts that the failing receiver refuses.
const REFUSALS: u32 = 2;

/// Why the demo cannot be played.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    /// A socket or a file.
    #[error("{0}")]
    Io(std::io::Error),
    /// The daemon.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A call to one of our own servers.
    #[error("a call on loopback failed: {0}")]
    Call(#[from] reqwest::Error),
    /// An answer that makes no sense.
    #[error("unexpected answer: {0}")]
    Answer(String),
}

/// Everything that takes part.
pub(super) struct Stage {
    feishu: MockFeishu,
    daemon: JoinHandle<bool>,
    shutdown: CancellationToken,
    api: String,
    token: String,
    steady: Receiver,
    shaky: Receiver,
    http: reqwest::Client,
    upstream_token: String,
    directory: PathBuf,
    clock: Arc<SystemClock>,
}

/// A task as it was registered.
pub(super) struct Registered {
    pub(super) task: String,
    pub(super) receiver: &'static str,
}

impl Stage {
    pub(super) async fn set_up() -> Result<Self, StageError> {
        let clock = Arc::new(SystemClock::new());
        let secret: [u8; 32] = rand::random();
        let token = format!("demo-{:032x}", rand::random::<u128>());
        let whsec = format!("whsec_{}", STANDARD.encode(secret));
        let key = || Key::parse(&whsec).map_err(|error| StageError::Answer(error.to_string()));
        let feishu = MockFeishu::start(options()).await.map_err(StageError::Io)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let receiver = async |behaviour| {
            Receiver::start(any, vec![key()?], behaviour, clock.clone())
                .await
                .map_err(StageError::Io)
        };
        let steady = receiver(accepting()).await?;
        let shaky = receiver(failing_first(REFUSALS, 503)).await?;
        let directory = std::env::temp_dir().join(format!(
            "outcomed-demo-{}-{:08x}",
            std::process::id(),
            rand::random::<u32>()
        ));
        std::fs::create_dir(&directory).map_err(StageError::Io)?;
        let config = config(&feishu, &token, &secret, directory.join("demo.db"));
        let app = App::build(config, Vec::new(), Notifier::default()).await?;
        let api = app.addresses().concat();
        let shutdown = CancellationToken::new();
        let daemon = tokio::spawn(app.run(shutdown.clone()));
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        let mut stage = Self {
            feishu,
            daemon,
            shutdown,
            api,
            token,
            steady,
            shaky,
            http,
            upstream_token: String::new(),
            directory,
            clock,
        };
        stage.upstream_token = stage.log_in().await?;
        Ok(stage)
    }

    pub(super) fn programme(&self) -> Vec<String> {
        vec![
            format!("mock Feishu       {}", self.feishu.base_url()),
            format!("outcomed          {}", self.api),
            format!("steady receiver   {}", self.steady.url()),
            format!("failing receiver  {}  (answers 503 {REFUSALS} times)", self.shaky.url()),
            String::new(),
        ]
    }

    /// As a downstream app's own token call.
    async fn log_in(&self) -> Result<String, StageError> {
        let url =
            format!("{}/open-apis/auth/v3/tenant_access_token/internal", self.feishu.base_url());
        let body = json!({ "app_id": FeishuApp::ID, "app_secret": FeishuApp::SECRET });
        let answer: Value = self.http.post(url).json(&body).send().await?.json().await?;
        text(&answer, "/tenant_access_token")
    }

    /// What a downstream app does: submit a résumé to Feishu, then register the task with us.
    pub(super) async fn create_and_register(&self, number: u32) -> Result<Registered, StageError> {
        if let Some(life) = scripted(number) {
            self.feishu.control().script_next_task(life);
        }
        let url = format!(
            "{}/open-apis/hire/v1/websites/{WEBSITE}/deliveries/create_by_attachment",
            self.feishu.base_url()
        );
        let body = json!({ "job_post_id": "6960663240925956658", "user_id": "6960663240925956656",
                           "resume_file_id": format!("resume-{number}") });
        let created = self.http.post(url).bearer_auth(&self.upstream_token).json(&body).send();
        let task = text(&created.await?.json().await?, "/data/task_id")?;

        let shaky = number % 6 == 3;
        let receiver = if shaky { &self.shaky } else { &self.steady };
        let registration = json!({
            "task": { "website_id": WEBSITE, "delivery_task_id": task },
            "callback": { "url": format!("{}hooks/feishu", receiver.url()) },
            "metadata": { "candidate": number.to_string() },
        });
        let url = format!("{}/v1/registrations", self.api);
        let answer =
            self.http.post(url).bearer_auth(&self.token).json(&registration).send().await?;
        if answer.status() != reqwest::StatusCode::CREATED {
            return Err(StageError::Answer(answer.text().await?));
        }
        Ok(Registered { task, receiver: if shaky { "failing" } else { "steady" } })
    }

    /// The next callback that one of the receivers got.
    pub(super) async fn callback(&mut self) -> Option<Received> {
        tokio::select! {
            callback = self.steady.next() => callback,
            callback = self.shaky.next() => callback,
        }
    }

    /// What a callback says, beside what really happened.
    pub(super) fn arrival(&self, callback: &Received) -> Arrival {
        let observed = &callback.json["data"]["observed"];
        let seen_at = observed["settled_at"].as_str().and_then(|at| at.parse().ok());
        let task = callback.task_id().unwrap_or_default().to_owned();
        let control = self.feishu.control();
        let truth = control.task(&task).and_then(|task| task.settles_at());
        // The stand-in's own scale, read off against the wall.
        let wall_of = |at: crate::clock::Steady| self.clock.wall().0 - (control.now().0 - at.0);
        Arrival {
            outcome: callback.outcome().unwrap_or("?").to_owned(),
            reason: callback.reason().map(str::to_owned),
            verified: callback.verified.is_ok(),
            answered: callback.answered,
            attempt: callback.arrival,
            polls: observed["polls"].as_u64().unwrap_or(0),
            detection: truth.zip(seen_at).map(|(at, seen): (_, crate::clock::Timestamp)| {
                Duration::from_millis(u64::try_from(seen.0 - wall_of(at)).unwrap_or(0))
            }),
            took: control.task(&task).and_then(|task| task.life.settles_after),
            task,
        }
    }

    pub(super) fn polls(&self, task: &str) -> u64 {
        self.feishu.control().task(task).map_or(0, |task| task.polls)
    }

    pub(super) fn figures(&self) -> Figures {
        self.feishu.control().journal(|journal| {
            let arrivals: Vec<i64> = journal.polls().map(|poll| poll.at.0).collect();
            Figures {
                polls: arrivals.len(),
                token_calls: journal.answered(Api::Auth, "ok").saturating_sub(1),
                refused: journal.answered(Api::Poll, "quota"),
                peak_per_second: peak(&arrivals, millis(Duration::from_secs(1))),
            }
        })
    }

    /// What the daemon says of its schedule, once it knows enough.
    pub(super) async fn plan(&self) -> Result<Option<Plan>, StageError> {
        let url = format!("{}/v1/accounts", self.api);
        let answer = self.http.get(url).bearer_auth(&self.token).send().await?;
        let accounts: Value = answer.json().await?;
        let account = &accounts["items"][0];
        let word = |name: &str| account[name].as_str().map(str::to_owned);
        Ok((|| {
            Some(Plan {
                price: word("poll_price")?,
                polls_per_task: account["polls_per_task"].as_f64()?,
                expected: word("expected_detection_delay")?,
                bound: word("detection_delay_bound")?,
                ratio: account["ratio_to_bound"].as_f64()?,
            })
        })())
    }

    /// How many registrations the daemon itself calls delivered.
    pub(super) async fn delivered(&self) -> Result<usize, StageError> {
        let mut count = 0;
        let mut next = Some(format!("{}/v1/registrations?state=delivered&limit=500", self.api));
        while let Some(url) = next {
            let answer = self.http.get(url).bearer_auth(&self.token).send().await?;
            let page: Value = answer.json().await?;
            count += page["items"].as_array().map_or(0, Vec::len);
            next = page["next_cursor"].as_str().map(|cursor| {
                format!("{}/v1/registrations?state=delivered&limit=500&cursor={cursor}", self.api)
            });
        }
        Ok(count)
    }

    pub(super) fn how_to_reach(&self) -> Vec<String> {
        let shown = [
            "\nstill running; Ctrl-C ends it. In another terminal:\n".to_owned(),
            format!("  export OUTCOMED_URL={} OUTCOMED_TOKEN={}", self.api, self.token),
            "  outcomed list".to_owned(),
            "  outcomed accounts".to_owned(),
            format!("  outcomed register {WEBSITE} TASK --callback {}", self.steady.url()),
        ];
        shown.to_vec()
    }

    pub(super) async fn tear_down(self) {
        self.shutdown.cancel();
        let _ = self.daemon.await;
        self.steady.stop().await;
        self.shaky.stop().await;
        self.feishu.stop().await;
        // A temporary directory that stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A few tasks end as the demo wants to show; the others as they happen to.
fn scripted(number: u32) -> Option<Life> {
    let seconds = Duration::from_secs;
    match number {
        2 => Some(Life::ending(
            Ending::Duplicate {
                message: "delivered already".into(),
                of: "6960663240925956657".into(),
            },
            seconds(4),
        )),
        5 => Some(Life::ending(
            Ending::Rejected { message: "resume cannot be parsed".into() },
            seconds(6),
        )),
        _ => None,
    }
}

fn options() -> Options {
    Options {
        settle: Settle::LogNormal { sigma: 0.5, median: 6.0 },
        seed: 1,
        latency: Duration::from_millis(30),
        ..Options::default()
    }
}

fn config(feishu: &MockFeishu, token: &str, secret: &[u8], store: PathBuf) -> Config {
    let base_url = url::Url::parse(&feishu.base_url());
    let accounts = base_url.into_iter().map(|base_url| Account {
        name: "default".into(),
        credentials: Credentials::Internal {
            app_id: FeishuApp::ID.into(),
            app_secret: Secret::new(FeishuApp::SECRET),
        },
        base_url,
        quota: QuotaLimits::default(),
    });
    let loopback = IpNet::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let client = Client {
        name: "demo".into(),
        // So that `--keep` can show the account too.
        role: Role::Operator,
        token_sha256: Sha256::digest(token).into(),
        signing_secrets: vec![SigningSecret::new(secret.to_vec())],
        callback_allow: vec![CallbackAllow::Cidr(loopback)],
        signing_keys: Vec::new(),
        tls_identity: None,
        alert_url: None,
    };
    let defaults = Config::default();
    Config {
        http: Http { listen: Listen::Tcp(([127, 0, 0, 1], 0).into()), ..defaults.http },
        store: StoreUrl::Sqlite(store),
        accounts: accounts.collect(),
        clients: vec![client],
        delivery: crate::config::Delivery {
            retry_delays: RETRY_DELAYS.to_vec(),
            ..defaults.delivery
        },
        ..defaults
    }
}

fn text(answer: &Value, pointer: &str) -> Result<String, StageError> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| StageError::Answer(answer.to_string()))
}

/// The most arrivals in any window of that length.
fn peak(arrivals: &[i64], window: i64) -> usize {
    arrivals
        .iter()
        .enumerate()
        .map(|(last, at)| last + 1 - arrivals.partition_point(|other| *other <= at - window))
        .max()
        .unwrap_or(0)
}
