//! A machine with a real systemd, the units as shipped and the binary under test.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that is waited for here; a whole cycle takes about a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// The token of the client that the configuration names.
pub(crate) const TOKEN: &str = "oct_test_0123456789abcdef0123456789abcdef";
/// Its signing secret.
pub(crate) const WHSEC: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Nothing listens at the account's address, so a registration stays `watching`.
pub(crate) const CONFIG: &str = r#"
[http]
listen = "127.0.0.1:8474"
[[accounts]]
name = "default"
kind = "internal"
app_id = "cli_test"
app_secret = "credential:feishu-app-secret"
base_url = "http://127.0.0.1:9"
[[clients]]
name = "ats"
role = "client"
token = "credential:ats-token"
signing_secrets = ["credential:ats-whsec"]
callback_allow = ["127.0.0.0/8"]
"#;

/// The account's app, as the configuration names it.
pub(crate) const APP_ID: &str = "cli_test";
/// Its secret.
pub(crate) const APP_SECRET: &str = "s3cret-of-the-test-app";

pub(crate) struct Machine {
    keeper: Child,
    root: PathBuf,
    leader: String,
}

impl Machine {
    /// Boots it, with the configuration above and its secrets in place.
    pub(crate) fn boot() -> Self {
        for tool in ["systemd-nspawn", "nsenter", "pgrep"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
            assert!(
                found.is_ok_and(|found| found.status.success()),
                "{tool} is missing: run `make test` as root, which installs what the tests need",
            );
        }
        let repository = env!("CARGO_MANIFEST_DIR");
        let mut keeper = Command::new(format!("{repository}/tests/systemd/machine.sh"))
            .args([env!("CARGO_BIN_EXE_outcomed"), repository])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script that boots the machine starts");
        let mut said = BufReader::new(keeper.stdout.take().unwrap()).lines();
        let mut next = |word: &str| match said.next() {
            Some(Ok(line)) => line.strip_prefix(word).expect(word).to_owned(),
            other => panic!("the machine did not come up (root is needed): {other:?}"),
        };
        let (root, leader) = (PathBuf::from(next("root ")), next("leader "));
        let machine = Self { keeper, root, leader };
        machine.write("/etc/outcomed/config.toml", CONFIG);
        for (name, secret) in
            [("feishu-app-secret", APP_SECRET), ("ats-token", TOKEN), ("ats-whsec", WHSEC)]
        {
            machine.write(&format!("/etc/outcomed/credentials/{name}"), secret);
            machine.run(&["chmod", "600", &format!("/etc/outcomed/credentials/{name}")]);
        }
        machine
    }

    /// Writes a file on the machine.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Adds a drop-in to the service.
    pub(crate) fn drop_in(&self, text: &str) {
        self.write("/etc/systemd/system/outcomed.service.d/test.conf", text);
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// Runs a command on the machine, whatever comes of it.
    pub(crate) fn try_run(&self, command: &[&str]) -> Output {
        let mut whole = vec!["-t", &self.leader, "-a"];
        whole.extend(command);
        Command::new("nsenter").args(whole).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command on the machine; it must succeed. Returns what it printed.
    pub(crate) fn run(&self, command: &[&str]) -> String {
        let output = self.try_run(command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{command:?}: {text}{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.journal(&[]),
        );
        text
    }

    /// Starts the service; returns once it has said that it is ready.
    pub(crate) fn start(&self) {
        self.run(&["systemctl", "start", "outcomed.service"]);
    }

    /// A property of the service, e.g. `ActiveState`.
    pub(crate) fn show(&self, property: &str) -> String {
        let output = self.run(&["systemctl", "show", "-P", property, "outcomed.service"]);
        output.trim().to_owned()
    }

    /// The service's journal, as it is printed without decoration.
    pub(crate) fn journal(&self, more: &[&str]) -> String {
        let mut command = vec!["journalctl", "-u", "outcomed.service", "-o", "cat", "--no-pager"];
        command.extend(more);
        String::from_utf8_lossy(&self.try_run(&command).stdout).into_owned()
    }

    /// Waits until `so`.
    pub(crate) fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        #[expect(clippy::disallowed_methods, reason = "a real machine is waited for in real time")]
        let begun = Instant::now();
        while !so() {
            assert!(begun.elapsed() < PATIENCE, "not {what} in time:\n{}", self.journal(&[]));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One API call from the machine itself: the status and the body. Status 0: no reply.
    pub(crate) fn call(&self, port: u16, line: &str, token: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer \
             {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let script =
            format!("exec 3<>/dev/tcp/127.0.0.1/{port} && printf %s \"$1\" >&3 && cat <&3");
        let output = self.try_run(&["timeout", "20", "bash", "-c", &script, "call", &request]);
        let reply = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// The status of `/readyz`.
    pub(crate) fn readyz(&self) -> u16 {
        self.call(8474, "GET /readyz", "", "").0
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
