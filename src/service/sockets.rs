//! Sockets that the service manager opened for us: `sd_listen_fds(3)`.

use std::io;

use listenfd::ListenFd;

/// A listening socket, non-blocking.
#[derive(Debug)]
pub enum PassedListener {
    /// A TCP one.
    Tcp(std::net::TcpListener),
    /// A Unix stream one.
    Unix(std::os::unix::net::UnixListener),
}

/// A socket with the name its unit gave it (`FileDescriptorName=`).
#[derive(Debug)]
pub struct Passed {
    /// The name; `unknown` if it was given none.
    pub name: String,
    /// The socket.
    pub listener: PassedListener,
}

/// Why a passed socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// Neither a TCP nor a Unix stream listener.
    #[error(
        "socket {number} passed by the service manager is neither TCP nor Unix stream: {source}"
    )]
    Kind {
        /// Its place, from 0.
        number: usize,
        /// What was found.
        source: io::Error,
    },
    /// It would have blocked the runtime.
    #[error("a socket passed by the service manager cannot be made non-blocking: {0}")]
    Blocking(#[from] io::Error),
}

/// Takes the sockets meant for this process; none without socket activation.
///
/// Call it once, before other threads exist: it removes the variables that announced the sockets,
/// so that no child takes them for its own.
pub fn passed_sockets() -> Result<Vec<Passed>, PassedError> {
    // `listenfd` takes a missing LISTEN_PID for ours; `sd_listen_fds(3)` does not, and then the
    // descriptors belong to whatever our parent was.
    let pid = std::env::var("LISTEN_PID").ok();
    if pid.as_deref() != Some(std::process::id().to_string().as_str()) {
        return Ok(Vec::new());
    }
    let given = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut fds = ListenFd::from_env();
    let names = names_of(&given, fds.len());
    names.into_iter().enumerate().map(|(number, name)| take(&mut fds, number, name)).collect()
}

fn take(fds: &mut ListenFd, number: usize, name: String) -> Result<Passed, PassedError> {
    if let Ok(Some(tcp)) = fds.take_tcp_listener(number) {
        tcp.set_nonblocking(true)?;
        return Ok(Passed { name, listener: PassedListener::Tcp(tcp) });
    }
    match fds.take_unix_listener(number) {
        Ok(Some(unix)) => {
            unix.set_nonblocking(true)?;
            Ok(Passed { name, listener: PassedListener::Unix(unix) })
        }
        Ok(None) => Err(PassedError::Kind { number, source: io::ErrorKind::NotFound.into() }),
        Err(source) => Err(PassedError::Kind { number, source }),
    }
}

fn names_of(given: &str, count: usize) -> Vec<String> {
    let mut names: Vec<String> =
        given.split(':').filter(|_| !given.is_empty()).map(str::to_owned).collect();
    names.resize(count, "unknown".to_owned());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_has_a_name_even_if_none_was_given() {
        assert_eq!(names_of("api:ops", 2), ["api", "ops"]);
        assert_eq!(names_of("", 1), ["unknown"]);
        assert_eq!(names_of("api", 2), ["api", "unknown"]);
        assert!(names_of("", 0).is_empty());
    }

    #[test]
    fn nothing_is_taken_that_was_not_meant_for_this_process() {
        assert!(passed_sockets().unwrap().is_empty());
    }
}
