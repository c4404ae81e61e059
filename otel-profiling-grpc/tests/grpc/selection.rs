//! Which calls are published, with which attributes, and from which sources.

use std::borrow::Cow;
use std::convert::Infallible;
use std::task::{Context, Poll};

use otel_profiling_grpc::{Profiling, ProfilingLayer};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tower::Layer as _;

use crate::echo::{Client, Echo, Kind, metadata, metadata_of, serve};
use crate::probe::{Probe, Seen};
use crate::telemetry::{fresh_ids, set_up, traceparent};

/// What a call of this kind saw in a server with this layer; it was published as from `caller`, or not at all.
async fn seen(layer: ProfilingLayer, kind: Kind) -> (bool, Vec<Seen>) {
    set_up();
    let (probe, caller) = (Probe::default(), fresh_ids());
    let server = serve!(Server::builder().layer(layer), Echo(probe.clone()));
    Client::connect(&server).await.call_from(kind, caller).await;
    probe.came_to(kind.places(), "selection").await;
    let seen = probe.seen();
    let published = seen[0].ids == Some(caller);
    probe.assert_span(published.then_some(caller), "all places or none");
    (published, seen)
}

fn layer() -> ProfilingLayer {
    ProfilingLayer::new().extract_metadata(true)
}

#[tokio::test]
async fn the_callers_span_is_published_only_if_asked_for() {
    for kind in Kind::ALL {
        assert!(seen(layer(), kind).await.0);
        assert!(!seen(ProfilingLayer::new(), kind).await.0);
        assert!(!seen(layer().extract_metadata(false), kind).await.0);
    }
}

#[tokio::test]
async fn prefixes_are_those_of_the_full_method() {
    for (include, ignore, published) in [
        (&[][..], &[][..], true),
        (&["/test.Echo/"], &[], true),
        (&["/test.Echo/Server"], &[], false),
        (&["/test.Echo/Server", "/test.Echo/Un"], &[], true),
        (&["test.Echo/"], &[], false),
        (&[], &["/test.Echo/Unary"], false),
        (&[], &["/test.Echo/Server", "/grpc.health.v1.Health/"], true),
        (&["/test."], &["/test.Echo/Un"], false),
        (&["/test.Echo/Unary"], &["/test"], false),
        (&["/other"], &["/grpc"], false),
        (&[""], &[], true),
        (&[], &[""], false),
    ] {
        let mut layer = layer();
        for prefix in include {
            layer = layer.include_prefix(prefix);
        }
        for prefix in ignore {
            layer = layer.ignore_prefix(prefix);
        }
        let (seen, _) = seen(layer, Kind::Unary).await;
        assert_eq!(seen, published, "{include:?} without {ignore:?}");
    }
}

#[tokio::test]
async fn service_and_method_are_published_if_asked_for() {
    for kind in Kind::ALL {
        let (_, without) = seen(layer(), kind).await;
        assert!(without.iter().all(|seen| seen.attributes.is_empty()));
        let (published, with) = seen(layer().method_attributes(), kind).await;
        assert!(published);
        for seen in with {
            let method = format!("{kind:?}");
            let expected = [
                ("rpc.service", "test.Echo".to_owned()),
                ("rpc.method", method),
            ];
            assert_eq!(seen.attributes, expected, "at {}", seen.at);
        }
    }
}

#[tokio::test]
async fn attributes_come_from_metadata() {
    set_up();
    let probe = Probe::default();
    let layer = layer().attribute("tenant", |call| {
        let tenant = call.headers.get("x-tenant")?.to_str().ok()?;
        Some(Cow::Borrowed(tenant))
    });
    let server = serve!(Server::builder().layer(layer), Echo(probe.clone()));
    let mut client = Client::connect(&server).await;
    let values = [
        ("x-tenant", "acme".to_owned()),
        ("traceparent", traceparent(fresh_ids())),
    ];
    let call = client.call(Kind::Unary, "/test.Echo/Unary", metadata(&values.into()));
    call.await.expect("served");
    for seen in probe.seen() {
        assert_eq!(
            seen.attributes,
            [("tenant", "acme".to_owned())],
            "at {}",
            seen.at
        );
    }
    assert_eq!(probe.places(), Kind::Unary.places());
}

/// A second service, which answers nothing.
#[derive(Clone)]
struct Other(Probe);

impl NamedService for Other {
    const NAME: &'static str = "test.Other";
}

impl tower::Service<http::Request<Body>> for Other {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        self.0
            .call(&tonic::metadata::MetadataMap::new())
            .see("other");
        std::future::ready(Ok(tonic::Status::not_found("nothing here").into_http()))
    }
}

#[tokio::test]
async fn a_layer_around_one_service_keeps_its_name_and_leaves_others_alone() {
    set_up();
    assert_eq!(<Profiling<Echo> as NamedService>::NAME, "test.Echo");
    let (probe, other, caller) = (Probe::default(), Probe::default(), fresh_ids());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let router = Server::builder()
        .add_service(layer().layer(Echo(probe.clone())))
        .add_service(Other(other.clone()));
    let server = tokio::spawn(async move {
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        router
            .serve_with_incoming(incoming)
            .await
            .expect("it serves");
    });
    let server = crate::echo::Running { address, server };
    let mut client = Client::connect(&server).await;
    client.call_from(Kind::Bidirectional, caller).await;
    probe.came_to(Kind::Bidirectional.places(), "layered").await;
    probe.assert_span(Some(caller), "layered");
    let result = client
        .call(Kind::Unary, "/test.Other/Any", metadata_of(caller))
        .await;
    assert_eq!(result.expect_err("not found").code(), tonic::Code::NotFound);
    assert_eq!(other.places(), ["other"]);
    other.assert_span(None, "not layered");
}
