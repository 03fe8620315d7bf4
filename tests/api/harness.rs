//! A running API on a loopback port, with a store to look into.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use outcomed::api::{
    ApiState, Drained, EventRefusal, EventReply, EventSink, Limits, Listener, PingError, Pinger,
    serve,
};
use outcomed::clock::{Clock, SystemClock, Timestamp};
use outcomed::config::secret::Secret;
use outcomed::config::{
    Account, Client, Config, Credentials, Delivery, Http, Listen, Log, LogFormat, Polling,
    QuotaLimits, Retention, Role, SigningSecret, StoreUrl,
};
use outcomed::observability::Metrics;
use outcomed::outcome::{Ids, Outcome};
use outcomed::polling::board::Board;
use outcomed::store::fleet::{Alone, Fleet};
use outcomed::store::{
    Attempt, AttemptDetails, Destination, Ending, Next, Outbox, Progress, Store,
};
use outcomed::task::{Kind, LaneName};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::memory_store::MemoryStore;

/// A client's token.
pub(crate) const ATS: &str = "ats-token";
/// Another client's.
pub(crate) const CRM: &str = "crm-token";
/// An operator's, who receives no callbacks.
pub(crate) const OPERATOR: &str = "operator-token";

pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) board: Arc<Board>,
    pub(crate) config: watch::Sender<Arc<Config>>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<Drained>,
    pub(crate) http: reqwest::Client,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
    }

    /// It is RFC 9457, and of this type and status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, name: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:outcomed:problem:{name}"), "{problem}");
        assert_eq!(problem["status"], status);
        for member in ["title", "detail"] {
            assert!(!problem[member].as_str().unwrap().is_empty(), "{problem}");
        }
        problem
    }

    /// The pointers of a 422, in order.
    #[track_caller]
    pub(crate) fn pointers(&self) -> Vec<String> {
        let problem = self.problem(422, "invalid");
        let errors = problem["errors"].as_array().unwrap().iter();
        errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(config(), Limits::default()).await
    }

    pub(crate) async fn start_with(config: Config, limits: Limits) -> Self {
        let listener = Listener::bind(&config.http.listen).await.unwrap();
        let address = listener.address();
        let address = address.strip_prefix("http://").unwrap_or("127.0.0.1:1").parse().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (config, configured) = watch::channel(Arc::new(config));
        let (store, board) = (Arc::new(MemoryStore::new()), Arc::new(Board::default()));
        let fleet = Alone::new(store.clone());
        let member = fleet.join("here", Timestamp(1_000)).await.unwrap().id;
        let state = ApiState {
            store: store.clone(),
            fleet: Arc::new(fleet),
            member,
            config: configured,
            clock: Arc::new(SystemClock::new()),
            board: board.clone(),
            health: outcomed::delivery::health::desk().0,
            metrics: Arc::new(Metrics::default()),
            judge_callback: Arc::new(judge),
            pinger: Arc::new(TestPinger),
            events: Arc::new(TestSink),
            lines: Arc::default(),
            limits,
        };
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(vec![listener], state, shutdown.clone()));
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Self { address, store, board, config, shutdown, served, http }
    }

    /// One call over a fresh or pooled connection.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&str>,
    ) -> Answer {
        let url = format!("http://{}{path}", self.address);
        let mut request = self.http.request(method, url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, None).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, token, Some(&body.to_string())).await
    }

    /// Registers this task for `ats` and returns the id.
    pub(crate) async fn register(&self, delivery_task_id: &str) -> String {
        let answer = self.post("/v1/registrations", ATS, &wanted(delivery_task_id)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// The task ends well, as polling would have it stored.
    pub(crate) async fn settle(&self, delivery_task_id: &str) {
        let ids = Ids { application_id: Some("6960663240925956657".into()), ..Ids::default() };
        self.end(delivery_task_id, Outcome::succeeded(ids)).await;
    }

    /// The task ends like this.
    pub(crate) async fn end(&self, delivery_task_id: &str, outcome: Outcome) {
        let store: &dyn Store = self.store.as_ref();
        let lane = LaneName { account: "default".into(), kind: Kind::default() };
        let now = SystemClock::new().wall();
        let lease = store.take(&lane, now).await.unwrap().lease;
        let changes = store.changes(&lease, 0, 1000).await.unwrap();
        let named = |watch: &outcomed::store::Watch| watch.delivery_task_id == delivery_task_id;
        let task = changes.iter().find(|it| it.watch.as_ref().is_some_and(named)).unwrap().task;
        let progress = Progress { polls: 3, last_pending_at: Some(now), ..Progress::default() };
        let ending = Ending { task, at: now, progress, log_id: Some("20261122".into()) };
        store.settle(&lease, ending, outcome).await.unwrap();
    }

    /// Every due delivery is attempted once.
    pub(crate) async fn attempt(&self, status: u16, next: Next) {
        let store = &self.store;
        let at: Timestamp = "2026-11-22T10:00:00.123Z".parse().unwrap();
        for delivery in store.due(&Destination::default(), at, 1000).await.unwrap() {
            let attempt = attempt(delivery.attempts + 1, status);
            store.record_attempt(&delivery, attempt, next).await.unwrap();
        }
    }

    pub(crate) async fn registrations(&self) -> usize {
        let page = self.get("/v1/registrations?limit=1000", OPERATOR).await;
        page.json()["items"].as_array().unwrap().len()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes and reads until the server closes, or for as long as a test is patient.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_to_end(stream).await
    }
}

pub(crate) async fn read_to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("closed in time");
    String::from_utf8(answer).unwrap()
}

