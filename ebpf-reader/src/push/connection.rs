//! A connection to a receiver: TCP, perhaps TLS over it, and HTTP/1 or HTTP/2 over that.

use ::http::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::config::Protocol;
use super::endpoint::Endpoint;
use super::exchange::{Answer, RequestBody, chain};

/// Connects to the first address that answers.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let address = (endpoint.host.as_str(), endpoint.port);
    let stream = TcpStream::connect(address).await.map_err(|error| {
        chain(
            &format!("cannot connect to {}", endpoint.authority()),
            &error,
        )
    })?;
    // Requests are written in one piece; if it cannot be set they are a little later.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// A connection on which requests are sent, one after the other.
#[derive(Debug)]
pub(super) enum Connection {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

impl Connection {
    /// Starts to speak HTTP/1 for HTTP and HTTP/2 for gRPC.
    pub(super) async fn over<S>(stream: S, protocol: Protocol) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
        let failed = |error: hyper::Error| chain("cannot start to speak HTTP", &error);
        match protocol {
            Protocol::HttpProtobuf => {
                let (sender, connection) = http1::handshake(stream).await.map_err(failed)?;
                // It ends with the sender; its errors are those of the requests.
                tokio::spawn(connection);
                Ok(Self::Http1(sender))
            }
            Protocol::Grpc => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .handshake(stream)
                    .await
                    .map_err(failed)?;
                tokio::spawn(connection);
                Ok(Self::Http2(sender))
            }
        }
    }

    /// Whether the other side has not closed it yet, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Http1(sender) => !sender.is_closed(),
            Self::Http2(sender) => !sender.is_closed(),
        }
    }

    /// Sends a request and reads the answer.
    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Result<Answer, String> {
        let failed = |error: hyper::Error| chain("the request failed", &error);
        let response = match self {
            Self::Http1(sender) => {
                sender.ready().await.map_err(failed)?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await.map_err(failed)?;
                sender.send_request(request).await
            }
        };
        Answer::read(response.map_err(failed)?).await
    }
}
