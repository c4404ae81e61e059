//! OTLP over gRPC, to tonic's server.

use std::time::Duration;

use base64::Engine;
use ebpf_reader::push::{Compression, Config, Exporter, Protocol};
use opentelemetry_proto::tonic::collector::profiles::v1development::{
    ExportProfilesPartialSuccess, ExportProfilesServiceResponse,
};
use tonic::{Code, Status};

use crate::message::message;
use crate::receiver::Receiver;
use crate::{PATIENCE, config, wait_for};

fn start(receiver: &Receiver, change: impl FnOnce(Config) -> Config) -> Exporter {
    let endpoint = format!("http://{}", receiver.address);
    Exporter::start(change(config(Protocol::Grpc, &endpoint))).unwrap()
}

#[test]
fn messages_arrive_as_they_were_pushed() {
    for compression in [Compression::Gzip, Compression::None] {
        let receiver = Receiver::grpc([]);
        let exporter = start(&receiver, |config| {
            config
                .compression(compression)
                .bearer_token("secret")
                .unwrap()
        });
        exporter.push(&message(1, 5));
        exporter.push(&message(2, 6));
        wait_for(&exporter, "two messages", |counters| counters.sent == 2);
        assert!(exporter.shutdown(PATIENCE));
        let received = receiver.received();
        let messages: Vec<_> = received.iter().map(|received| &received.message).collect();
        assert_eq!(messages, [&message(1, 5), &message(2, 6)]);
        assert_eq!(received[0].headers["authorization"], "Bearer secret");
        assert_eq!(
            received[0].headers.contains_key("grpc-encoding"),
            compression == Compression::Gzip
        );
    }
}

#[test]
fn failures_that_pass() {
    let codes = [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::DataLoss,
    ];
    let receiver = Receiver::grpc(codes.map(|code| Err(Status::new(code, "not now"))));
    let exporter = start(&receiver, |config| config);
    exporter.push(&message(1, 5));
    let counters = wait_for(&exporter, "success", |counters| counters.sent == 1);
    assert_eq!((counters.failed_attempts, counters.refused), (4, 0));
}

#[test]
fn failures_that_stay() {
    let codes = [
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::Unimplemented,
        Code::Internal,
        Code::ResourceExhausted,
    ];
    let receiver = Receiver::grpc(codes.map(|code| Err(Status::new(code, "never\u{7}"))));
    let exporter = start(&receiver, |config| config);
    for trace in 1..=5 {
        exporter.push(&message(trace, 5));
    }
    let counters = wait_for(&exporter, "the answers", |counters| counters.refused == 5);
    assert_eq!((counters.sent, counters.failed_attempts), (0, 0));
    assert_eq!(
        counters.last_error.as_deref(),
        Some("the receiver answered with gRPC status RESOURCE_EXHAUSTED: never")
    );
}

#[test]
fn an_exhausted_receiver_is_asked_again_when_it_says() {
    // google.rpc.Status with a RetryInfo of 1 s, as bytes.
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let info = [0x0a, 2, 0x08, 1];
    let mut any = vec![0x0a, url.len() as u8];
    any.extend_from_slice(url);
    any.extend_from_slice(&[0x12, info.len() as u8]);
    any.extend_from_slice(&info);
    let mut details = vec![0x08, 8, 0x1a, any.len() as u8];
    details.extend_from_slice(&any);
    assert!(
        base64::engine::general_purpose::STANDARD
            .encode(&details)
            .len()
            > 60
    );

    let exhausted = Status::with_details(Code::ResourceExhausted, "later", details.into());
    let receiver = Receiver::grpc([Err(exhausted)]);
    let exporter = start(&receiver, |config| config);
    exporter.push(&message(1, 5));
    let counters = wait_for(&exporter, "success", |counters| counters.sent == 1);
    assert_eq!((counters.failed_attempts, counters.refused), (1, 0));
    let received = receiver.received();
    assert!(received[1].at - received[0].at >= Duration::from_millis(900));
}

#[test]
fn parts_that_are_rejected() {
    let receiver = Receiver::grpc([Ok(ExportProfilesServiceResponse {
        partial_success: Some(ExportProfilesPartialSuccess {
            rejected_profiles: 2,
            error_message: "too many".to_owned(),
        }),
    })]);
    let exporter = start(&receiver, |config| config);
    exporter.push(&message(1, 5));
    let counters = wait_for(&exporter, "an answer", |counters| counters.sent == 1);
    assert_eq!(counters.rejected_profiles, 2);
    assert_eq!(
        counters.last_error.as_deref(),
        Some("the receiver rejected 2 profiles: too many")
    );
}

#[test]
fn an_http_server_is_no_grpc_receiver() {
    let receiver = Receiver::http([]);
    let exporter = start(&receiver, |config| config.compression(Compression::None));
    // Its first bytes are a frame's prefix, which is no message: the server would fail to decode it; the path is
    // unknown to a server that has none.
    exporter.push(&message(1, 5));
    let counters = wait_for(&exporter, "an end", |counters| {
        counters.refused + counters.failed_attempts > 0
    });
    assert_eq!(counters.sent, 0);
}
