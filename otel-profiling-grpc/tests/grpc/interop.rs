//! With the OpenTelemetry layers that exist for tonic, inside and outside of each, for all kinds of methods: the published
//! trace is the caller's, from the handler's first poll to the drop of the response's stream, nothing stays behind, and
//! spans end when they end without us.

use otel_profiling_grpc::ProfilingLayer;
use tonic::transport::Server;
use tonic_tracing_opentelemetry::middleware::server::OtelGrpcLayer;
use tower_otel::trace::GrpcLayer;
use tracing::Level;

use crate::echo::{Client, Echo, Kind, Running, serve};
use crate::probe::Probe;
use crate::telemetry::{assert_nothing_on_four_workers, fresh_ids, set_up};

#[derive(Clone, Copy, Debug)]
enum Otel {
    TowerOtel,
    TonicTracing,
}

/// Where our layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Absent,
    Inside,
    Outside,
}

async fn server(otel: Otel, order: Order, probe: Probe) -> Running {
    macro_rules! beside {
        ($layer:expr) => {
            match order {
                Order::Absent => serve!(Server::builder().layer($layer), Echo(probe)),
                Order::Inside => {
                    let server = Server::builder().layer($layer).layer(ProfilingLayer::new());
                    serve!(server, Echo(probe))
                }
                Order::Outside => {
                    let server = Server::builder().layer(ProfilingLayer::new()).layer($layer);
                    serve!(server, Echo(probe))
                }
            }
        };
    }
    set_up();
    match otel {
        Otel::TowerOtel => beside!(GrpcLayer::server(Level::INFO)),
        Otel::TonicTracing => beside!(OtelGrpcLayer::default()),
    }
}

/// Each kind with each layer, in both orders.
fn all() -> impl Iterator<Item = (Kind, Otel, Order)> {
    let beside = [Otel::TowerOtel, Otel::TonicTracing]
        .into_iter()
        .flat_map(|otel| [Order::Inside, Order::Outside].map(|order| (otel, order)));
    beside.flat_map(|(otel, order)| Kind::ALL.map(|kind| (kind, otel, order)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_calls_trace_is_published_from_the_first_poll_to_the_drop_of_the_stream() {
    for (kind, otel, order) in all() {
        let what = format!("{kind:?}, {order:?} of {otel:?}");
        for _ in 0..10 {
            let (probe, caller) = (Probe::default(), fresh_ids());
            let server = server(otel, order, probe.clone()).await;
            let texts = Client::connect(&server).await.call_from(kind, caller).await;
            assert_eq!(texts, kind.texts(), "{what}");
            probe.came_to(kind.places(), &what).await;
            probe.assert_trace(caller, &what);
            let seen = probe.seen();
            for seen in &seen {
                let span_id = seen.ids.map(|ids| ids.span_id());
                assert_ne!(span_id, Some(caller.span_id()), "{what}: at {}", seen.at);
            }
            probe.assert_span(seen[0].ids, &what);
        }
        assert_nothing_on_four_workers().await;
    }
}

/// What the layer is for: the OpenTelemetry layers alone leave off before the stream.
#[tokio::test]
async fn without_the_layer_streams_are_not_published() {
    for otel in [Otel::TowerOtel, Otel::TonicTracing] {
        let (probe, kind) = (Probe::default(), Kind::ServerStreaming);
        let server = server(otel, Order::Absent, probe.clone()).await;
        let mut client = Client::connect(&server).await;
        client.call_from(kind, fresh_ids()).await;
        probe.came_to(kind.places(), "without the layer").await;
        let seen = probe.seen();
        assert!(seen[0].ids.is_some(), "{otel:?}: {:?}", seen[0]);
        let stream = &seen[3..];
        assert!(
            stream.iter().all(|seen| seen.ids.is_none()),
            "{otel:?}: {stream:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn spans_end_when_they_end_without_the_layer() {
    for (kind, otel, order) in all() {
        let mut ends = Vec::new();
        for order in [Order::Absent, order] {
            let (probe, caller) = (Probe::default(), fresh_ids());
            let server = server(otel, order, probe.clone()).await;
            Client::connect(&server).await.call_from(kind, caller).await;
            probe.came_to(kind.places(), "ends").await;
            let seen = probe.seen();
            ends.push(
                seen.into_iter()
                    .map(|seen| (seen.at, seen.ended))
                    .collect::<Vec<_>>(),
            );
            assert_eq!(
                crate::telemetry::ended(caller.trace_id()),
                1,
                "one span, which ends"
            );
        }
        assert_eq!(ends[0], ends[1], "{kind:?}, {order:?} of {otel:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_never_see_each_other() {
    for (otel, order) in [
        (Otel::TowerOtel, Order::Outside),
        (Otel::TonicTracing, Order::Inside),
    ] {
        let probe = Probe::default();
        let server = server(otel, order, probe.clone()).await;
        let mut connections = Vec::new();
        for _ in 0..4 {
            let mut client = Client::connect(&server).await;
            connections.push(tokio::spawn(async move {
                for _ in 0..25 {
                    let (mut a, mut b, mut c, mut d) = (
                        client.clone(),
                        client.clone(),
                        client.clone(),
                        client.clone(),
                    );
                    tokio::join!(
                        a.call_from(Kind::Unary, fresh_ids()),
                        b.call_from(Kind::ClientStreaming, fresh_ids()),
                        c.call_from(Kind::ServerStreaming, fresh_ids()),
                        d.call_from(Kind::Bidirectional, fresh_ids()),
                    );
                    client.call_from(Kind::Unary, fresh_ids()).await;
                }
            }));
        }
        for connection in connections {
            connection.await.expect("no panic");
        }
        let seen = probe.seen();
        assert!(seen.len() > 2000, "{} places", seen.len());
        for seen in seen {
            assert_eq!(seen.ids.map(|ids| ids.trace_id()), seen.caller, "{seen:?}");
        }
        assert_nothing_on_four_workers().await;
    }
}
