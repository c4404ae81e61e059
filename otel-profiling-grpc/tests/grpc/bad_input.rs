//! Metadata and paths that make no sense: the call is served, and what cannot be published is left out or cut.

use std::borrow::Cow;

use http::HeaderValue;
use otel_profiling_grpc::{ProfilingLayer, interceptor};
use tonic::metadata::MetadataMap;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;

use crate::echo::{Client, Echo, Kind, Running, serve};
use crate::probe::Probe;
use crate::telemetry::{fresh_ids, set_up, traceparent};

async fn server(probe: Probe) -> Running {
    set_up();
    let layer = ProfilingLayer::new()
        .extract_metadata(true)
        .interceptor_slot(true)
        .method_attributes()
        .attribute("tenant", |call| {
            let tenant = call.headers.get("x-tenant")?;
            Some(String::from_utf8_lossy(tenant.as_bytes()))
        })
        .attribute("agent", |call| {
            Some(Cow::Borrowed(call.headers.get("x-agent")?.to_str().ok()?))
        });
    let server = Server::builder()
        .layer(layer)
        .layer(InterceptorLayer::new(interceptor()));
    serve!(server, Echo(probe))
}

/// Metadata with values that need not be text.
fn raw(values: &[(&'static str, &[u8])]) -> MetadataMap {
    let value = |value: &[u8]| HeaderValue::from_bytes(value).expect("bytes that HTTP allows");
    let headers = values.iter().map(|(name, bytes)| {
        let name = http::HeaderName::from_static(name);
        (name, value(bytes))
    });
    MetadataMap::from_headers(headers.collect())
}

#[tokio::test]
async fn a_malformed_traceparent_is_no_context() {
    let long = "0".repeat(10_000);
    let zeros = format!("00-{}-{}-01", "0".repeat(32), "0".repeat(16));
    for value in [
        b"".as_slice(),
        b"garbage",
        b"00-",
        b"00-xyz-xyz-01",
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        b"\xff\xfe\x80",
        zeros.as_bytes(),
        long.as_bytes(),
    ] {
        let probe = Probe::default();
        let server = server(probe.clone()).await;
        let mut client = Client::connect(&server).await;
        for kind in Kind::ALL {
            let texts = client
                .call(kind, &kind.method(), raw(&[("traceparent", value)]))
                .await;
            assert!(texts.is_ok(), "{kind:?} with {value:?}: {texts:?}");
        }
        assert!(probe.places().len() > 10);
        probe.assert_span(None, &String::from_utf8_lossy(value));
    }
}

#[tokio::test]
async fn values_of_10_kb_and_bytes_that_are_not_text_are_cut_or_left_out() {
    let (probe, caller) = (Probe::default(), fresh_ids());
    let server = server(probe.clone()).await;
    let mut client = Client::connect(&server).await;
    let (long, parent) = ("é".repeat(5_000), traceparent(caller));
    let metadata = raw(&[
        ("traceparent", parent.as_bytes()),
        ("x-tenant", long.as_bytes()),
        ("x-agent", b"\xff\xff"),
    ]);
    let before = otel_profiling::counters().values_cut;
    let texts = client.call(Kind::Unary, "/test.Echo/Unary", metadata).await;
    assert_eq!(texts.expect("served"), ["abc"]);
    probe.came_to(Kind::Unary.places(), "long values").await;
    probe.assert_span(Some(caller), "long values");
    for seen in probe.seen() {
        let names: Vec<_> = seen.attributes.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["rpc.service", "rpc.method", "tenant"]);
        assert_eq!(seen.attributes[2].1, "é".repeat(127));
    }
    assert!(otel_profiling::counters().values_cut > before);
}

#[tokio::test]
async fn paths_that_are_no_methods_are_refused_as_without_the_layer() {
    let probe = Probe::default();
    let server = server(probe.clone()).await;
    let mut client = Client::connect(&server).await;
    for path in [
        "/",
        "/test.Echo",
        "/test.Echo/%FF%FE",
        "/made.Up/Method",
        "/a/b/c/d",
        "/test.Echo/None",
    ] {
        let result = client.call(Kind::Unary, path, raw(&[])).await;
        assert_eq!(
            result.expect_err("no such method").code(),
            tonic::Code::Unimplemented,
            "{path}"
        );
    }
    assert_eq!(probe.places(), [""; 0]);
    // The server goes on.
    client.call_from(Kind::Unary, fresh_ids()).await;
    assert_eq!(probe.places(), Kind::Unary.places());
}