pub(crate) fn attempt(number: u32, status: u16) -> Attempt {
    Attempt {
        number,
        at: "2026-11-22T10:00:00.123Z".parse().unwrap(),
        duration: Duration::from_millis(87),
        status: Some(status),
        error: (status != 200).then(|| format!("the receiver answered {status}")),
        reply_excerpt: Some("hello".into()),
        verdict: if status == 200 { "delivered" } else { "retry" }.into(),
        details: AttemptDetails {
            connect: None,
            first_byte: Some(Duration::from_millis(61)),
            error_class: (status != 200).then(|| "status".into()),
            reason: Some("schedule".into()),
        },
    }
}

pub(crate) fn wanted(delivery_task_id: &str) -> Value {
    json!({
        "task": {"website_id": "7047318856652261676", "delivery_task_id": delivery_task_id},
        "callback": {"url": "https://hr.example.com/hooks/feishu"},
        "metadata": {"candidate": "42"},
    })
}

fn judge(url: &Url, _client: &Client) -> Result<(), String> {
    if url.scheme() == "https" { Ok(()) } else { Err("must be https".into()) }
}

struct TestPinger;

#[async_trait]
impl Pinger for TestPinger {
    async fn ping(&self, client: &Client, url: &Url) -> Result<Attempt, PingError> {
        match url.path() {
            "/refused" => Err(PingError::Refused("resolves to a private address".into())),
            "/failed" => Err(PingError::Failed(format!("no key for {}", client.name))),
            "/panic" => panic!("a bug"),
            "/down" => Ok(attempt(1, 503)),
            "/slow" => std::future::pending().await,
            _ => Ok(attempt(1, 200)),
        }
    }
}

struct TestSink;

#[async_trait]
impl EventSink for TestSink {
    fn knows(&self, app_id: &str) -> bool {
        app_id == "cli_store"
    }

    async fn handle(
        &self,
        app_id: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<EventReply, EventRefusal> {
        assert!(self.knows(app_id), "it is asked first");
        let event: Value = serde_json::from_slice(body)
            .map_err(|error| EventRefusal::Malformed(error.to_string()))?;
        if headers.get("x-lark-signature").is_none() {
            return Err(EventRefusal::NotAuthentic("no signature".into()));
        }
        Ok(EventReply(json!({"challenge": event["challenge"]})))
    }
}

fn client(name: &str, role: Role, token: &str) -> Client {
    let secrets = if role == Role::Client { vec![SigningSecret::new(vec![7; 32])] } else { vec![] };
    Client {
        name: name.into(),
        role,
        token_sha256: Sha256::digest(token).into(),
        signing_secrets: secrets,
        callback_allow: Vec::new(),
        signing_keys: Vec::new(),
        tls_identity: None,
        alert_url: None,
    }
}

pub(crate) fn account(name: &str) -> Account {
    Account {
        name: name.into(),
        credentials: Credentials::Internal { app_id: "cli_1".into(), app_secret: Secret::new("s") },
        base_url: "http://127.0.0.1:1".parse().unwrap(),
        quota: QuotaLimits::default(),
    }
}

pub(crate) fn config() -> Config {
    Config {
        http: Http { listen: Listen::Tcp("127.0.0.1:0".parse().unwrap()), open_metrics: false },
        store: StoreUrl::Sqlite("unused.db".into()),
        accounts: vec![account("default")],
        clients: vec![
            client("ats", Role::Client, ATS),
            client("crm", Role::Client, CRM),
            client("ops", Role::Operator, OPERATOR),
        ],
        polling: Polling {
            give_up_after: Duration::from_secs(3600),
            not_found_grace: Duration::from_secs(30),
            poll_worth: Duration::from_millis(10),
        },
        delivery: Delivery {
            timeout: Duration::from_secs(15),
            retry_delays: vec![Duration::from_secs(5)],
            concurrency_per_host: 16,
            extra_ca_files: Vec::new(),
        },
        retention: Retention {
            delivered: Duration::from_secs(30 * 24 * 3600),
            undeliverable: Duration::from_secs(90 * 24 * 3600),
            attempts: Duration::from_secs(30 * 24 * 3600),
        },
        log: Log { level: "info".into(), format: LogFormat::Auto },
    }
}
