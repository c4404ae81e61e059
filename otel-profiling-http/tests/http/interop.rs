//! With the OpenTelemetry layers that exist, inside and outside of each: the published trace id is the request's, from
//! the handler's first poll to the drop of the body, nothing stays behind, and spans end when they end without us.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use opentelemetry::trace::TraceContextExt;
use otel_profiling::SpanIds;
use otel_profiling_http::ProfilingLayer;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::probe::{ALL_PLACES, Probe, handler};
use crate::telemetry::{
    assert_nothing_on_four_workers, ended, fresh_ids, published, request_from, set_up,
};

type Boxed =
    BoxCloneSyncService<Request<()>, Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible>;

#[derive(Clone, Copy, Debug)]
enum Otel {
    /// opentelemetry-instrumentation-tower.
    Contrib,
    /// tower-otel.
    Tower,
    /// tower-otel with body tracing.
    TowerWithBody,
    /// axum-tracing-opentelemetry.
    AxumTracing,
}

const OTEL_LAYERS: [Otel; 4] = [
    Otel::Contrib,
    Otel::Tower,
    Otel::TowerWithBody,
    Otel::AxumTracing,
];

/// Where our layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Absent,
    Inside,
    Outside,
}

fn boxed<S, B>(service: S) -> Boxed
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    BoxCloneSyncService::new(
        service.map_response(|response: Response<B>| response.map(UnsyncBoxBody::new)),
    )
}

fn stack(otel: Otel, order: Order, probe: Probe) -> Boxed {
    macro_rules! around {
        ($layer:expr, $inner:expr) => {
            match order {
                Order::Absent => boxed($layer.layer($inner)),
                Order::Inside => boxed($layer.layer(ProfilingLayer::new().layer($inner))),
                Order::Outside => boxed(ProfilingLayer::new().layer($layer.layer($inner))),
            }
        };
    }
    set_up();
    let inner = service_fn(move |_request: Request<()>| handler(probe.clone()));
    let level = tracing::Level::INFO;
    match otel {
        Otel::Contrib => around!(
            opentelemetry_instrumentation_tower::http::server::Layer::new(),
            inner
        ),
        Otel::Tower => around!(tower_otel::trace::HttpLayer::server(level), inner),
        Otel::TowerWithBody => around!(
            tower_otel::trace::HttpLayer::server(level).trace_body(),
            inner
        ),
        Otel::AxumTracing => around!(
            axum_tracing_opentelemetry::middleware::OtelAxumLayer::default(),
            inner
        ),
    }
}

/// Each layer in both orders.
fn all() -> impl Iterator<Item = (Otel, Order)> {
    let orders = [Order::Inside, Order::Outside];
    OTEL_LAYERS
        .into_iter()
        .flat_map(move |otel| orders.map(|order| (otel, order)))
}

