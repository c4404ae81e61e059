//! A service whose handler, body and destructors write down what is published while they run.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use otel_profiling::{SpanIds, published};

use crate::telemetry::published as published_ids;

/// What was published at one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at: &'static str,
    pub(crate) ids: Option<SpanIds>,
    pub(crate) attributes: Vec<(&'static str, String)>,
}

/// Writes down what is published.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe(Arc<Mutex<Vec<Seen>>>);

impl Probe {
    pub(crate) fn see(&self, at: &'static str) {
        let seen = Seen {
            at,
            ids: published_ids(),
            attributes: published::attributes(),
        };
        self.0.lock().expect("no panic inside").push(seen);
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.lock().expect("no panic inside").clone()
    }

    /// Where something was seen, in order.
    pub(crate) fn places(&self) -> Vec<&'static str> {
        self.seen().iter().map(|seen| seen.at).collect()
    }

    /// Sees once more when it is dropped.
    pub(crate) fn on_drop(&self, at: &'static str) -> OnDrop {
        OnDrop(self.clone(), at)
    }
}

#[derive(Debug)]
pub(crate) struct OnDrop(Probe, &'static str);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.see(self.1);
    }
}

/// Three polls, a response with a body of two data frames and trailers.
pub(crate) async fn handler(probe: Probe) -> Result<Response<ProbeBody>, Infallible> {
    probe.see("first poll");
    let _guard = probe.on_drop("handler dropped");
    tokio::task::yield_now().await;
    probe.see("second poll");
    tokio::task::yield_now().await;
    probe.see("third poll");
    Ok(Response::new(ProbeBody::new(probe.clone())))
}

/// The places of [`handler`] and its body, if it runs to the end.
pub(crate) const ALL_PLACES: [&str; 10] = [
    "first poll",
    "second poll",
    "third poll",
    "handler dropped",
    "frame pending",
    "data frame",
    "data frame",
    "trailers",
    "end",
    "body dropped",
];

/// A body that streams: it is pending once, then yields two data frames and trailers.
#[derive(Debug)]
pub(crate) struct ProbeBody {
    frames: VecDeque<Frame<Bytes>>,
    pending: bool,
    _dropped: OnDrop,
    probe: Probe,
}

impl ProbeBody {
    pub(crate) fn new(probe: Probe) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", http::HeaderValue::from_static("7"));
        Self {
            frames: VecDeque::from([
                Frame::data(Bytes::from_static(b"abc")),
                Frame::data(Bytes::from_static(b"de")),
                Frame::trailers(trailers),
            ]),
            pending: true,
            _dropped: probe.on_drop("body dropped"),
            probe,
        }
    }
}

impl Body for ProbeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::take(&mut self.pending) {
            self.probe.see("frame pending");
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = self.frames.pop_front();
        self.probe.see(match &frame {
            Some(frame) if frame.is_data() => "data frame",
            Some(_) => "trailers",
            None => "end",
        });
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self
            .frames
            .iter()
            .filter_map(Frame::data_ref)
            .map(Bytes::len);
        SizeHint::with_exact(left.sum::<usize>() as u64)
    }
}
