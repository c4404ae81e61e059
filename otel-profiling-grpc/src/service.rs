//! The service that the layer makes: the HTTP crate's, with its future and body, under the layered service's name.

use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::server::NamedService;
use tower_service::Service;

use otel_profiling_http::{ResponseBody, ResponseFuture};

/// Publishes the trace context of each call while the inner service works on it; see
/// [`ProfilingLayer`](crate::ProfilingLayer).
#[derive(Clone, Debug)]
pub struct Profiling<S> {
    inner: otel_profiling_http::Profiling<S>,
}

impl<S> Profiling<S> {
    pub(crate) fn new(inner: otel_profiling_http::Profiling<S>) -> Self {
        Self { inner }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        self.inner.get_ref()
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        self.inner.get_mut()
    }

    /// The inner service, without the layer.
    pub fn into_inner(self) -> S {
        self.inner.into_inner()
    }
}

impl<S, B, ResB> Service<Request<B>> for Profiling<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.inner.call(request)
    }
}

impl<S: NamedService> NamedService for Profiling<S> {
    const NAME: &'static str = S::NAME;
}
