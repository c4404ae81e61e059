//! A thousand requests at a time on four workers, sampled from outside by eBPF: no sample inside a handler or a
//! response's body has another request's trace id, or none.
//!
//! Requests with an even number work in one function and those with an odd number in another, and their trace ids
//! tell which they are, so that each sample can be checked by itself. The service also checks every one of its steps
//! from inside. It runs in a process of its own: the test starts itself again. A service that is wrong on purpose
//! shows that both checks see what they are there for.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "http_outside/load.rs"]
mod load;
#[path = "http_outside/process.rs"]
mod process;
#[path = "http_outside/samples.rs"]
mod samples;
#[path = "../otel-profiling-http/examples/concurrent/service.rs"]
mod service;

use std::cell::RefCell;

use opentelemetry::{Context, ContextGuard, global};
use otel_profiling_http::ProfilingLayer;
use tower::{Layer as _, ServiceExt as _};

use load::handler;
use samples::record;

#[test]
fn http_layer_alone() {
    let recorded = record("http_layer_alone", |findings| {
        let layer = ProfilingLayer::new().extract_headers(true).method(true);
        load::run(findings, |findings| layer.layer(handler(findings)));
    });
    let Some(recorded) = recorded else { return };
    recorded.assert_each_request_has_its_own_id();
}

#[test]
fn http_layer_inside_an_opentelemetry_layer() {
    let case = "http_layer_inside_an_opentelemetry_layer";
    let recorded = record(case, |findings| {
        let otel = opentelemetry_instrumentation_tower::http::server::Layer::new();
        load::run(findings, |findings| {
            otel.layer(ProfilingLayer::new().layer(handler(findings)))
        });
    });
    let Some(recorded) = recorded else { return };
    recorded.assert_each_request_has_its_own_id();
}

#[test]
fn grpc_layer_alone() {
    let recorded = record("grpc_layer_alone", |findings| {
        let layer = otel_profiling_grpc::ProfilingLayer::new().extract_metadata(true);
        load::run(findings, |findings| layer.layer(handler(findings)));
    });
    let Some(recorded) = recorded else { return };
    recorded.assert_each_request_has_its_own_id();
}

/// A context that is attached once, and not around every poll, is other requests' context, too.
#[test]
fn a_context_that_stays_attached_is_detected() {
    thread_local! {
        static ATTACHED: RefCell<Option<ContextGuard>> = const { RefCell::new(None) };
    }
    let case = "a_context_that_stays_attached_is_detected";
    let recorded = record(case, |findings| {
        load::run(findings, |findings| {
            handler(findings).map_request(|request: http::Request<()>| {
                let headers = Headers(request.headers());
                let context = global::get_text_map_propagator(|global| {
                    global.extract_with_context(&Context::new(), &headers)
                });
                drop(ATTACHED.take());
                ATTACHED.set(Some(context.attach()));
                request
            })
        });
    });
    let Some(recorded) = recorded else { return };
    assert!(recorded.seen.others > 0, "{recorded:?}");
    assert!(recorded.inside.others > 0, "{recorded:?}");
}

struct Headers<'a>(&'a http::HeaderMap);

impl opentelemetry::propagation::Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
