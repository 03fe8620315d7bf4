//! The service manager hears READY when a registration can be accepted, and not before.

use std::cell::RefCell;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::{Home, OPS, Stage, until};

/// What the service manager would hear.
struct Manager(UnixDatagram);

impl Manager {
    /// It starts the daemon from now on.
    fn of(home: &mut Home) -> Self {
        let path: PathBuf = home.path("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let told = format!("NOTIFY_SOCKET={}", path.display());
        home.started_by = vec!["env".into(), told];
        Self(socket)
    }

    /// Everything it has heard since the last time.
    fn heard(&self) -> String {
        let mut heard = String::new();
        let mut buffer = [0; 4_096];
        while let Ok(length) = self.0.recv(&mut buffer) {
            heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        heard
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_said_once_a_registration_can_be_accepted() {
    let mut stage = Stage::new().await;
    let manager = Manager::of(&mut stage.home);
    let daemon = stage.home.start().await;
    let ready = async || manager.heard().contains("READY=1\n").then_some(());
    until("READY", ready, || daemon.log()).await;
    assert_eq!(daemon.call("GET", "/readyz", OPS, None).await.status, 200);
    daemon.signal("TERM");
    let stopping = async || manager.heard().contains("STOPPING=1\n").then_some(());
    until("STOPPING", stopping, || daemon.log()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_not_said_where_the_address_is_taken() {
    let mut stage = Stage::new().await;
    let manager = Manager::of(&mut stage.home);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stage.home.listen = taken.local_addr().unwrap().to_string();
    let (log, status) = stage.home.fail_to_start().await;
    assert!(!status.success() && log.contains("cannot listen"), "{log}");
    assert_eq!(manager.heard(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_not_said_where_the_store_cannot_be_opened() {
    let mut stage = Stage::new().await;
    let manager = Manager::of(&mut stage.home);
    let theirs = rusqlite::Connection::open(&stage.home.store).unwrap();
    theirs.execute_batch("CREATE TABLE theirs (a)").unwrap();
    let (log, status) = stage.home.fail_to_start().await;
    assert!(!status.success() && log.contains("another program"), "{log}");
    assert_eq!(manager.heard(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_not_said_while_the_database_is_away() {
    let mut stage = Stage::new().await;
    let manager = Manager::of(&mut stage.home);
    stage.home.store_url = Some("postgres://nobody@127.0.0.1:9/none".into());
    let starting = tokio::time::timeout(Duration::from_secs(2), stage.home.start()).await;
    assert!(starting.is_err(), "there is no database");
    assert_eq!(manager.heard(), "");
}

/// systemd ends a reload that is not said to be over.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_a_bad_file_is_said_to_be_over_too() {
    let mut stage = Stage::new().await;
    let manager = Manager::of(&mut stage.home);
    let daemon = stage.home.start().await;
    for (polling, over) in [("hurry = \"very\"", "nothing is changed"), ("", "reloaded")] {
        stage.home.polling = polling.into();
        stage.home.write_config();
        let (_, heard) = (manager.heard(), RefCell::new(String::new()));
        daemon.forget_log();
        daemon.signal("HUP");
        daemon.logged(over).await;
        let told = async || {
            let mut heard = heard.borrow_mut();
            heard.push_str(&manager.heard());
            let (_, after) = heard.split_once("RELOADING=1\n")?;
            after.contains("READY=1\n").then_some(())
        };
        until("RELOADING, then READY", told, || daemon.log()).await;
    }
}
