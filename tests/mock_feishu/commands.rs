//! The commands, as processes.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use outcomed::mock_feishu::App;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kit::{LOGIN, credentials, request, sha256};
use super::receiver::{BODY, SECRET, send};

fn outcomed(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outcomed"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(args: &[&str]) -> Output {
    outcomed(args).output().expect("it runs")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

/// A running command; killed if the test fails first.
struct Running {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = outcomed(args).spawn().expect("it starts");
        let said = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, said }
    }

    /// The address in its first line.
    fn addr(&mut self) -> SocketAddr {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line");
        let url = line.split("http://").nth(1).expect("an address");
        url.trim().trim_end_matches('/').parse().expect("an address")
    }

    /// Sends a signal; returns the exit code and the rest of what it said.
    fn stop(&mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("UTF-8");
        (self.child.wait().expect("it ends").code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn mock_feishu_says_how_to_use_it_and_stops_on_sigterm() {
    let args = ["mock-feishu", "--listen", "127.0.0.1:0", "--seed", "1", "--tasks", "2"];
    let mut mock = Running::start(&args);
    let addr = mock.addr();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let login = request("POST", LOGIN, None, &credentials().to_string());
    stream.write_all(login.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.contains("\"tenant_access_token\":\"t-"), "{reply}");
    let (code, said) = mock.stop("-TERM");
    assert_eq!(code, Some(0));
    assert!(said.contains("tasks 2 · logins 1"), "{said}");
    let mut snippet = String::new();
    mock.child.stdout.take().unwrap().read_to_string(&mut snippet).unwrap();
    let config: toml::Table = snippet.parse().unwrap();
    let account = &config["accounts"][0];
    assert_eq!(account["app_id"].as_str(), Some(App::ID));
    assert_eq!(account["app_secret"].as_str(), Some(App::SECRET));
    assert_eq!(account["base_url"].as_str(), Some(format!("http://{addr}").as_str()));
    assert_eq!(snippet.matches("delivery_task_id ").count(), 2, "{snippet}");
}

#[tokio::test]
async fn listen_prints_a_line_per_callback_and_exits_0_on_sigint() {
    let mut listen = Running::start(&["listen", "--secret", SECRET, "--listen", "127.0.0.1:0"]);
    let addr = listen.addr();
    let mut lines = BufReader::new(listen.child.stdout.take().unwrap()).lines();
    send(addr, "msg_1", BODY, BODY).await;
    let line = lines.next().unwrap().unwrap();
    for part in ["failed", "f1c2a0f138ec492d99d7ab73594158ad", "duplicate of 69", "verified ✓"] {
        assert!(line.contains(part), "{line}");
    }
    send(addr, "msg_1", BODY, BODY).await;
    assert!(lines.next().unwrap().unwrap().contains("repeat"));
    let answer = send(addr, "msg_1", BODY, "{}").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(lines.next().unwrap().unwrap().contains("INVALID: no signature fits"));
    assert_eq!(listen.stop("-INT").0, Some(0));
    assert!(lines.next().is_none(), "nothing else goes to standard output");
}

#[tokio::test]
async fn listen_can_speak_json() {
    let args = ["listen", "--secret", SECRET, "--listen", "127.0.0.1:0", "--json"];
    let mut listen = Running::start(&args);
    let addr = listen.addr();
    let mut lines = BufReader::new(listen.child.stdout.take().unwrap()).lines();
    send(addr, "msg_1", BODY, BODY).await;
    let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!((&line["outcome"], &line["verified"]), (&"failed".into(), &true.into()));
    assert_eq!(line["body"]["data"]["registration_id"], "reg_1");
}

#[test]
fn shares_of_more_than_100_percent_are_a_usage_error() {
    let refused = output(&["mock-feishu", "--fail", "60%", "--duplicate", "50%"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_secret_that_cannot_work_is_a_usage_error() {
    let refused = output(&["listen", "--secret", "hunter2"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("must start with `whsec_`"), "{said}");
}

#[test]
fn a_token_comes_with_the_hash_to_configure() {
    let plain = output(&["new-token"]);
    let token = stdout(&plain).trim();
    let random = URL_SAFE_NO_PAD.decode(token.strip_prefix("oct_").unwrap()).unwrap();
    assert_eq!(random.len(), 32);
    let hash = sha256(token.as_bytes());
    let advice = String::from_utf8_lossy(&plain.stderr);
    assert!(advice.contains(&format!("token_sha256 = \"{hash}\"")), "{advice}");
    let json: Value = serde_json::from_slice(&output(&["new-token", "--json"]).stdout).unwrap();
    let token_again = json["token"].as_str().unwrap();
    assert_eq!(json["token_sha256"], sha256(token_again.as_bytes()));
    assert_ne!(token_again, token);
}

#[test]
fn a_new_secret_is_32_fresh_bytes() {
    let secrets = [output(&["new-secret"]), output(&["new-secret"])];
    let random = |output: &Output| {
        STANDARD.decode(stdout(output).trim().strip_prefix("whsec_").unwrap()).unwrap()
    };
    assert_eq!(random(&secrets[0]).len(), 32);
    assert_ne!(random(&secrets[0]), random(&secrets[1]));
}

#[test]
fn completions_and_the_manual_cover_every_command() {
    let manual = output(&["man"]);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output(&["completions", shell]);
        assert!(stdout(&script).contains("mock-feishu"), "{shell}");
    }
    assert!(stdout(&manual).contains(".TH outcomed 1"));
    assert!(stdout(&manual).contains("OUTCOMED NEW-SECRET"));
    assert_eq!(output(&["completions", "cmd"]).status.code(), Some(2));
}
