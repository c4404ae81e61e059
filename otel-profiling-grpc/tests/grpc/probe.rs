//! Writes down what is published at places of a call's handler.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use otel_profiling::{SpanIds, published};
use tonic::metadata::MetadataMap;

use crate::telemetry::ended;

/// What was published at one place.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: &'static str,
    /// The caller, as the handler of the call knows it.
    pub(crate) caller: Option<[u8; 16]>,
    pub(crate) ids: Option<SpanIds>,
    pub(crate) attributes: Vec<(&'static str, String)>,
    /// Spans of the caller's trace that had ended.
    pub(crate) ended: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Probe(Arc<Mutex<Vec<Seen>>>);

impl Probe {
    /// The probe for the call with this metadata.
    pub(crate) fn call(&self, metadata: &MetadataMap) -> Call {
        let caller = metadata.get("caller").and_then(|value| value.to_str().ok());
        Call {
            probe: self.clone(),
            caller: caller
                .and_then(|caller| u128::from_str_radix(caller, 16).ok())
                .map(u128::to_be_bytes),
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.lock().expect("no panic inside").clone()
    }

    pub(crate) fn places(&self) -> Vec<&'static str> {
        self.seen().iter().map(|seen| seen.at).collect()
    }

    /// Waits until the server has come to the last of `places`, and asserts that it came to all of them in this order.
    pub(crate) async fn came_to(&self, places: &[&str], what: &str) {
        for _ in 0..5_000 {
            if self.places().len() >= places.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(self.places(), places, "{what}");
    }

    /// Asserts that the trace of `caller` was published everywhere.
    #[track_caller]
    pub(crate) fn assert_trace(&self, caller: SpanIds, what: &str) {
        for seen in self.seen() {
            let trace_id = seen.ids.map(|ids| ids.trace_id());
            assert_eq!(trace_id, Some(caller.trace_id()), "{what}: at {}", seen.at);
        }
    }

    /// Asserts that this span was published everywhere.
    #[track_caller]
    pub(crate) fn assert_span(&self, ids: Option<SpanIds>, what: &str) {
        for seen in self.seen() {
            assert_eq!(seen.ids, ids, "{what}: at {}", seen.at);
        }
    }
}

/// The probe of one call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    probe: Probe,
    caller: Option<[u8; 16]>,
}

impl Call {
    pub(crate) fn see(&self, at: &'static str) {
        let seen = Seen {
            at,
            caller: self.caller,
            ids: published::thread_context().map(|context| context.ids),
            attributes: published::attributes(),
            ended: self.caller.map_or(0, ended),
        };
        self.probe.0.lock().expect("no panic inside").push(seen);
    }

    /// Sees once more when it is dropped.
    pub(crate) fn on_drop(&self, at: &'static str) -> OnDrop {
        OnDrop(self.clone(), at)
    }
}

#[derive(Debug)]
pub(crate) struct OnDrop(Call, &'static str);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.see(self.1);
    }
}
