//! For the commands that run until they are told to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Ends on SIGINT or SIGTERM. The signals are caught from this call on, not from the first poll:
/// one that comes in between would kill the process.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
