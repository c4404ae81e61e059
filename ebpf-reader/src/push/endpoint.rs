//! The address of a receiver, by the rules of the OTLP exporter specification.

use std::fmt;

use ::http::Uri;
use ::http::uri::{Authority, PathAndQuery, Scheme};

use super::config::{ConfigError, Protocol};

/// Path of profiles under an end point for all signals.
const HTTP_PATH: &str = "v1development/profiles";
/// The method of gRPC.
const GRPC_PATH: &str =
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// Where to connect to, and what to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host name or address, an IPv6 one without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) encrypted: bool,
    /// With host, port and path.
    pub(super) uri: Uri,
}

impl Endpoint {
    pub(super) fn new(
        protocol: Protocol,
        base: Option<&str>,
        exact: Option<&str>,
        insecure: bool,
    ) -> Result<Self, ConfigError> {
        let (text, is_exact) = match (exact, base) {
            (Some(exact), _) => (exact.to_owned(), true),
            (None, Some(base)) => (base.to_owned(), false),
            (None, None) => match protocol {
                Protocol::Grpc => ("http://localhost:4317".to_owned(), false),
                Protocol::HttpProtobuf => ("http://localhost:4318".to_owned(), false),
            },
        };
        let wrong = || ConfigError::Value {
            name: "the end point".to_owned(),
            // A URL with a password must not end up in a log.
            value: match text.contains('@') {
                true => "(a URL with a user)".to_owned(),
                false => text.clone(),
            },
            expected: "expected a URL like http://host:4318".to_owned(),
        };
        // gRPC's end points may leave the scheme away.
        let url = if protocol == Protocol::Grpc && !text.contains("://") {
            let scheme = if insecure { "http" } else { "https" };
            format!("{scheme}://{text}")
        } else {
            text.clone()
        };
        let parts = url.parse::<Uri>().map_err(|_| wrong())?.into_parts();
        let encrypted = match parts.scheme.as_ref().map(Scheme::as_str) {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = parts.authority.ok_or_else(wrong)?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let port = match (authority.port_u16(), encrypted) {
            (Some(port), _) => port,
            // Something is behind the host which is no port.
            (None, _) if authority.as_str() != host => return Err(wrong()),
            (None, true) => 443,
            (None, false) => 80,
        };
        let path = parts
            .path_and_query
            .as_ref()
            .map_or("/", PathAndQuery::path);
        let path = match (protocol, is_exact) {
            (Protocol::Grpc, _) => GRPC_PATH.to_owned(),
            (Protocol::HttpProtobuf, true) => parts
                .path_and_query
                .as_ref()
                .map_or("/", PathAndQuery::as_str)
                .to_owned(),
            (Protocol::HttpProtobuf, false) => {
                format!("{}/{HTTP_PATH}", path.trim_end_matches('/'))
            }
        };
        let uri = Uri::builder()
            .scheme(if encrypted {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            })
            .authority(
                format!("{host}:{port}")
                    .parse::<Authority>()
                    .map_err(|_| wrong())?,
            )
            .path_and_query(path)
            .build()
            .map_err(|_| wrong())?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            encrypted,
            uri,
        })
    }

    /// The `Host` header of HTTP/1.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", Authority::as_str)
    }

    /// The path and query.
    pub(super) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", PathAndQuery::as_str)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}
