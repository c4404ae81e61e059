//! Every window is pushed, with its process as the resource; a receiver that fails changes nothing else.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use std::io::Read;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::PATIENCE;
use crate::server::Server;

#[test]
fn windows_arrive_with_their_resource() {
    let runtime = Runtime::new().unwrap();
    let received: Arc<Mutex<Vec<ExportProfilesServiceRequest>>> = Arc::default();
    let keep = Arc::clone(&received);
    let router = Router::new().route(
        "/v1development/profiles",
        post(move |headers: ::http::HeaderMap, body: Bytes| async move {
            assert_eq!(headers["authorization"], "Bearer push-token");
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&body[..])
                .read_to_end(&mut plain)
                .unwrap();
            let request = ExportProfilesServiceRequest::decode(&plain[..]).unwrap();
            keep.lock().unwrap().push(request);
        }),
    );
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, router).await });

    // By the variables alone.
    let Some(server) = Server::start_with(
        &[],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20push-token",
            ),
        ],
    ) else {
        return;
    };
    server.wait_for("/api/status", |status| {
        status["push"]["sent"].as_u64() >= Some(2)
    });
    assert!(server.stop().success());

    let received = received.lock().unwrap();
    let resources: Vec<_> = received
        .iter()
        .flat_map(|request| &request.resource_profiles)
        .map(|profiles| profiles.resource.as_ref().unwrap())
        .collect();
    assert!(!resources.is_empty());
    let text = |resource: &opentelemetry_proto::tonic::resource::v1::Resource, key: &str| {
        let mut attributes = resource.attributes.iter();
        let found = attributes.find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            _ => None,
        }
    };
    for resource in resources {
        assert_eq!(
            text(resource, "service.name").as_deref(),
            Some("serve-test")
        );
    }
    let links: Vec<Vec<u8>> = received
        .iter()
        .flat_map(|request| &request.dictionary.as_ref().unwrap().link_table)
        .map(|link| link.trace_id.clone())
        .collect();
    for byte in [0xa1, 0xb2] {
        assert!(links.contains(&vec![byte; 16]), "{links:?}");
    }
}

#[test]
fn a_receiver_that_is_not_there_is_told_of_once() {
    // Nobody listens at the port of "discard".
    let Some(server) = Server::start(&["--push=http://127.0.0.1:9"]) else {
        return;
    };
    server.wait_for_traces();
    let begin = std::time::Instant::now();
    while server
        .message("pushing to http://127.0.0.1:9/v1development/profiles: cannot connect")
        .is_none()
    {
        assert!(begin.elapsed() < PATIENCE, "{:?}", server.messages());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    server.wait_for("/api/status", |status| {
        status["push"]["queued"].as_u64() >= Some(3)
    });
    let told = server.messages();
    let failures = told
        .iter()
        .filter(|line| line.contains("cannot connect"))
        .count();
    assert_eq!(failures, 1, "{told:?}");
    assert!(server.pid() > 0);
}

#[test]
fn what_cannot_be_pushed_to_is_refused_at_the_start() {
    for (arguments, expected) in [
        (
            &["--push=collector:4318"][..],
            "expected a URL like http://host:4318",
        ),
        (&["--push-header", "a=b"], "say where to with --push=URL"),
        (
            &["--push=http://c", "--push-header", "secret"],
            "--push-header must be NAME=VALUE",
        ),
        (
            &["--push=https://c", "--push-ca", "/missing"],
            "cannot use /missing: No such file",
        ),
        (
            &["--push=http://c", "--push-token-file", "/missing"],
            "cannot read /missing",
        ),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ebpf-reader"))
            .args(["serve", "--listen", "127.0.0.1:0", "-p", "1"])
            .args(arguments)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.starts_with("error: ") && error.contains(expected),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}
