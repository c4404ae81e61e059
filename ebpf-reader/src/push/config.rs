//! Where to push to and how: setters, and the standard variables `OTEL_EXPORTER_OTLP_...`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::endpoint::Endpoint;

/// Time for one attempt unless told otherwise, as the specification says.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the queue unless told otherwise.
const DEFAULT_QUEUE_BYTES: usize = 16 << 20;
/// Prefix of the variables that hold for all signals, and of those for profiles.
const PREFIXES: [&str; 2] = ["OTEL_EXPORTER_OTLP_PROFILES_", "OTEL_EXPORTER_OTLP_"];

/// How messages travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// Protobuf in the body of a POST request.
    #[default]
    HttpProtobuf,
}

/// How messages are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip, which every OTLP receiver understands. Profiles shrink to a quarter.
    #[default]
    Gzip,
}

/// What is wrong with a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A variable or an argument cannot be understood.
    #[error("{name} cannot be {value:?}: {expected}")]
    Value {
        /// The variable or setting.
        name: String,
        /// What it says.
        value: String,
        /// What it should say.
        expected: String,
    },
    /// A header cannot be sent. Its value may be a secret and is not shown.
    #[error("header {name:?} in {source_name} cannot be sent: {expected}")]
    Header {
        /// Name of the header.
        name: String,
        /// Where it comes from.
        source_name: String,
        /// What it should be.
        expected: String,
    },
    /// A file with certificates or a key cannot be used.
    #[error("cannot use {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The end point needs what this program was built without.
    #[error(
        "cannot push to {endpoint}: this program was built without the feature `tls`; use http://"
    )]
    NoTls {
        /// The end point.
        endpoint: String,
    },
    /// The thread that pushes could not be started.
    #[error("cannot start the thread that pushes: {reason}")]
    Thread {
        /// Why.
        reason: String,
    },
}

/// Where to push to and how.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    protocol: Protocol,
    /// For all signals: over HTTP a path is appended to it.
    base: Option<String>,
    /// For profiles: taken as it is.
    exact: Option<String>,
    insecure: bool,
    headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) compression: Compression,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(super) queue_bytes: usize,
    pub(super) first_pause: Duration,
    pub(super) last_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            base: None,
            exact: None,
            insecure: false,
            headers: HeaderMap::new(),
            timeout: DEFAULT_TIMEOUT,
            compression: Compression::default(),
            ca_file: None,
            client_certificate: None,
            queue_bytes: DEFAULT_QUEUE_BYTES,
            first_pause: Duration::from_secs(1),
            last_pause: Duration::from_secs(60),
        }
    }
}

