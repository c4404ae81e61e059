//! The body is the inner service's in everything but what is published.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use otel_profiling::Record;
use otel_profiling_http::ResponseBody;

use crate::probe::{Probe, ProbeBody};
use crate::telemetry::{fresh_ids, published};

fn wrapped(probe: &Probe) -> ResponseBody<ProbeBody> {
    ResponseBody::new(
        ProbeBody::new(probe.clone()),
        Some(Record::new(fresh_ids())),
    )
}

#[tokio::test]
async fn data_and_trailers_pass_through() {
    let collected = wrapped(&Probe::default())
        .collect()
        .await
        .expect("infallible");
    assert_eq!(collected.trailers().expect("trailers")["x-checksum"], "7");
    assert_eq!(collected.to_bytes(), "abcde");
}

#[tokio::test]
async fn size_and_end_follow_the_inner_body() {
    let mut body = wrapped(&Probe::default());
    let mut seen = Vec::new();
    loop {
        seen.push((body.size_hint().exact(), body.is_end_stream()));
        if body.frame().await.is_none() {
            break;
        }
    }
    assert_eq!(
        seen,
        [
            (Some(5), false),
            (Some(2), false),
            (Some(0), false),
            (Some(0), true)
        ]
    );
    // Asking is not polling: nothing is published for it, and servers ask outside of any request.
    assert_eq!(published(), None);
}

#[test]
fn the_default_body_is_the_inner_bodys_default() {
    let body = ResponseBody::<Full<Bytes>>::default();
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
}

/// Fails in its second frame.
struct Failing(u8);

impl Body for Failing {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0 += 1;
        Poll::Ready(match self.0 {
            1 => Some(Ok(Frame::data(Bytes::from_static(b"first")))),
            2 => Some(Err("connection to the disk lost")),
            _ => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(3);
        hint.set_upper(9);
        hint
    }
}

#[tokio::test]
async fn errors_pass_through() {
    let mut body = ResponseBody::new(Failing(0), Some(Record::new(fresh_ids())));
    let hint = body.size_hint();
    assert_eq!((hint.lower(), hint.upper()), (3, Some(9)));
    assert!(body.frame().await.expect("a frame").is_ok());
    let error = body.frame().await.expect("an error").err();
    assert_eq!(error, Some("connection to the disk lost"));
    assert!(body.frame().await.is_none());
    assert_eq!(published(), None);
}

#[tokio::test]
async fn a_body_without_a_record_publishes_nothing() {
    let probe = Probe::default();
    let body = ResponseBody::new(ProbeBody::new(probe.clone()), None);
    body.collect().await.expect("infallible");
    let seen = probe.seen();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|seen| seen.ids.is_none()));
}

/// The type is as free as the inner one: servers send bodies between threads.
#[test]
fn bodies_and_futures_are_as_send_as_what_they_wrap() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    fn unpin<T: Unpin>() {}
    send::<ResponseBody<Full<Bytes>>>();
    sync::<ResponseBody<Full<Bytes>>>();
    unpin::<ResponseBody<Full<Bytes>>>();
    send::<otel_profiling_http::ResponseFuture<std::future::Ready<()>>>();
    sync::<otel_profiling_http::ResponseFuture<std::future::Ready<()>>>();
}