/// Asserts that the request's trace, and its one span, were published everywhere.
#[track_caller]
fn assert_seen(probe: &Probe, caller: SpanIds, places: &[&str], what: &str) {
    assert_eq!(probe.places(), places, "{what}");
    let seen = probe.seen();
    let first = seen[0].ids;
    for seen in seen {
        let ids = seen
            .ids
            .unwrap_or_else(|| panic!("{what}: nothing published at {}", seen.at));
        assert_eq!(ids.trace_id(), caller.trace_id(), "{what}: at {}", seen.at);
        assert_ne!(
            ids.span_id(),
            caller.span_id(),
            "{what}: the caller's span at {}",
            seen.at
        );
        assert_eq!(Some(ids), first, "{what}: another span at {}", seen.at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_requests_trace_is_published_from_the_first_poll_to_the_drop_of_the_body() {
    for (otel, order) in all() {
        let what = format!("{order:?} of {otel:?}");
        for _ in 0..20 {
            let (probe, caller) = (Probe::default(), fresh_ids());
            let service = stack(otel, order, probe.clone());
            let request = tokio::spawn(async move {
                let response = service
                    .oneshot(request_from(caller))
                    .await
                    .expect("infallible");
                tokio::task::yield_now().await;
                response
                    .into_body()
                    .collect()
                    .await
                    .expect("infallible")
                    .to_bytes()
            });
            assert_eq!(
                request.await.expect("no panic"),
                Bytes::from_static(b"abcde")
            );
            assert_seen(&probe, caller, &ALL_PLACES, &what);
        }
        assert_nothing_on_four_workers().await;
    }
}

/// Without our layer nothing is published where the OpenTelemetry layers leave off: what the layer is for.
#[tokio::test]
async fn without_the_layer_bodies_and_drops_are_not_published() {
    for otel in OTEL_LAYERS {
        let probe = Probe::default();
        let service = stack(otel, Order::Absent, probe.clone());
        let response = service
            .oneshot(request_from(fresh_ids()))
            .await
            .expect("infallible");
        drop(response.into_body().collect().await);
        let body = &probe.seen()[4..];
        assert!(
            body.iter().all(|seen| seen.ids.is_none()),
            "{otel:?}: {body:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_drop_of_a_cancelled_request_is_published() {
    for (otel, order) in all() {
        let what = format!("{order:?} of {otel:?}");
        let (probe, caller) = (Probe::default(), fresh_ids());
        let service = stack(otel, order, probe.clone());
        tokio::spawn(async move {
            let mut future = by_hand(service.oneshot(request_from(caller)));
            future.poll_once().await;
            future.poll_once().await;
            assert_eq!(published(), None);
            drop(future);
            assert_eq!(published(), None);
        })
        .await
        .expect("no panic");
        assert_seen(
            &probe,
            caller,
            &["first poll", "second poll", "handler dropped"],
            &what,
        );
        assert_nothing_on_four_workers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_drop_of_a_body_that_nobody_finished_is_published() {
    for (otel, order) in all() {
        let what = format!("{order:?} of {otel:?}");
        let (probe, caller) = (Probe::default(), fresh_ids());
        let service = stack(otel, order, probe.clone());
        tokio::spawn(async move {
            let response = service
                .oneshot(request_from(caller))
                .await
                .expect("infallible");
            let mut body = response.into_body();
            body.frame().await.expect("a frame").expect("infallible");
            assert_eq!(published(), None);
        })
        .await
        .expect("no panic");
        let places = [&ALL_PLACES[..6], &["body dropped"]].concat();
        assert_seen(&probe, caller, &places, &what);
        assert_nothing_on_four_workers().await;
    }
}

/// How many spans of the request had ended at each point of its life.
async fn ends(otel: Otel, order: Order, finish: bool) -> Vec<usize> {
    let caller = fresh_ids();
    let service = stack(otel, order, Probe::default());
    let mut ends = Vec::new();
    let mut point = || ends.push(ended(caller.trace_id()));
    let mut future = by_hand(service.oneshot(request_from(caller)));
    point();
    if !finish {
        future.poll_once().await;
        point();
        drop(future);
        point();
        return ends;
    }
    let response = loop {
        if let Some(response) = future.poll_once().await {
            break response.expect("infallible");
        }
        point();
    };
    point();
    drop(future);
    point();
    let mut body = response.into_body();
    while let Some(_frame) = body.frame().await {
        point();
    }
    point();
    drop(body);
    point();
    ends
}

#[tokio::test]
async fn spans_end_exactly_when_they_end_without_the_layer() {
    for otel in OTEL_LAYERS {
        for finish in [true, false] {
            let without = ends(otel, Order::Absent, finish).await;
            assert_eq!(
                without.last(),
                Some(&1),
                "{otel:?}: the span has ended: {without:?}"
            );
            for order in [Order::Inside, Order::Outside] {
                let with = ends(otel, order, finish).await;
                assert_eq!(with, without, "{order:?} of {otel:?}");
            }
        }
    }
}

/// A span of the handler's own is published instead while it is current, and the request's again afterwards.
#[tokio::test]
async fn spans_of_the_handler_are_published_while_they_are_current() {
    use opentelemetry::trace::Tracer as _;

    set_up();
    let probe = Probe::default();
    let inner = {
        let probe = probe.clone();
        service_fn(move |_request: Request<()>| {
            let probe = probe.clone();
            async move {
                probe.see("before");
                let span = opentelemetry::global::tracer("tests").start("inner");
                let guard = opentelemetry::Context::current_with_span(span).attach();
                probe.see("inside");
                drop(guard);
                probe.see("after");
                Ok::<_, Infallible>(Response::new(http_body_util::Empty::<Bytes>::new()))
            }
        })
    };
    let otel = opentelemetry_instrumentation_tower::http::server::Layer::new();
    let service = otel.layer(ProfilingLayer::new().method(true).layer(inner));
    let caller = fresh_ids();
    service
        .oneshot(request_from(caller))
        .await
        .expect("infallible");
    let seen = probe.seen();
    let ids: Vec<_> = seen
        .iter()
        .map(|seen| seen.ids.expect("published"))
        .collect();
    assert!(ids.iter().all(|ids| ids.trace_id() == caller.trace_id()));
    assert_ne!(ids[0], ids[1], "the inner span is another one");
    assert_eq!(ids[0], ids[2]);
    for seen in seen {
        let expected = vec![("http.request.method", "GET".to_owned())];
        assert_eq!(
            seen.attributes, expected,
            "{}: inherited by spans below",
            seen.at
        );
    }
}

/// Outside, the layer learns of the request's span only when that is entered, and its attributes come too late for that
/// poll, but not for later ones; unless the trace is known from the headers.
#[tokio::test]
async fn attributes_of_a_layer_that_stands_outside() {
    set_up();
    let otel = opentelemetry_instrumentation_tower::http::server::Layer::new;
    let method = vec![("http.request.method", "GET".to_owned())];
    for (headers, in_first_poll) in [(false, vec![]), (true, method.clone())] {
        let probe = Probe::default();
        let inner = probe.clone();
        let service = otel().layer(service_fn(move |_: Request<()>| handler(inner.clone())));
        let layer = ProfilingLayer::new().method(true).extract_headers(headers);
        let request = request_from(fresh_ids());
        let response = layer.layer(service).oneshot(request).await;
        let body = response.expect("infallible").into_body();
        body.collect().await.expect("infallible");
        assert_eq!(probe.places(), ALL_PLACES);
        for (index, seen) in probe.seen().into_iter().enumerate() {
            let expected = if index == 0 { &in_first_poll } else { &method };
            assert_eq!(&seen.attributes, expected, "{}", seen.at);
        }
    }
}

/// The layers take nothing away from each other: the current context in the handler is the OpenTelemetry layer's.
#[tokio::test]
async fn the_current_context_is_left_alone() {
    set_up();
    let parents = service_fn(move |_request: Request<()>| async move {
        let current = opentelemetry::Context::map_current(|context| {
            SpanIds::from_span_context(context.span().span_context())
        });
        assert_eq!(current, published());
        Ok::<_, Infallible>(Response::new(http_body_util::Empty::<Bytes>::new()))
    });
    let otel = opentelemetry_instrumentation_tower::http::server::Layer::new();
    let caller = fresh_ids();
    let inside = otel.layer(ProfilingLayer::new().layer(parents));
    inside
        .oneshot(request_from(caller))
        .await
        .expect("infallible");
    assert_eq!(
        ended(caller.trace_id()),
        1,
        "the layer makes no span of its own"
    );
}

/// A future that is polled by hand.
struct ByHand<F>(std::pin::Pin<Box<F>>);

fn by_hand<F: Future>(future: F) -> ByHand<F> {
    ByHand(Box::pin(future))
}

impl<F: Future> ByHand<F> {
    /// Polls once: the output, if it is ready.
    async fn poll_once(&mut self) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match self.0.as_mut().poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
