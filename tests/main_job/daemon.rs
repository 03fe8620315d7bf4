//! `outcomed serve` as a process of its own, with its configuration and store in a directory.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::http::{Door, PATIENCE, Response, request};
use crate::receiver::Receiver;
use crate::upstream::{APP_ID, APP_SECRET, Upstream, WEBSITE};

pub(crate) const ATS: &str = "oct_ats_0123456789abcdef0123456789abcdef";
pub(crate) const OPS: &str = "oct_ops_0123456789abcdef0123456789abcdef";
pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub(crate) const SECOND_SECRET: &str = "whsec_YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

/// Where one daemon lives. A restart is another [`Home::start`].
pub(crate) struct Home {
    dir: TempDir,
    /// Where the store is; elsewhere for a small disk.
    pub(crate) store: PathBuf,
    /// The store, if it is not that file.
    pub(crate) store_url: Option<String>,
    /// What the daemon is started by: a command before it.
    pub(crate) started_by: Vec<String>,
    pub(crate) listen: String,
    pub(crate) base_url: String,
    /// More of the account: a store app's part.
    pub(crate) account: String,
    pub(crate) polling: String,
    pub(crate) delivery: String,
    pub(crate) signing_secrets: Vec<&'static str>,
    pub(crate) callback_allow: &'static str,
    /// More tables.
    pub(crate) more: String,
}

impl Home {
    pub(crate) fn new(upstream: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Self {
            store: dir.path().join("outcomed.db"),
            store_url: None,
            started_by: Vec::new(),
            dir,
            listen: "127.0.0.1:0".into(),
            base_url: format!("http://{upstream}"),
            account: String::new(),
            polling: "not_found_grace = \"1s\"\ngive_up_after = \"5m\"".into(),
            delivery: "timeout = \"2s\"\nretry_delays = [\"300ms\", \"300ms\", \"300ms\"]".into(),
            signing_secrets: vec![SECRET],
            callback_allow: r#"["127.0.0.0/8"]"#,
            more: String::new(),
        };
        home.set_app_secret(APP_SECRET);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn set_app_secret(&self, secret: &str) {
        self.write("app-secret", secret);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.path(name), text).unwrap();
        let only_ours = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), only_ours).unwrap();
    }

    pub(crate) fn write_config(&self) {
        let text = format!(
            r#"
[http]
listen = "{listen}"
[store]
url = "{store}"
[[accounts]]
name = "default"
app_id = "{APP_ID}"
app_secret = "file:{secret}"
base_url = "{base_url}"
{account}
[[clients]]
name = "ats"
token = "{ATS}"
signing_secrets = {secrets:?}
callback_allow = {allow}
[[clients]]
name = "ops"
role = "operator"
token = "{OPS}"
[polling]
{polling}
[delivery]
{delivery}
[log]
format = "json"
level = "info"
{more}
"#,
            listen = self.listen,
            store = self.store_url.clone().unwrap_or(format!("sqlite:{}", self.store.display())),
            secret = self.path("app-secret").display(),
            base_url = self.base_url,
            account = self.account,
            secrets = self.signing_secrets,
            allow = self.callback_allow,
            polling = self.polling,
            delivery = self.delivery,
            more = self.more,
        );
        self.write("config.toml", &text);
    }

    /// Starts it, and does not wait.
    pub(crate) fn spawn(&self) -> Daemon {
        self.write_config();
        let line = self.started_by.iter().map(String::as_str);
        let mut line = line.chain([env!("CARGO_BIN_EXE_outcomed"), "serve", "--config"]);
        let mut child = Command::new(line.next().unwrap())
            .args(line)
            .arg(self.path("config.toml"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, into) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        Daemon { child, log, door: Door::Unix(PathBuf::new()) }
    }

    /// Starts it; returns once it says that it is ready.
    pub(crate) async fn start(&self) -> Daemon {
        let mut daemon = self.spawn();
        let ready = daemon.logged("ready").await;
        daemon.door = Door::named(ready["fields"]["listen"].as_str().unwrap());
        daemon
    }

    /// It cannot start: what it says, and how it ends.
    pub(crate) async fn fail_to_start(&self) -> (String, ExitStatus) {
        let mut daemon = self.spawn();
        let status = daemon.ended().await;
        (daemon.log(), status)
    }
}

