//! A real Postgres for a test binary: one cluster, a direct child, gone when the binary is.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// How long a cluster may take to be made, or to accept connections: crash recovery included.
const READY_MAX: Duration = Duration::from_secs(60);

/// The last words of the test binary, whichever way it ends, are the end of this shell's input: it
/// then stops Postgres and removes everything. So nothing is left behind even by `kill -9`.
const SUPERVISOR: &str = r#"
    trap '' INT TERM HUP
    "$@" </dev/null >>"$LOG" 2>&1 &
    server=$!
    echo "$server"
    cat >/dev/null
    kill -QUIT "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    [ -z "$REMOVE" ] || rm -rf "$REMOVE"
"#;

/// A cluster of its own.
pub struct Cluster {
    directory: PathBuf,
    pub port: u16,
    server: Mutex<Option<Server>>,
    databases: AtomicU32,
    /// Where it listens besides loopback.
    also: Mutex<Option<String>>,
}

struct Server {
    supervisor: Child,
    /// Closing it ends the server.
    input: Option<ChildStdin>,
    /// The server's process id.
    id: u32,
}

/// The test binary's cluster, started by whoever asks first.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

impl Cluster {
    /// Makes and starts one.
    pub fn start() -> Self {
        let directory = directory();
        let data = directory.join("data");
        let made = as_nobody(&program("initdb"))
            .args(["-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8", "-D"])
            .arg(&data)
            .current_dir("/")
            .output()
            .expect("initdb can be started");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (server, databases, also) = (Mutex::new(None), AtomicU32::new(0), Mutex::new(None));
        let cluster = Self { directory, port, server, databases, also };
        cluster.restart();
        cluster
    }

    /// Starts the server, or starts it again.
    pub fn restart(&self) {
        let mut server = self.server.lock().unwrap();
        if let Some(old) = server.as_mut() {
            old.end();
        }
        *server = Some(self.serve());
        drop(server);
        let probe = || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        let ready = || {
            Command::new(program("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .is_ok_and(|status| status.success())
        };
        let tries = READY_MAX.as_millis() / 20;
        for _ in 0..tries {
            if probe() && ready() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        panic!("Postgres did not start:\n{log}");
    }

    /// Listens at this address too, from now on, for this network, without passwords.
    pub fn open_to(&self, address: &str, network: &str) {
        let hba = self.directory.join("data/pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).unwrap();
        std::fs::write(hba, format!("{rules}\nhost all all {network} trust\n")).unwrap();
        *self.also.lock().unwrap() = Some(address.to_owned());
        self.kill();
        self.restart();
    }

    /// Kills every process of the server, as a crash of the machine would.
    pub fn kill(&self) {
        let mut server = self.server.lock().unwrap();
        let server = server.as_mut().expect("it is running");
        let postmaster = std::fs::read_to_string(self.directory.join("data/postmaster.pid"))
            .expect("it is running");
        let id = postmaster.lines().next().unwrap();
        assert_eq!(id, server.id.to_string());
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let all: Vec<&str> = std::iter::once(id).chain(children.split_whitespace()).collect();
        // Some may have ended by themselves a moment ago.
        let _ = Command::new("kill").arg("-9").args(&all).stderr(Stdio::null()).status();
        while all.iter().any(|id| runs(id)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.end();
        // What a machine that crashed would not have either.
        let _ = std::fs::remove_file(self.directory.join("data/postmaster.pid"));
    }

    /// Makes an empty database and returns its URL.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// The same database by the Unix socket.
    pub fn by_socket(&self, url: &str) -> String {
        let name = url.rsplit('/').next().unwrap();
        let socket = self.directory.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{socket}:{}/{name}", self.port)
    }

    /// What the server has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap()
    }

    /// Writes a file that only the server may read, and returns its path.
    pub fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.directory.join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if root() {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        path
    }

    /// Runs SQL and returns what it prints, unadorned.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let done = Command::new(program("psql"))
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", database])
            .args(["-v", "ON_ERROR_STOP=1", "-XAtqc", sql])
            .output()
            .unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn serve(&self) -> Server {
        let also = self.also.lock().unwrap().as_ref().map(|it| format!(",{it}"));
        let listen = format!("listen_addresses=127.0.0.1{}", also.unwrap_or_default());
        let mut supervisor = as_nobody(Path::new("sh"));
        supervisor
            .args(["-c", SUPERVISOR, "postgres"])
            .arg(program("postgres"))
            .arg("-D")
            .arg(self.directory.join("data"))
            .arg("-k")
            .arg(&self.directory)
            .args(["-p", &self.port.to_string(), "-c", &listen])
            .args(["-c", "max_connections=300", "-c", "max_prepared_transactions=0"])
            .args(["-c", "shared_preload_libraries=pg_stat_statements"])
            .env("LOG", self.directory.join("log"))
            .env("REMOVE", &self.directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut supervisor = supervisor.spawn().expect("a shell can be started");
        let input = supervisor.stdin.take();
        let mut output = supervisor.stdout.take().unwrap();
        let mut told = Vec::new();
        let mut byte = [0];
        while output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            told.push(byte[0]);
        }
        let id = String::from_utf8(told).unwrap().trim().parse().expect("the server's process id");
        Server { supervisor, input, id }
    }
}

impl Server {
    fn end(&mut self) {
        // Keeps the files: the shell is killed before its input ends.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        if let Some(mut input) = self.input.take() {
            let _ = input.flush();
        }
    }
}

/// Whether a process runs: a zombie does not.
fn runs(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// A fresh directory that the server's user may write, in memory where there is room for it; a
/// bench that wants a disk below it names one in `OUTCOMED_POSTGRES_BELOW`.
fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let memory = Path::new("/dev/shm");
    let usual = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let parent = std::env::var_os("OUTCOMED_POSTGRES_BELOW").map_or(usual, PathBuf::from);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = parent.join(format!("outcomed-pg-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    if root() {
        std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    directory
}

const NOBODY: u32 = 65534;

/// Postgres refuses to run as root.
fn as_nobody(program: &Path) -> Command {
    if !root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

fn root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|us| us.uid() == 0)
}

/// One of Postgres' programs: on the PATH, or where Debian keeps them, the newest first.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    found.sort_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).and_then(|v| v.to_str());
        std::cmp::Reverse(version.and_then(|v| v.parse::<u32>().ok()))
    });
    found.extend(std::env::split_paths(&path));
    found
        .into_iter()
        .map(|bin| bin.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("there is no Postgres here ({name}): run `make test`"))
}
