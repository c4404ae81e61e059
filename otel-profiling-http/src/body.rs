//! The response's body, published frame by frame: it streams long after the handler returned.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use otel_profiling::Record;
use pin_project_lite::pin_project;

use crate::context::publish_while;

pin_project! {
    /// Response body of [`Profiling`](crate::Profiling): the inner service's, which is polled and dropped with the
    /// request's context published. Frames, trailers, errors, size and end are the inner body's.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        // `None` only once it is dropped.
        #[pin]
        inner: Option<B>,
        record: Option<Record>,
    }

    impl<B> PinnedDrop for ResponseBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            publish_while(this.record.as_ref(), || this.inner.set(None));
        }
    }
}

impl<B> ResponseBody<B> {
    /// A body that publishes `record` around each frame; nothing if `None`.
    #[must_use]
    pub fn new(inner: B, record: Option<Record>) -> Self {
        Self {
            inner: Some(inner),
            record,
        }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    /// For layers that answer by themselves, with an empty body.
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(inner) => publish_while(this.record.as_ref(), || inner.poll_frame(cx)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
