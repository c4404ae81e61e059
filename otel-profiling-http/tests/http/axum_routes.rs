//! In axum: the matched route as an attribute, and real OpenTelemetry layers around and inside a router.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::Request;
use http_body_util::BodyExt;
use otel_profiling_http::ProfilingLayer;
use tower::ServiceExt;

use crate::probe::{ALL_PLACES, Probe, handler};
use crate::telemetry::{fresh_ids, published, request_from, set_up};

fn router(probe: &Probe) -> Router {
    set_up();
    let probe = probe.clone();
    Router::new().route(
        "/users/{id}",
        get(move || async move {
            let response = handler(probe).await.unwrap_or_else(|never| match never {});
            response.map(Body::new)
        }),
    )
}

fn request(caller: otel_profiling::SpanIds) -> Request<Body> {
    request_from(caller).map(|()| Body::empty())
}

fn with_route() -> ProfilingLayer {
    ProfilingLayer::new().route(|request| {
        let path = request.extensions.get::<axum::extract::MatchedPath>()?;
        Some(path.as_str().into())
    })
}

async fn serve(router: Router, probe: &Probe) {
    let caller = fresh_ids();
    let response = router
        .oneshot(request(caller))
        .await
        .unwrap_or_else(|never| match never {});
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "abcde");
    assert_eq!(published(), None);
    assert_eq!(probe.places(), ALL_PLACES);
    for seen in probe.seen() {
        let ids = seen
            .ids
            .unwrap_or_else(|| panic!("nothing published at {}", seen.at));
        assert_eq!(ids.trace_id(), caller.trace_id(), "{}", seen.at);
    }
}

fn assert_route(probe: &Probe) {
    for seen in probe.seen() {
        let route = vec![("http.route", "/users/{id}".to_owned())];
        assert_eq!(seen.attributes, route, "{}", seen.at);
    }
}

#[tokio::test]
async fn the_route_is_published_below_each_opentelemetry_layer() {
    let level = tracing::Level::INFO;

    let probe = Probe::default();
    let otel = opentelemetry_instrumentation_tower::http::server::Layer::new();
    serve(router(&probe).layer(with_route()).layer(otel), &probe).await;
    assert_route(&probe);

    let probe = Probe::default();
    let otel = tower_otel::trace::HttpLayer::server(level);
    serve(router(&probe).layer(with_route()).layer(otel), &probe).await;
    assert_route(&probe);

    let probe = Probe::default();
    let otel = tower_otel::trace::HttpLayer::server(level).trace_body();
    serve(router(&probe).layer(with_route()).layer(otel), &probe).await;
    assert_route(&probe);

    let probe = Probe::default();
    let otel = axum_tracing_opentelemetry::middleware::OtelAxumLayer::default();
    serve(router(&probe).layer(with_route()).layer(otel), &probe).await;
    assert_route(&probe);
}

#[tokio::test]
async fn the_layer_can_stand_outside_in_a_router() {
    let level = tracing::Level::INFO;

    let probe = Probe::default();
    let otel = opentelemetry_instrumentation_tower::http::server::Layer::new();
    serve(
        router(&probe).layer(otel).layer(ProfilingLayer::new()),
        &probe,
    )
    .await;

    let probe = Probe::default();
    let otel = tower_otel::trace::HttpLayer::server(level).trace_body();
    serve(
        router(&probe).layer(otel).layer(ProfilingLayer::new()),
        &probe,
    )
    .await;

    let probe = Probe::default();
    let otel = axum_tracing_opentelemetry::middleware::OtelAxumLayer::default();
    serve(
        router(&probe).layer(otel).layer(ProfilingLayer::new()),
        &probe,
    )
    .await;
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn matched_path_is_the_route() {
    let probe = Probe::default();
    let layer = ProfilingLayer::new().extract_headers(true).matched_path();
    serve(router(&probe).route_layer(layer), &probe).await;
    assert_route(&probe);
}

/// Around the whole router nothing is routed yet: the attribute is left out, and the request served.
#[tokio::test]
async fn around_the_router_there_is_no_route() {
    use tower::Layer;

    let (probe, caller) = (Probe::default(), fresh_ids());
    let service = with_route().extract_headers(true).layer(router(&probe));
    let response = service
        .oneshot(request(caller))
        .await
        .unwrap_or_else(|never| match never {});
    response.into_body().collect().await.expect("a body");
    assert_eq!(probe.places(), ALL_PLACES);
    for seen in probe.seen() {
        assert_eq!(
            (seen.ids, seen.attributes),
            (Some(caller), vec![]),
            "{}",
            seen.at
        );
    }
}
