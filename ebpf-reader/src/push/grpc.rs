//! OTLP over gRPC: one unary call. A request and an answer of one message each need so little of gRPC that it is
//! written down here: a prefix of five bytes, a status in the trailers.

use std::time::Duration;

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, Request, Version};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceResponse;
use prost::Message as _;

use super::config::percent_decoded;
use super::endpoint::Endpoint;
use super::exchange::{Answer, Outcome, RequestBody, USER_AGENT, advice, words};
use super::http::Status;
use super::queue::Message;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

const OK: u16 = 0;
const RESOURCE_EXHAUSTED: u16 = 8;

/// Senders may leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `google.rpc.RetryInfo`, with its duration.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

pub(super) fn request(
    endpoint: &Endpoint,
    headers: &HeaderMap,
    message: &Message,
) -> Result<Request<RequestBody>, ::http::Error> {
    let mut request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(endpoint.uri.clone())
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::new(framed(message)))?;
    let own = request.headers_mut();
    own.extend(headers.clone());
    own.insert(header::TE, HeaderValue::from_static("trailers"));
    own.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    if message.compressed {
        own.insert(ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(request)
}

/// A message with whether it is compressed, and its length. (The queue's limit is far below 4 GB.)
fn framed(message: &Message) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.body.len() + 5);
    framed.put_u8(message.compressed.into());
    framed.put_u32(u32::try_from(message.body.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message.body);
    framed.freeze()
}

pub(super) fn outcome(answer: Answer) -> Outcome {
    let field = |name: &HeaderName| {
        answer
            .trailers
            .get(name)
            .or_else(|| answer.headers.get(name))
    };
    let text = |name: &HeaderName| field(name).and_then(|value| value.to_str().ok());
    let Some(code) = text(&STATUS).and_then(|code| code.parse::<u16>().ok()) else {
        let reason = format!(
            "the receiver answered with HTTP status {} and not by gRPC",
            answer.status
        );
        return match answer.status {
            // A proxy on the way.
            429 | 502 | 503 | 504 => Outcome::try_again(reason),
            // The call broke off before its end.
            200 if answer
                .headers
                .get(header::CONTENT_TYPE)
                .is_some_and(is_grpc) =>
            {
                Outcome::try_again("the receiver's answer has no status")
            }
            _ => Outcome::Refused { reason },
        };
    };
    if code == OK {
        let message = match answer.body.first() {
            // Not compressed: nobody has been told that we would understand it.
            Some(0) => answer.body.get(5..).unwrap_or_default(),
            _ => &[],
        };
        let response = ExportProfilesServiceResponse::decode(message).unwrap_or_default();
        return Outcome::accepted(response);
    }
    let mut reason = format!("the receiver answered with gRPC status {}", name(code));
    let said = words(&percent_decoded(text(&MESSAGE).unwrap_or_default()));
    if !said.is_empty() {
        reason.push_str(&format!(": {said}{}", advice(&said)));
    }
    let after = field(&DETAILS).and_then(|details| retry_delay(details.as_bytes()));
    match code {
        // Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
        1 | 4 | 10 | 11 | 14 | 15 => Outcome::TryAgain { after, reason },
        // Only if the receiver says that it can recover.
        RESOURCE_EXHAUSTED if after.is_some() => Outcome::TryAgain { after, reason },
        _ => Outcome::Refused { reason },
    }
}

fn is_grpc(kind: &HeaderValue) -> bool {
    kind.as_bytes().starts_with(b"application/grpc")
}

/// The delay of a `RetryInfo` among the details of a status.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = Status::decode(BASE64.decode(details).ok()?.as_slice()).ok()?;
    let info = status
        .details
        .iter()
        .find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice())
        .ok()?
        .retry_delay
        .unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    let nanos = u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999);
    Some(Duration::new(seconds, nanos))
}

/// The name of a status code.
fn name(code: u16) -> String {
    let names = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    names
        .get(usize::from(code))
        .map_or_else(|| code.to_string(), |&name| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::http::Any;
    use super::*;

    fn answer(code: &str, details: Option<String>) -> Answer {
        let mut answer = Answer {
            status: 200,
            ..Answer::default()
        };
        answer.trailers.insert(STATUS, code.parse().unwrap());
        answer
            .trailers
            .insert(MESSAGE, "too%20much%1b".parse().unwrap());
        if let Some(details) = details {
            answer.trailers.insert(DETAILS, details.parse().unwrap());
        }
        answer
    }

    fn retry_info(seconds: i64, nanos: i32) -> String {
        let info = RetryInfo {
            retry_delay: Some(Delay { seconds, nanos }),
        };
        let status = Status {
            code: 8,
            message: String::new(),
            details: vec![Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                value: info.encode_to_vec(),
            }],
        };
        // As gRPC libraries send it: without padding.
        BASE64
            .encode(status.encode_to_vec())
            .trim_end_matches('=')
            .to_owned()
    }

    #[test]
    fn which_may_be_tried_again() {
        let again = |outcome| match outcome {
            Outcome::TryAgain { after, .. } => Some(after),
            _ => None,
        };
        for code in 1..=17 {
            let retryable = [1, 4, 10, 11, 14, 15].contains(&code);
            let expected = retryable.then_some(None);
            assert_eq!(
                again(outcome(answer(&code.to_string(), None))),
                expected,
                "{code}"
            );
        }
        let delay = Some(Some(Duration::from_millis(1500)));
        for code in ["8", "14"] {
            assert_eq!(
                again(outcome(answer(code, Some(retry_info(1, 500_000_000))))),
                delay
            );
        }
        assert_eq!(
            again(outcome(answer("8", Some(retry_info(-1, -1))))),
            Some(Some(Duration::ZERO))
        );
        assert_eq!(again(outcome(answer("8", Some("%%%".to_owned())))), None);
        assert_eq!(again(outcome(answer("3", Some(retry_info(1, 0))))), None);
    }

    #[test]
    fn the_receivers_words() {
        assert_eq!(
            outcome(answer("3", None)),
            Outcome::Refused {
                reason: "the receiver answered with gRPC status INVALID_ARGUMENT: too much"
                    .to_owned()
            }
        );
    }

    #[test]
    fn answers_that_are_not_grpc() {
        for (status, again) in [(503, true), (404, false), (200, false)] {
            let answer = Answer {
                status,
                ..Answer::default()
            };
            assert_eq!(
                matches!(outcome(answer), Outcome::TryAgain { .. }),
                again,
                "{status}"
            );
        }
        let mut cut = Answer {
            status: 200,
            ..Answer::default()
        };
        cut.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc+proto"),
        );
        assert!(matches!(outcome(cut), Outcome::TryAgain { .. }));
    }

    #[test]
    fn a_frame() {
        let message = Message {
            body: Bytes::from_static(b"abc"),
            compressed: true,
        };
        assert_eq!(&framed(&message)[..], b"\x01\0\0\0\x03abc");
    }
}
