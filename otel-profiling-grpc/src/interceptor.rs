//! The interceptor: for chains in which another interceptor finds out the call's context.
//!
//! An interceptor sees metadata and extensions of a request and returns before the handler is called: it can wrap
//! nothing. So it leaves the context in the slot that the layer put into the extensions, for the layer to publish in
//! all later polls, and publishes it itself for the rest of the poll in which it runs.

use std::sync::Once;

use otel_profiling::warning;
use otel_profiling_http::ContextSlot;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// An interceptor that publishes the context which the interceptors before it left in the request's extensions, as an
/// `opentelemetry::Context` or a `SpanContext`.
///
/// It needs a [`ProfilingLayer`](crate::ProfilingLayer) with
/// [`interceptor_slot(true)`](crate::ProfilingLayer::interceptor_slot) around the service, which publishes the context
/// from there on; without one it warns once, and the call is served. It never refuses a call.
///
/// ```
/// use opentelemetry::propagation::TextMapPropagator as _;
/// use otel_profiling_grpc::{ProfilingLayer, interceptor};
/// use opentelemetry_sdk::propagation::TraceContextPropagator;
/// use tonic::{Request, Status};
///
/// fn otel(mut request: Request<()>) -> Result<Request<()>, Status> {
///     let parent = request.metadata().get("traceparent").and_then(|value| value.to_str().ok());
///     let carrier = parent.map(|parent| ("traceparent".to_owned(), parent.to_owned()));
///     let carrier: std::collections::HashMap<_, _> = carrier.into_iter().collect();
///     let context = TraceContextPropagator::new().extract(&carrier);
///     request.extensions_mut().insert(context);
///     Ok(request)
/// }
///
/// let server = tonic::transport::Server::builder()
///     .layer(ProfilingLayer::new().interceptor_slot(true))
///     .layer(tonic::service::InterceptorLayer::new(interceptor().after(otel)));
///     // or GreeterServer::with_interceptor(greeter, interceptor().after(otel))
/// # let _ = server;
/// ```
pub fn interceptor() -> ProfilingInterceptor {
    ProfilingInterceptor(())
}

/// What [`interceptor`] returns.
#[derive(Clone, Copy, Debug)]
#[must_use = "an interceptor does nothing until a service has it"]
pub struct ProfilingInterceptor(());

impl ProfilingInterceptor {
    /// An interceptor that calls `first`, and then this one if `first` does not refuse the call.
    pub fn after<I: Interceptor + Clone>(mut self, mut first: I) -> impl Interceptor + Clone {
        move |request| self.call(first.call(request)?)
    }
}

impl Interceptor for ProfilingInterceptor {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        // Nothing is published at once where the interceptor is called outside of the layer's polls: the next poll does.
        if !ContextSlot::publish_from(request.extensions()) {
            warn_once();
        }
        Ok(request)
    }
}

fn warn_once() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        warning::log(
            "the gRPC interceptor publishes nothing: no layer around the service takes the context from it; \
             add `.layer(otel_profiling_grpc::ProfilingLayer::new().interceptor_slot(true))` to the server",
        );
    });
}