/// A running daemon; killed when the test is over.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub(crate) door: Door,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Log lines are heard of by this, and forgotten.
    pub(crate) fn forget_log(&self) {
        self.log.lock().unwrap().clear();
    }

    /// Waits for a log line with this message and returns it.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        let find = || {
            let log = self.log.lock().unwrap();
            let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut of_it = lines.filter(|line| {
                let said = line["message"].as_str().or_else(|| line["fields"]["message"].as_str());
                said.is_some_and(|said| said.contains(message))
            });
            of_it.next_back()
        };
        until(&format!("log: {message}"), async || find(), || self.log()).await
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL, and gone.
    pub(crate) async fn kill(mut self) {
        self.signal("KILL");
        self.ended().await;
    }

    /// One call on a connection of its own; `None`: no answer.
    pub(crate) async fn try_call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&str>,
    ) -> Option<Response> {
        let answer = self.door.exchange(&request(method, path, token, body)).await?;
        Response::parse(&answer)
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<&str>,
    ) -> Response {
        let answer = self.try_call(method, path, token, body).await;
        answer.unwrap_or_else(|| panic!("no answer to {method} {path}: {}", self.log()))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, OPS, None).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Registers and returns the resource of the 201.
    pub(crate) async fn register(&self, body: &Value) -> Value {
        let answer = self.call("POST", "/v1/registrations", ATS, Some(&body.to_string())).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// Registers many at once; all must be new.
    pub(crate) async fn register_all(&self, bodies: Vec<Value>) -> Vec<Value> {
        let body = json!({"registrations": bodies}).to_string();
        let answer = self.call("POST", "/v1/registrations/batch", ATS, Some(&body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let results = answer.json()["results"].as_array().unwrap().clone();
        results
            .into_iter()
            .map(|mut result| {
                assert_eq!(result["status"], 201, "{result}");
                result["registration"].take()
            })
            .collect()
    }

    /// Waits until the resource is in this state, and returns it.
    pub(crate) async fn until_state(&self, id: &str, state: &str) -> Value {
        let path = format!("/v1/registrations/{id}");
        let look = async || Some(self.get(&path).await).filter(|it| it["state"] == state);
        until(&format!("{id} {state}"), look, || self.log()).await
    }

    /// Waits until the account is in this state, and returns it.
    pub(crate) async fn until_account(&self, state: &str) -> Value {
        let look = async || {
            let account = self.get("/v1/accounts").await["items"][0].take();
            (account["state"] == state).then_some(account)
        };
        until(&format!("account {state}"), look, || self.log()).await
    }
}

/// Looks until there is something to see.
pub(crate) async fn until<T>(
    what: &str,
    look: impl AsyncFn() -> Option<T>,
    explain: impl Fn() -> String,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}\n{}", explain());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A registration of this task, called back there.
pub(crate) fn wanted(task: &str, url: &str) -> Value {
    json!({"task": {"website_id": WEBSITE, "delivery_task_id": task}, "callback": {"url": url}})
}

/// A whole stage: upstream, receiver, and a daemon that knows both.
pub(crate) struct Stage {
    pub(crate) upstream: Upstream,
    pub(crate) receiver: Receiver,
    pub(crate) home: Home,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let upstream = Upstream::start().await;
        let receiver = Receiver::start(&[SECRET]).await;
        let home = Home::new(upstream.address);
        Self { upstream, receiver, home }
    }
}

/// Numbers that the kernel knows of a process.
pub(crate) fn proc(pid: u32, file: &str) -> String {
    std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file)).unwrap()
}
