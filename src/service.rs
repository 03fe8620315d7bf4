//! What the daemon and its service manager tell each other: systemd's notifications, watchdog and
//! passed sockets. Without a service manager all of it does nothing.

pub mod notify;
pub mod sockets;
pub mod status;
pub mod watchdog;

pub use notify::Notifier;
pub use sockets::{Passed, PassedError, PassedListener, passed_sockets};
pub use watchdog::{Heartbeat, Watchdog};
