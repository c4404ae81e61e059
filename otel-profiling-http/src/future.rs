//! The response's future: publishes the request's context around every poll, and hands it on to the body.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::context::RequestContext;

pin_project! {
    /// Future of [`Profiling`](crate::Profiling): the inner service's, which is polled and dropped with the request's
    /// context published.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // `None` only once it is dropped.
        #[pin]
        inner: Option<F>,
        context: RequestContext,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.context.finish(|| this.inner.set(None));
        }
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn new(inner: F, context: RequestContext) -> Self {
        Self {
            inner: Some(inner),
            context,
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Pending;
        };
        let context = this.context;
        context.poll(|| inner.poll(cx)).map_ok(|response| {
            // A reference counted, not a second record: the future publishes it once more when it is dropped.
            let record = context.record().cloned();
            response.map(|body| ResponseBody::new(body, record))
        })
    }
}
