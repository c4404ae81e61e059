//! One attempt: connects if need be, sends a message, and says what became of it.

use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceResponse;

use super::config::{Config, ConfigError, Protocol};
use super::connection::Connection;
use super::endpoint::Endpoint;
use super::queue::Message;
use super::{grpc, http};

/// Bytes of an answer that are read. A receiver has little to say.
const MAX_ANSWER: usize = 64 << 10;
/// Characters of a receiver's words that are passed on.
const MAX_WORDS: usize = 300;

/// Who we are, for logs of receivers.
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("ebpf-reader/", env!("CARGO_PKG_VERSION")));

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It arrived. Of its profiles some may have been rejected.
    Accepted {
        rejected: u64,
        /// What the receiver said to it.
        note: Option<String>,
    },
    /// It did not, and may later.
    TryAgain {
        /// The pause that the receiver asks for.
        after: Option<Duration>,
        reason: String,
    },
    /// It never will.
    Refused { reason: String },
}

impl Outcome {
    /// What a receiver answered that has taken a message.
    pub(super) fn accepted(response: ExportProfilesServiceResponse) -> Self {
        let partial = response.partial_success.unwrap_or_default();
        Self::Accepted {
            rejected: u64::try_from(partial.rejected_profiles).unwrap_or(0),
            note: (!partial.error_message.is_empty()).then(|| words(&partial.error_message)),
        }
    }

    pub(super) fn try_again(reason: impl Into<String>) -> Self {
        Self::TryAgain {
            after: None,
            reason: reason.into(),
        }
    }
}

/// Sends messages to one receiver, over one connection that is kept.
pub(super) struct Sender {
    endpoint: Endpoint,
    protocol: Protocol,
    headers: HeaderMap,
    timeout: Duration,
    #[cfg(feature = "tls")]
    tls: Option<super::tls::Connector>,
    connection: Option<Connection>,
}

impl Sender {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let endpoint = config.to_endpoint()?;
        #[cfg(not(feature = "tls"))]
        if endpoint.encrypted {
            return Err(ConfigError::NoTls {
                endpoint: endpoint.to_string(),
            });
        }
        Ok(Self {
            #[cfg(feature = "tls")]
            tls: match endpoint.encrypted {
                true => Some(super::tls::Connector::new(config, &endpoint.host)?),
                false => None,
            },
            protocol: config.chosen_protocol(),
            headers: config.headers().clone(),
            timeout: config.timeout,
            endpoint,
            connection: None,
        })
    }

    /// Where messages are sent to.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Tries to send a message once.
    pub(super) async fn attempt(&mut self, message: &Message) -> Outcome {
        let timeout = self.timeout;
        let outcome = match tokio::time::timeout(timeout, self.exchange(message)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} ms", timeout.as_millis())),
        };
        outcome.unwrap_or_else(|reason| {
            // Whatever state it is in.
            self.connection = None;
            Outcome::try_again(reason)
        })
    }

    /// `Err`: the connection is of no use any more.
    async fn exchange(&mut self, message: &Message) -> Result<Outcome, String> {
        let mut connection = match self.connection.take() {
            Some(connection) if connection.is_open() => connection,
            _ => self.connect().await?,
        };
        let request = match self.protocol {
            Protocol::Grpc => grpc::request(&self.endpoint, &self.headers, message),
            Protocol::HttpProtobuf => http::request(&self.endpoint, &self.headers, message),
        };
        let request = request.map_err(|error| format!("cannot make a request: {error}"))?;
        let answer = connection.send(request).await?;
        let outcome = match self.protocol {
            Protocol::Grpc => grpc::outcome(answer),
            Protocol::HttpProtobuf => http::outcome(answer),
        };
        self.connection = Some(connection);
        Ok(outcome)
    }

    async fn connect(&self) -> Result<Connection, String> {
        let stream = super::connection::connect(&self.endpoint).await?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Connection::over(tls.encrypt(stream).await?, self.protocol).await;
        }
        Connection::over(stream, self.protocol).await
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether the body was longer than what is read of it.
    pub(super) cut: bool,
    pub(super) trailers: HeaderMap,
}

impl Answer {
    pub(super) async fn read(response: Response<Incoming>) -> Result<Self, String> {
        let (parts, mut body) = response.into_parts();
        let mut answer = Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            ..Self::default()
        };
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| chain("the answer broke off", &error))?;
            match frame.into_data() {
                Ok(data) => {
                    if bytes.len().saturating_add(data.len()) > MAX_ANSWER {
                        answer.cut = true;
                        break;
                    }
                    bytes.extend_from_slice(&data);
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        answer.trailers = trailers;
                    }
                }
            }
        }
        answer.body = bytes.freeze();
        Ok(answer)
    }
}

/// The body of a request.
pub(super) type RequestBody = Full<Bytes>;

/// An error with its causes, in one line.
pub(super) fn chain(action: &str, error: &dyn std::error::Error) -> String {
    let mut line = format!("{action}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words(&line)
}

/// What to do about a refusal, after its cause: by what gRPC and protobuf libraries say when sender and receiver do not
/// fit together. Nothing where the receiver's own words have to do.
pub(super) fn advice(said: &str) -> &'static str {
    let said = said.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["decompressor is not installed", "unsupported compression"]) {
        "; set OTEL_EXPORTER_OTLP_COMPRESSION=none"
    } else if says(&["unknown service", "unknown method"]) {
        "; it is not a receiver of OTLP profiles (v1development), or they are switched off there"
    } else if says(&[
        "unmarshal",
        "failed to parse protobuf",
        "wiretype",
        "out of bounds",
        "value is required",
    ]) {
        "; it may be made for another version of OTLP profiles than opentelemetry-proto 1.10"
    } else if says(&["active series limit"]) {
        "; have Pyroscope drop the labels trace_id and thread_id by its ingestion_relabeling_rules"
    } else {
        ""
    }
}

/// Words of a receiver for a log: short, in one line, without control characters.
pub(super) fn words(text: &str) -> String {
    text.chars()
        .take(MAX_WORDS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_about_a_refusal() {
        for (said, expected) in [
            (
                "grpc: Decompressor is not installed for grpc-encoding \"gzip\"",
                "OTEL_EXPORTER_OTLP_COMPRESSION=none",
            ),
            (
                "unknown service opentelemetry.proto.collector.profiles.v1development.ProfilesService",
                "switched off",
            ),
            (
                "grpc: error unmarshalling request: proto: wrong wireType = 2 for field LinkIndex",
                "another version",
            ),
            ("Failed to parse protobuf request", "another version"),
            (
                "resource_exhausted: Maximum active series limit exceeded (5000/5000), reduce the number of active streams",
                "ingestion_relabeling_rules",
            ),
        ] {
            let advice = advice(said);
            assert!(
                advice.contains(expected) && advice.lines().count() == 1,
                "{said}: {advice}"
            );
        }
        assert_eq!(advice("period type is nil"), "");
        assert_eq!(advice(""), "");
    }
}
