//! `outcomed serve` as a process of its own, that can be killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outcomed::mock_feishu::App;

pub(crate) const TOKEN: &str = "oct_bench_0123456789abcdef0123456789abcdef";
pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A running daemon; killed when the run is over.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) api: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    /// Starts it in that directory and waits until it is ready.
    pub(crate) fn start(program: &Path, directory: &Path) -> Self {
        let mut child = Command::new(program)
            .args(["serve", "--config"])
            .arg(directory.join("config.toml"))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let ready = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line).ok()?;
            line["fields"]["listen"].as_str().map(str::to_owned)
        });
        let api = ready.expect("the daemon says where it listens");
        // Somebody must read the rest, or the daemon waits for the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, api }
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

/// Writes the configuration into a fresh directory, and returns that.
pub(crate) fn home(base_url: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("outcomed-realtime-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a directory for the store");
    let text = format!(
        r#"
[http]
listen = "127.0.0.1:0"
[store]
url = "sqlite:outcomed.db"
[[accounts]]
name = "default"
app_id = "{id}"
app_secret = "{secret}"
base_url = "{base_url}"
[[clients]]
name = "bench"
role = "operator"
token = "{TOKEN}"
signing_secrets = ["{SECRET}"]
callback_allow = ["127.0.0.0/8"]
[log]
format = "json"
"#,
        id = App::ID,
        secret = App::SECRET,
    );
    let path = directory.join("config.toml");
    std::fs::write(&path, text).expect("the configuration can be written");
    set_private(&path);
    directory
}

/// A file with secrets must be its owner's alone, or the daemon refuses it.
fn set_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let only_ours = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, only_ours).expect("permissions can be set");
}

/// How long the last task may take to be told, after the last registration.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
