//! Where to listen: an address and port, or a Unix socket; and accepting connections, not too many at a time.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::MAX_CONNECTIONS;
use super::patience::Patient;
use crate::error::Error;
use crate::serve::health::Health;

/// The port unless told otherwise.
const DEFAULT_PORT: u16 = 7171;
/// A client has this long for the head of a request, and for the next request on the same connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// Pause after connections could not be accepted, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listen {
    /// An address and port; port 0: any that is free.
    Tcp(SocketAddr),
    /// A Unix socket, for the user that runs the program alone.
    Unix(PathBuf),
}

impl Default for Listen {
    fn default() -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, DEFAULT_PORT).into())
    }
}

/// The text is no address to listen at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected ADDRESS:PORT, as in 127.0.0.1:7171 or [::1]:7171, or unix:/PATH")]
pub struct ParseListenError;

impl FromStr for Listen {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(ParseListenError),
            None => text.parse().map(Self::Tcp).map_err(|_| ParseListenError),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An open socket.
pub(super) struct Listener {
    socket: Socket,
    address: String,
}

enum Socket {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[allow(dead_code, reason = "for what it does when dropped")] Remove,
    ),
}

/// Takes the socket's file away at the end.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        // If somebody else did, so much the better.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    pub(super) fn bind(listen: &Listen) -> Result<Self, Error> {
        let failed = |error| Error::io(format!("listen at {listen}"), error);
        match listen {
            Listen::Tcp(address) => {
                let socket = std::net::TcpListener::bind(address).map_err(failed)?;
                socket.set_nonblocking(true).map_err(failed)?;
                let address = socket.local_addr().map_err(failed)?;
                Ok(Self {
                    socket: Socket::Tcp(TcpListener::from_std(socket).map_err(failed)?),
                    address: format!("http://{address}"),
                })
            }
            Listen::Unix(path) => {
                remove_stale(path).map_err(failed)?;
                // Nobody else may connect, from the first moment on.
                let before = umask(Mode::from_raw_mode(0o177));
                let bound = UnixListener::bind(path);
                umask(before);
                Ok(Self {
                    socket: Socket::Unix(bound.map_err(failed)?, Remove(path.clone())),
                    address: format!("unix:{}", path.display()),
                })
            }
        }
    }

    /// A URL or `unix:` and a path.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Accepts connections for ever.
    pub(super) async fn serve(&self, router: Router, health: &Health) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = match &self.socket {
                Socket::Tcp(socket) => socket
                    .accept()
                    .await
                    .map(|(stream, _)| spawn(stream, &router, &room)),
                Socket::Unix(socket, _) => socket
                    .accept()
                    .await
                    .map(|(stream, _)| spawn(stream, &router, &room)),
            };
            match accepted {
                Ok(true) => {}
                Ok(false) => {
                    health.refused_requests.fetch_add(1, Ordering::Relaxed);
                }
                // Clients that are gone already, or too many open files: neither is for ever.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// Answers the requests of a connection, if there is room for it.
fn spawn<S>(stream: S, router: &Router, room: &Arc<Semaphore>) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
        return false;
    };
    tokio::spawn(connection(stream, router.clone(), permit));
    true
}

async fn connection<S>(stream: S, router: Router, _permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // What goes wrong on a connection is the client's affair.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(
            TokioIo::new(Patient::new(stream)),
            TowerToHyperService::new(router),
        )
        .await;
}

/// Removes a socket that nobody listens at any more: its program has not ended in order.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket",
        ));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another program listens there",
        )),
        Err(_) => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(Listen::default().to_string(), "127.0.0.1:7171");
        for text in [
            "127.0.0.1:0",
            "[::1]:7171",
            "0.0.0.0:80",
            "unix:/run/x.sock",
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for text in ["", "7171", "localhost:7171", "127.0.0.1", "unix:x", "unix:"] {
            assert_eq!(text.parse::<Listen>(), Err(ParseListenError), "{text}");
        }
    }
}
