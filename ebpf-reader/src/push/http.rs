//! OTLP over HTTP: a POST request with the message, and what the status of the answer means.

use std::time::SystemTime;

use ::http::header::{self, HeaderMap, HeaderValue};
use ::http::{Method, Request};
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceResponse;
use prost::Message as _;

use super::endpoint::Endpoint;
use super::exchange::{Answer, Outcome, RequestBody, USER_AGENT, advice, words};
use super::queue::Message;
use super::retry::retry_after;

const PROTOBUF: &str = "application/x-protobuf";

/// `google.rpc.Status`, as which a receiver says what went wrong.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

pub(super) fn request(
    endpoint: &Endpoint,
    headers: &HeaderMap,
    message: &Message,
) -> Result<Request<RequestBody>, ::http::Error> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(endpoint.path())
        .header(header::HOST, endpoint.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::new(message.body.clone()))?;
    let own = request.headers_mut();
    own.extend(headers.clone());
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    if message.compressed {
        own.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(request)
}

pub(super) fn outcome(answer: Answer) -> Outcome {
    if (200..300).contains(&answer.status) {
        // Receivers that answer with something else, or nothing, have taken the message all the same.
        let response = ExportProfilesServiceResponse::decode(answer.body).unwrap_or_default();
        return Outcome::accepted(response);
    }
    let mut reason = format!("the receiver answered with HTTP status {}", answer.status);
    let said = said(&answer);
    if !said.is_empty() {
        reason.push_str(&format!(": {said}{}", advice(&said)));
    }
    match answer.status {
        // Those that the specification names.
        429 | 502 | 503 | 504 => Outcome::TryAgain {
            after: answer
                .headers
                .get(header::RETRY_AFTER)
                .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now())),
            reason,
        },
        _ => Outcome::Refused { reason },
    }
}

/// What the receiver says: a status message by the specification, plain text from many.
fn said(answer: &Answer) -> String {
    let kind = answer.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with(PROTOBUF) {
        let status = Status::decode(answer.body.clone()).unwrap_or_default();
        words(&status.message)
    } else if kind.starts_with("text/plain") || kind.starts_with("application/json") {
        words(&String::from_utf8_lossy(&answer.body))
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: Vec<u8>) -> Answer {
        Answer {
            status,
            headers: headers
                .iter()
                .map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect(),
            body: body.into(),
            ..Answer::default()
        }
    }

    #[test]
    fn which_may_be_tried_again() {
        for status in [429, 502, 503, 504] {
            let outcome = outcome(answer(status, &[("retry-after", "7")], Vec::new()));
            assert!(
                matches!(&outcome, Outcome::TryAgain { after: Some(after), .. } if *after == Duration::from_secs(7)),
                "{outcome:?}"
            );
        }
        for status in [301, 400, 401, 403, 404, 408, 413, 500, 501] {
            let outcome = outcome(answer(status, &[("retry-after", "7")], Vec::new()));
            assert!(
                matches!(&outcome, Outcome::Refused { reason } if reason.contains(&status.to_string()))
            );
        }
        for (status, body) in [(200, Vec::new()), (202, b"ok".to_vec())] {
            let outcome = outcome(answer(status, &[], body));
            assert_eq!(
                outcome,
                Outcome::Accepted {
                    rejected: 0,
                    note: None
                }
            );
        }
    }

    #[test]
    fn the_receivers_words() {
        let status = Status {
            code: 3,
            message: "bad\u{1b}[2J\nprofile".to_owned(),
            details: Vec::new(),
        };
        for (kind, body) in [
            (PROTOBUF, status.encode_to_vec()),
            ("text/plain; charset=utf-8", b"bad\x1b[2J\nprofile".to_vec()),
        ] {
            let outcome = outcome(answer(400, &[("content-type", kind)], body));
            assert_eq!(
                outcome,
                Outcome::Refused {
                    reason: "the receiver answered with HTTP status 400: bad [2J profile"
                        .to_owned()
                }
            );
        }
    }
}
