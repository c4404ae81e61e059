//! The service that the layer makes.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::body::ResponseBody;
use crate::context::RequestContext;
use crate::future::ResponseFuture;
use crate::layer::Config;

/// Publishes the trace context of each request while the inner service works on it; see
/// [`ProfilingLayer`](crate::ProfilingLayer).
#[derive(Clone, Debug)]
pub struct Profiling<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> Profiling<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service, without the layer.
    pub fn into_inner(self) -> S {
        self.inner
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
        // No request is being worked on.
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut context, request) = RequestContext::of(request, &self.config);
        let future = context.call(|| self.inner.call(request));
        ResponseFuture::new(future, context)
    }
}
