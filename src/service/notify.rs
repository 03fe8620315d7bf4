//! `sd_notify(3)`: one datagram a message, to the socket that the service manager named.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;

/// Tells the service manager how the daemon is. A value, so that tests can listen to it.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<PathBuf>,
}

impl Notifier {
    /// To the service manager that started this process, if one did.
    #[must_use]
    pub fn from_env() -> Self {
        Self { socket: std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from) }
    }

    /// To the socket at `path`.
    #[must_use]
    pub fn to(path: impl Into<PathBuf>) -> Self {
        Self { socket: Some(path.into()) }
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// A registration can be accepted durably.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// What `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(status)]);
    }

    /// The settings are being read again; [`Notifier::ready`] ends it, also when they were bad.
    ///
    /// The time travels in the same datagram: systemd 253 and later end a reload without it by
    /// the start timeout, and older ones ignore it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the monotonic clock cannot be read"),
        }
    }

    /// The daemon drains and ends.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    }

    /// All goes well.
    pub fn alive(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(path) = &self.socket else { return };
        let mut message = String::new();
        for state in states {
            message.push_str(&state.to_string());
            message.push('\n');
        }
        if let Err(error) = deliver(path, message.as_bytes()) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

fn deliver(path: &std::path::Path, message: &[u8]) -> std::io::Result<()> {
    let address = match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(drop)
}

/// How often the service manager wants to hear that the daemon is alive (`WatchdogSec=`): a ping
/// is due every half of it.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(say: impl FnOnce(&Notifier)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        say(&Notifier::to(&path));
        let mut buffer = [0; 1024];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn readiness_and_status_travel_together() {
        assert_eq!(heard(|manager| manager.ready("2 tasks")), "READY=1\nSTATUS=2 tasks\n");
        assert_eq!(heard(Notifier::alive), "WATCHDOG=1\n");
        assert_eq!(heard(Notifier::stopping), "STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn a_reload_carries_the_monotonic_time_in_the_same_datagram() {
        let message = heard(Notifier::reloading);
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.trim_end().parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn an_abstract_socket_is_reached_too() {
        let name = format!("outcomed-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Notifier::to(format!("@{name}")).status("here");
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=here\n");
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        Notifier::default().ready("nobody hears this");
        assert!(!Notifier::default().is_heard());
    }
}
