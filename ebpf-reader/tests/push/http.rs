//! OTLP over HTTP.

use std::time::{Duration, SystemTime};

use axum::response::{IntoResponse, Response};
use ebpf_reader::push::{Compression, Config, Exporter, Protocol};
use opentelemetry_proto::tonic::collector::profiles::v1development::{
    ExportProfilesPartialSuccess, ExportProfilesServiceResponse,
};
use prost::Message;

use crate::message::message;
use crate::receiver::Receiver;
use crate::{PATIENCE, config, wait_for};

fn start(receiver: &Receiver, change: impl FnOnce(Config) -> Config) -> Exporter {
    let endpoint = format!("http://{}", receiver.address);
    Exporter::start(change(config(Protocol::HttpProtobuf, &endpoint))).unwrap()
}

fn status(code: u16, headers: &[(&'static str, String)]) -> Response {
    let mut response = ::http::StatusCode::from_u16(code).unwrap().into_response();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

#[test]
fn messages_arrive_as_they_were_pushed() {
    for compression in [Compression::Gzip, Compression::None] {
        let receiver = Receiver::http([]);
        let exporter = start(&receiver, |config| {
            let config = config
                .compression(compression)
                .bearer_token("secret")
                .unwrap();
            config.header("X-Scope-OrgID", "tenant").unwrap()
        });
        exporter.push(&message(1, 5));
        exporter.push(&message(2, 6));
        let counters = wait_for(&exporter, "two messages", |counters| counters.sent == 2);
        assert!(counters.sent_bytes > 0);
        assert_eq!(counters.queued_bytes, 0);
        assert!(exporter.shutdown(PATIENCE));

        let received = receiver.received();
        let messages: Vec<_> = received.iter().map(|received| &received.message).collect();
        assert_eq!(messages, [&message(1, 5), &message(2, 6)]);
        assert_eq!(received[0].path, "/v1development/profiles");
        let headers = &received[0].headers;
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers["authorization"], "Bearer secret");
        assert_eq!(headers["x-scope-orgid"], "tenant");
        assert_eq!(
            headers.contains_key("content-encoding"),
            compression == Compression::Gzip
        );
        assert_eq!(headers["host"], receiver.address.to_string());
    }
}

#[test]
fn a_busy_receiver_is_asked_again_when_it_says() {
    // Dates have no fractions of a second: one of 3 s asks for at least 2.
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
    for (code, after, least) in [(429, "1".to_owned(), 0.9), (503, date, 0.0)] {
        let receiver = Receiver::http([status(code, &[("retry-after", after.clone())])]);
        let exporter = start(&receiver, |config| config);
        exporter.push(&message(1, 5));
        let counters = wait_for(&exporter, "failure", |counters| {
            counters.failed_attempts == 1
        });
        let error = counters.last_error.unwrap();
        assert!(error.contains(&format!("HTTP status {code}")), "{error}");
        assert_eq!(
            (counters.queued, counters.refused, counters.dropped),
            (1, 0, 0)
        );
        let counters = wait_for(&exporter, "success", |counters| counters.sent == 1);
        assert_eq!(counters.failed_attempts, 1);
        assert_eq!(counters.last_error, None);
        let received = receiver.received();
        assert_eq!(received[0].message, received[1].message);
        let pause = received[1].at - received[0].at;
        assert!(pause.as_secs_f64() >= least, "{after}: {pause:?}");
        if httpdate::parse_http_date(&after).is_ok() {
            let now = SystemTime::now() + Duration::from_secs(1);
            assert!(httpdate::parse_http_date(&after).unwrap() <= now);
        }
    }
}

#[test]
fn failures_that_pass() {
    let receiver = Receiver::http([502, 503, 504, 429].map(|code| status(code, &[])));
    let exporter = start(&receiver, |config| config);
    exporter.push(&message(1, 5));
    let counters = wait_for(&exporter, "success", |counters| counters.sent == 1);
    assert_eq!(counters.failed_attempts, 4);
    assert_eq!(receiver.received().len(), 5);
}

#[test]
fn failures_that_stay() {
    let codes = [400, 401, 404, 413, 500, 302];
    let receiver = Receiver::http(codes.map(|code| {
        status(
            code,
            &[
                ("retry-after", "1".to_owned()),
                ("location", "http://127.0.0.1:1/".to_owned()),
            ],
        )
    }));
    let exporter = start(&receiver, |config| config);
    for trace in 1..=7 {
        exporter.push(&message(trace, 5));
    }
    let counters = wait_for(&exporter, "the last", |counters| counters.sent == 1);
    assert_eq!((counters.refused, counters.failed_attempts), (6, 0));
    let received = receiver.received();
    assert_eq!(received.len(), 7);
    assert_eq!(received[6].message, message(7, 5));
}

#[test]
fn parts_that_are_rejected() {
    let answer = ExportProfilesServiceResponse {
        partial_success: Some(ExportProfilesPartialSuccess {
            rejected_profiles: 3,
            error_message: "too old".to_owned(),
        }),
    };
    let receiver = Receiver::http([answer.encode_to_vec().into_response()]);
    let exporter = start(&receiver, |config| config);
    exporter.push(&message(1, 5));
    let counters = wait_for(&exporter, "an answer", |counters| counters.sent == 1);
    assert_eq!(counters.rejected_profiles, 3);
    assert_eq!(
        counters.last_error.as_deref(),
        Some("the receiver rejected 3 profiles: too old")
    );
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let endless = axum::body::Body::from(vec![b'x'; 64 << 20]);
    let mut refusal = Response::new(endless);
    *refusal.status_mut() = ::http::StatusCode::BAD_REQUEST;
    let receiver = Receiver::http([refusal]);
    let exporter = start(&receiver, |config| config);
    exporter.push(&message(1, 5));
    wait_for(&exporter, "a refusal", |counters| counters.refused == 1);
    exporter.push(&message(2, 5));
    wait_for(&exporter, "a success", |counters| counters.sent == 1);
}
