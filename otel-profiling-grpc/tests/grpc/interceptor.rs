//! Ours in a chain after an interceptor that finds out the call's context.

use std::collections::HashMap;

use opentelemetry::trace::TraceContextExt as _;
use opentelemetry::{Context, global};
use otel_profiling_grpc::{ProfilingLayer, interceptor};
use tonic::metadata::MetadataMap;
use tonic::service::InterceptorLayer;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Status};
use tower::Layer as _;

use crate::echo::{Client, Echo, Kind, metadata_of, serve};
use crate::probe::Probe;
use crate::telemetry::{assert_nothing_on_four_workers, fresh_ids, set_up};

/// Leaves the context that the propagator finds in the metadata in the extensions.
fn otel(mut request: Request<()>) -> Result<Request<()>, Status> {
    let text = |value: &tonic::metadata::MetadataValue<_>| value.to_str().ok().map(str::to_owned);
    let traceparent = request.metadata().get("traceparent").and_then(text);
    let carrier: HashMap<_, _> = traceparent
        .map(|value| ("traceparent".to_owned(), value))
        .into_iter()
        .collect();
    let context = global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &carrier)
    });
    request.extensions_mut().insert(context);
    Ok(request)
}

/// Leaves the span context alone.
fn otel_span_context(request: Request<()>) -> Result<Request<()>, Status> {
    let mut request = otel(request)?;
    let context = request.extensions_mut().remove::<Context>();
    let span_context = context.map(|context| context.span().span_context().clone());
    request
        .extensions_mut()
        .insert(span_context.expect("otel leaves one"));
    Ok(request)
}

fn layer() -> ProfilingLayer {
    ProfilingLayer::new()
        .interceptor_slot(true)
        .method_attributes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_chain_found_is_published_from_the_first_poll_on() {
    set_up();
    for kind in Kind::ALL {
        for place in 0..4 {
            let what = format!("{kind:?}, chain {place}");
            let (probe, caller) = (Probe::default(), fresh_ids());
            let echo = Echo(probe.clone());
            let chain = interceptor().after(otel);
            let server = match place {
                0 => serve!(
                    Server::builder().layer(layer()),
                    InterceptedService::new(echo, chain)
                ),
                1 => serve!(
                    Server::builder()
                        .layer(layer())
                        .layer(InterceptorLayer::new(chain)),
                    echo
                ),
                2 => serve!(
                    Server::builder()
                        .layer(layer())
                        .layer(InterceptorLayer::new(otel_span_context))
                        .layer(InterceptorLayer::new(interceptor())),
                    echo
                ),
                _ => serve!(
                    Server::builder(),
                    layer().layer(InterceptedService::new(echo, chain))
                ),
            };
            let mut client = Client::connect(&server).await;
            client.call_from(kind, caller).await;
            probe.came_to(kind.places(), &what).await;
            probe.assert_span(Some(caller), &what);
            let method = format!("{kind:?}");
            for seen in probe.seen() {
                let attributes = [
                    ("rpc.service", "test.Echo".to_owned()),
                    ("rpc.method", method.clone()),
                ];
                assert_eq!(seen.attributes, attributes, "{what}: at {}", seen.at);
            }
            assert_nothing_on_four_workers().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_without_context_and_an_ignored_one_are_served() {
    set_up();
    let probe = Probe::default();
    let chain = interceptor().after(otel);
    let server = Server::builder().layer(layer().ignore_prefix("/test.Echo/Client"));
    let server = serve!(server, InterceptedService::new(Echo(probe.clone()), chain));
    let mut client = Client::connect(&server).await;
    let texts = client
        .call(Kind::Unary, "/test.Echo/Unary", MetadataMap::new())
        .await;
    assert_eq!(texts.expect("served"), ["abc"]);
    client.call_from(Kind::ClientStreaming, fresh_ids()).await;
    probe.assert_span(None, "without context");
    assert_eq!(
        probe.places().len(),
        Kind::Unary.places().len() + Kind::ClientStreaming.places().len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refused_call_is_not_handed_on() {
    set_up();
    let probe = Probe::default();
    let refuse = |_: Request<()>| Err(Status::unauthenticated("who are you?"));
    let server = Server::builder().layer(layer());
    let chain = interceptor().after(refuse);
    let server = serve!(server, InterceptedService::new(Echo(probe.clone()), chain));
    let mut client = Client::connect(&server).await;
    let result = client
        .call(Kind::Unary, "/test.Echo/Unary", metadata_of(fresh_ids()))
        .await;
    assert_eq!(
        result.expect_err("refused").code(),
        tonic::Code::Unauthenticated
    );
    assert_eq!(probe.places(), [""; 0]);
    assert_nothing_on_four_workers().await;
}
