//! Listeners: TCP, a unix socket, or what systemd passed; and the streams they accept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Listen;

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// The socket file we made, and remove again.
    made: Option<PathBuf>,
}

/// How to reach a listener of ours.
#[derive(Clone, Debug)]
pub enum Door {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a unix socket.
    Unix(PathBuf),
}

const LOCALHOST_4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOCALHOST_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

impl Door {
    /// Returns once a request has been answered; never, if none is. That every place is taken, or
    /// that the connection is closed unanswered, is an answer: somebody accepts.
    pub async fn answered(&self) {
        let asked = match self {
            Self::Tcp(address) => ask(TcpStream::connect(address).await).await,
            Self::Unix(path) => ask(UnixStream::connect(path).await).await,
        };
        if asked.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn ask(stream: io::Result<impl AsyncRead + AsyncWrite + Unpin>) -> io::Result<()> {
    let mut stream = stream?;
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    // A reset is an answer, too.
    if stream.write_all(request).await.is_ok() {
        let _ = stream.read(&mut [0; 16]).await;
    }
    Ok(())
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds the configured address. A unix socket's file is replaced only if it is a socket that
    /// nobody answers on: what a killed daemon leaves behind.
    pub async fn bind(address: &Listen) -> io::Result<Self> {
        match address {
            Listen::Tcp(address) => {
                let socket = Socket::Tcp(TcpListener::bind(address).await?);
                Ok(Self { socket, made: None })
            }
            Listen::Unix(path) => {
                remove_stale(path).await?;
                let socket = Socket::Unix(UnixListener::bind(path)?);
                Ok(Self { socket, made: Some(path.clone()) })
            }
        }
    }

    /// A TCP listener that systemd passed.
    pub fn from_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { socket: Socket::Tcp(TcpListener::from_std(listener)?), made: None })
    }

    /// A unix listener that systemd passed; its file is systemd's to remove.
    pub fn from_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { socket: Socket::Unix(UnixListener::from_std(listener)?), made: None })
    }

    /// Where it listens, as a person would write it: `http://127.0.0.1:8474` or `unix:/path`.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.socket {
            Socket::Tcp(tcp) => tcp
                .local_addr()
                .map_or_else(|_| "http://unknown".into(), |address| format!("http://{address}")),
            Socket::Unix(unix) => {
                let address = unix.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                format!("unix:{}", path.unwrap_or(Path::new("(unnamed)")).display())
            }
        }
    }

    /// Where this process itself can ask it something.
    #[must_use]
    pub fn door(&self) -> Option<Door> {
        match &self.socket {
            Socket::Tcp(tcp) => {
                let mut address = tcp.local_addr().ok()?;
                match address.ip() {
                    IpAddr::V4(any) if any.is_unspecified() => address.set_ip(LOCALHOST_4),
                    IpAddr::V6(any) if any.is_unspecified() => address.set_ip(LOCALHOST_6),
                    _ => {}
                }
                Some(Door::Tcp(address))
            }
            Socket::Unix(unix) => {
                let address = unix.local_addr().ok()?;
                address.as_pathname().map(|path| Door::Unix(path.to_owned()))
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(tcp) => {
                let (stream, _) = tcp.accept().await?;
                // Answers are small and whole: waiting to fill a segment only delays them.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            Socket::Unix(unix) => Ok(Stream::Unix(unix.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    let taken = |what: &str| {
        let text = format!("{}: {what}", path.display());
        Err(io::Error::new(io::ErrorKind::AddrInUse, text))
    };
    match tokio::fs::symlink_metadata(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return taken("exists and is not a socket; remove it or listen elsewhere");
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tokio::fs::remove_file(path).await
        }
        Err(error) => Err(error),
        Ok(_) => taken("another process answers on this socket; stop it or listen elsewhere"),
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// The address at the other end; `None` on a unix socket.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        match self {
            // One that has gone away again has none: it costs nobody anything.
            Self::Tcp(stream) => {
                Some(stream.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |it| it.ip()))
            }
            Self::Unix(_) => None,
        }
    }
}

macro_rules! either {
    ($stream:expr, $pinned:ident => $call:expr) => {
        match $stream.get_mut() {
            Self::Tcp(stream) => {
                let $pinned = Pin::new(stream);
                $call
            }
            Self::Unix(stream) => {
                let $pinned = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn answers(door: &Door) -> bool {
        tokio::time::timeout(Duration::from_millis(300), door.answered()).await.is_ok()
    }

    #[tokio::test]
    async fn a_listener_that_nobody_accepts_on_is_silent_and_any_answer_is_life() {
        let directory = tempfile::tempdir().unwrap();
        let unix = Listen::Unix(directory.path().join("api.sock"));
        for address in [Listen::Tcp("0.0.0.0:0".parse().unwrap()), unix] {
            let listener = Listener::bind(&address).await.unwrap();
            let door = listener.door().unwrap();
            assert!(!answers(&door).await, "{door:?}: the kernel's queue is no life");
            let accepting = async {
                loop {
                    drop(listener.accept().await.unwrap());
                }
            };
            tokio::select! {
                () = accepting => {}
                alive = answers(&door) => assert!(alive, "{door:?}"),
            }
            drop(listener);
            assert!(!answers(&door).await, "{door:?}: nobody is there");
        }
    }
}
