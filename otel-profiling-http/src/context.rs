//! The context of one request: what is published while somebody works on it, and how it becomes known.
//!
//! Sources, the most trusted first:
//! 1. what was handed over through the request's [`ContextSlot`], if the layer puts one there;
//! 2. the OpenTelemetry context that is current at the future's first poll, or was already when the service was called;
//! 3. the request's extensions, then its headers;
//! 4. the first span that is entered inside the layer.
//!
//! Everything is kept by value.

use http::Request;
use otel_profiling::{Record, SpanIds, first_span_entered, publish_scope};

use crate::attributes::Values;
use crate::layer::Config;
use crate::slot::ContextSlot;
use crate::source;

/// The context of one request, from the call of the service until its future is dropped.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// What is published; `None` while nothing is known.
    record: Option<Record>,
    /// The request's attributes, unless the slot has them.
    values: Values,
    slot: Option<ContextSlot>,
    phase: Phase,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The request is not to be published.
    Excluded,
    /// The service was called.
    Called,
    /// The future was polled.
    Polled,
}

impl RequestContext {
    /// A request that is not to be published.
    const EXCLUDED: Self = Self {
        record: None,
        values: Values::NONE,
        slot: None,
        phase: Phase::Excluded,
    };

    /// Takes from a request, and from the thread, what is known when the service is called.
    pub(crate) fn of<B>(request: Request<B>, config: &Config) -> (Self, Request<B>) {
        let mut request = request;
        if !config.filter.admits(request.uri().path()) {
            if config.slot {
                request.extensions_mut().insert(ContextSlot::CLOSED);
            }
            return (Self::EXCLUDED, request);
        }
        let known =
            source::current().or_else(|| source::of_request(&request, config.extract_headers));
        let (mut values, mut slot) = (Values::NONE, None);
        if !config.attributes.is_empty() {
            let (parts, body) = request.into_parts();
            values = Values::read(&config.attributes, &parts);
            request = Request::from_parts(parts, body);
        }
        if config.slot {
            let values = std::mem::replace(&mut values, Values::NONE);
            let given = slot.insert(ContextSlot::new(values));
            request.extensions_mut().insert(given.clone());
        }
        let mut context = Self {
            record: None,
            values,
            slot,
            phase: Phase::Called,
        };
        if let Some(ids) = known {
            context.adopt(ids);
        }
        (context, request)
    }

    /// Calls `work` with the request's context published; for the call of the inner service.
    pub(crate) fn call<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.publish(work)
    }

    /// Calls `work` with the request's context published; for one poll of the inner future.
    pub(crate) fn poll<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if self.phase == Phase::Called {
            self.phase = Phase::Polled;
            if let Some(ids) = source::current() {
                self.adopt(ids);
            }
        }
        self.publish(work)
    }

    /// Calls `work`, which does away with the inner future, with the request's context published.
    pub(crate) fn finish<R>(&mut self, work: impl FnOnce() -> R) -> R {
        publish_while(self.record(), work)
    }

    /// What is published from here on: for the response's body.
    pub(crate) fn record(&mut self) -> Option<&Record> {
        if let Some(given) = self.slot.as_ref().and_then(ContextSlot::record) {
            self.record = Some(given);
        }
        self.record.as_ref()
    }

    fn publish<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if self.slot.is_some() {
            // Who hands a context over may publish it for the rest of this call.
            self.publish_known(|| publish_scope(work))
        } else {
            self.publish_known(work)
        }
    }

    fn publish_known<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if let Some(record) = self.record() {
            return record.publish_while(work);
        }
        if self.phase == Phase::Excluded {
            return work();
        }
        let (result, seen) = first_span_entered(work);
        if let Some(ids) = seen {
            self.adopt(ids);
        }
        result
    }

    /// Publishes this span from now on.
    fn adopt(&mut self, ids: SpanIds) {
        if self.phase != Phase::Excluded
            && self
                .record
                .as_ref()
                .is_none_or(|record| record.ids() != ids)
        {
            let values = self.slot.as_ref().map_or(&self.values, ContextSlot::values);
            self.record = Some(values.record(ids));
        }
    }
}

/// Calls `work` with `record`, if there is one, published.
pub(crate) fn publish_while<R>(record: Option<&Record>, work: impl FnOnce() -> R) -> R {
    match record {
        Some(record) => record.publish_while(work),
        None => work(),
    }
}
