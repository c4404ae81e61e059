//! Calls that do not end well: the client goes away, or the handler panics. What is dropped then is dropped with the call's
//! context published, and nothing stays behind.

use std::time::Duration;

use otel_profiling_grpc::ProfilingLayer;
use tonic::Code;
use tonic::transport::Server;
use tower_otel::trace::GrpcLayer;
use tracing::Level;

use crate::echo::{Client, Echo, Kind, Running, metadata_of, serve};
use crate::probe::Probe;
use crate::telemetry::{assert_nothing_on_four_workers, fresh_ids, set_up};

async fn server(outside: bool, probe: Probe) -> Running {
    set_up();
    let otel = GrpcLayer::server(Level::INFO);
    if outside {
        serve!(
            Server::builder().layer(ProfilingLayer::new()).layer(otel),
            Echo(probe)
        )
    } else {
        serve!(
            Server::builder().layer(otel).layer(ProfilingLayer::new()),
            Echo(probe)
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_goes_away() {
    for outside in [false, true] {
        for (kind, method, places) in [
            (
                Kind::Unary,
                "/test.Echo/Hangs",
                &["first poll", "handler dropped"][..],
            ),
            (
                Kind::ServerStreaming,
                "/test.Echo/StreamHangs",
                &["first poll", "pending", "item", "stream dropped"],
            ),
        ] {
            let what = format!("{method}, outside: {outside}");
            let (probe, caller) = (Probe::default(), fresh_ids());
            let server = server(outside, probe.clone()).await;
            let mut client = Client::connect(&server).await;
            let call =
                tokio::spawn(async move { client.call(kind, method, metadata_of(caller)).await });
            probe.came_to(&places[..places.len() - 1], &what).await;
            call.abort();
            probe.came_to(places, &what).await;
            probe.assert_trace(caller, &what);
            assert_nothing_on_four_workers().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_panics() {
    for outside in [false, true] {
        for (kind, method, places) in [
            (
                Kind::Unary,
                "/test.Echo/Panics",
                &["later poll", "handler dropped"][..],
            ),
            (
                Kind::ServerStreaming,
                "/test.Echo/StreamPanics",
                &["pending", "item", "stream dropped"],
            ),
        ] {
            let what = format!("{method}, outside: {outside}");
            let (probe, caller) = (Probe::default(), fresh_ids());
            let server = server(outside, probe.clone()).await;
            let mut client = Client::connect(&server).await;
            let result = client.call(kind, method, metadata_of(caller)).await;
            assert!(result.is_err(), "{what}");
            probe.came_to(places, &what).await;
            probe.assert_trace(caller, &what);
            assert_nothing_on_four_workers().await;
            // The server goes on.
            let unary = client.call(Kind::Unary, "/test.Echo/Unary", metadata_of(caller));
            assert_eq!(unary.await.expect("served"), ["abc"], "{what}");
        }
    }
}

/// The server's own time limit drops the handler.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_takes_too_long() {
    set_up();
    let (probe, caller) = (Probe::default(), fresh_ids());
    let server = Server::builder().timeout(Duration::from_millis(20));
    let layer = ProfilingLayer::new().extract_metadata(true);
    let server = serve!(server.layer(layer), Echo(probe.clone()));
    let mut client = Client::connect(&server).await;
    let result = client
        .call(Kind::Unary, "/test.Echo/Hangs", metadata_of(caller))
        .await;
    let code = result.expect_err("the time is up").code();
    assert!(
        matches!(code, Code::Cancelled | Code::DeadlineExceeded),
        "{code:?}"
    );
    probe
        .came_to(&["first poll", "handler dropped"], "time limit")
        .await;
    probe.assert_span(Some(caller), "time limit");
    assert_nothing_on_four_workers().await;
}