/// Values of headers are secrets: only their names are shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("Config")
            .field("protocol", &self.protocol)
            .field("base", &self.base)
            .field("exact", &self.exact)
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("ca_file", &self.ca_file)
            .field("client_certificate", &self.client_certificate)
            .field("queue_bytes", &self.queue_bytes)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// To `http://localhost:4318`, over HTTP.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the environment says: `OTEL_EXPORTER_OTLP_ENDPOINT`, `_PROTOCOL`, `_HEADERS`, `_TIMEOUT` (milliseconds),
    /// `_COMPRESSION`, `_CERTIFICATE`, `_CLIENT_CERTIFICATE`, `_CLIENT_KEY` and `_INSECURE`, each also as
    /// `OTEL_EXPORTER_OTLP_PROFILES_...`, which comes first.
    ///
    /// # Errors
    /// If a variable cannot be understood.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Whether the environment names an end point to push profiles to.
    pub fn is_in_env() -> bool {
        PREFIXES.iter().any(|prefix| {
            std::env::var(format!("{prefix}ENDPOINT")).is_ok_and(|value| !value.trim().is_empty())
        })
    }

    pub(super) fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        // An empty variable counts as one that is not set.
        let get = |name: String| {
            variable(&name)
                .filter(|value| !value.trim().is_empty())
                .map(|value| (name, value.trim().to_owned()))
        };
        let find = |suffix: &str| {
            PREFIXES
                .iter()
                .find_map(|prefix| get(format!("{prefix}{suffix}")))
        };
        let wrong = |(name, value): (String, String), expected: &str| ConfigError::Value {
            name,
            value,
            expected: expected.to_owned(),
        };
        let mut config = Self::new();
        if let Some(set) = find("PROTOCOL") {
            config.protocol = match set.1.as_str() {
                "grpc" => Protocol::Grpc,
                "http/protobuf" => Protocol::HttpProtobuf,
                _ => return Err(wrong(set, "expected grpc or http/protobuf")),
            };
        }
        config.exact = get(format!("{}ENDPOINT", PREFIXES[0])).map(|(_, value)| value);
        config.base = get(format!("{}ENDPOINT", PREFIXES[1])).map(|(_, value)| value);
        if let Some((name, value)) = find("HEADERS") {
            config.add_header_list(&name, &value)?;
        }
        if let Some(set) = find("TIMEOUT") {
            config.timeout = match set.1.parse() {
                Ok(milliseconds @ 1..=3_600_000) => Duration::from_millis(milliseconds),
                _ => return Err(wrong(set, "expected milliseconds, at most an hour")),
            };
        }
        if let Some(set) = find("COMPRESSION") {
            config.compression = match set.1.as_str() {
                "gzip" => Compression::Gzip,
                "none" => Compression::None,
                _ => return Err(wrong(set, "expected gzip or none")),
            };
        }
        if let Some(set) = find("INSECURE") {
            // The specification: everything but `true` is false.
            config.insecure = set.1.eq_ignore_ascii_case("true");
        }
        config.ca_file = find("CERTIFICATE").map(|(_, path)| path.into());
        let key = find("CLIENT_KEY").map(|(_, path)| path.into());
        let certificate = find("CLIENT_CERTIFICATE").map(|(_, path)| path.into());
        config.client_certificate = certificate.zip(key);
        Ok(config)
    }

    /// The end point, as `http://host:port` or `https://host:port`. Over HTTP, `/v1development/profiles` is appended
    /// to its path.
    #[must_use]
    pub fn endpoint(mut self, base: impl Into<String>) -> Self {
        self.base = Some(base.into());
        self.exact = None;
        self
    }

    /// The whole URL to send profiles to over HTTP, with its path.
    #[must_use]
    pub fn profiles_endpoint(mut self, url: impl Into<String>) -> Self {
        self.exact = Some(url.into());
        self
    }

    /// How messages travel.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// How messages are compressed.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Adds a header, or metadata over gRPC; replaces one of this name.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, ConfigError> {
        self.add_header("the arguments", name, value)?;
        Ok(self)
    }

    /// Sends `Authorization: Bearer TOKEN`.
    ///
    /// # Errors
    /// If the token holds characters that cannot be sent.
    pub fn bearer_token(self, token: &str) -> Result<Self, ConfigError> {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {}", token.trim()))
    }

    /// Time for one attempt, from connecting to the whole answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// File with the certificates, in PEM form, that sign the receiver's; instead of the system's.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Files with the certificate and the private key, in PEM form, by which the receiver knows this side.
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Bytes of messages that wait to be sent; the oldest are dropped when there are more.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Pause after the first failed attempt, and the longest one. Pauses double and are shortened at random.
    #[must_use]
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.last_pause = longest.max(first);
        self
    }

    /// How messages travel.
    pub(super) fn chosen_protocol(&self) -> Protocol {
        self.protocol
    }

    /// The headers to send.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The end point by the standard's rules.
    pub(super) fn to_endpoint(&self) -> Result<Endpoint, ConfigError> {
        Endpoint::new(
            self.protocol,
            self.base.as_deref(),
            self.exact.as_deref(),
            self.insecure,
        )
    }

    /// A list as in `OTEL_EXPORTER_OTLP_HEADERS`: `name=value,name=value`, percent-encoded.
    fn add_header_list(&mut self, source_name: &str, list: &str) -> Result<(), ConfigError> {
        for entry in list.split(',').map(str::trim) {
            if entry.is_empty() {
                continue;
            }
            let Some((name, value)) = entry.split_once('=') else {
                return Err(ConfigError::Header {
                    // What lacks its name may be a secret.
                    name: String::new(),
                    source_name: source_name.to_owned(),
                    expected: "expected name=value,name=value".to_owned(),
                });
            };
            let value = percent_decoded(value.trim());
            self.add_header(source_name, &percent_decoded(name.trim()), &value)?;
        }
        Ok(())
    }

    fn add_header(
        &mut self,
        source_name: &str,
        name: &str,
        value: &str,
    ) -> Result<(), ConfigError> {
        let wrong = |expected: &str| ConfigError::Header {
            name: name.to_owned(),
            source_name: source_name.to_owned(),
            expected: expected.to_owned(),
        };
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| wrong("its name has other characters than letters, digits and -"))?;
        // These are for the transport to say.
        let own = [
            "content-length",
            "content-type",
            "content-encoding",
            "transfer-encoding",
            "host",
            "connection",
            "te",
            "grpc-encoding",
        ];
        if own.contains(&key.as_str()) {
            return Err(wrong("it is set by the protocol"));
        }
        let mut value =
            HeaderValue::from_str(value).map_err(|_| wrong("its value has control characters"))?;
        value.set_sensitive(true);
        self.headers.insert(key, value);
        Ok(())
    }
}

/// Decodes `%41`; what is no such sequence stays as it is.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes.get(..2)?).ok()?;
            text.bytes()
                .all(|digit| digit.is_ascii_hexdigit())
                .then_some(())?;
            u8::from_str_radix(text, 16).ok()
        };
        if byte == b'%'
            && let Some(decoded) = digits(after)
        {
            bytes.push(decoded);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
