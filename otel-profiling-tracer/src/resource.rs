//! From an OpenTelemetry resource to the process context, and which resource it is.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use opentelemetry::trace::TraceId;
use opentelemetry::{Context, Key};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Span, SpanData, SpanProcessor};
use otel_profiling::process_context::{self, PublishError, Value};
use otel_profiling::warning;

const SERVICE_INSTANCE_ID: &str = "service.instance.id";

/// Who named a resource, the least reliable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Detectors,
    Processor,
    Builder,
}

/// The best resource so far, and whether a provider was wrapped.
struct State {
    best: Option<(Source, Resource)>,
    wrapped: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    best: None,
    wrapped: false,
});

impl State {
    /// Takes `resource` unless a better source named one; says whether it did.
    fn offer(&mut self, source: Source, resource: Resource) -> bool {
        let better = self.best.as_ref().is_none_or(|(best, _)| *best <= source);
        if better {
            self.best = Some((source, resource));
        }
        better
    }
}

/// Publishes the process context with the best resource that is known, `explicit` above all.
pub(crate) fn publish(explicit: Option<Resource>) -> Result<(), PublishError> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    state.wrapped = true;
    match explicit {
        Some(resource) => state.offer(Source::Builder, resource),
        None => state.offer(Source::Detectors, Resource::builder().build()),
    };
    match &state.best {
        Some((_, resource)) => publish_resource(resource),
        None => Ok(()),
    }
}

fn publish_resource(resource: &Resource) -> Result<(), PublishError> {
    let mut attributes: Vec<_> = resource.iter().collect();
    // A resource has no order of its own; what is published should not change from run to run.
    attributes.sort_by_key(|(key, _)| *key);
    let generated = resource
        .get_ref(&Key::from_static_str(SERVICE_INSTANCE_ID))
        .is_none()
        .then(|| (SERVICE_INSTANCE_ID.to_owned(), instance_id().into()));
    let attributes = attributes
        .into_iter()
        .map(|(key, value)| (key.as_str().to_owned(), Value::from(value)))
        .chain(generated);
    match process_context::update_with(|context| context.replace_resource(attributes)) {
        // On such a platform nobody expects a profiler to find anything.
        Err(PublishError::Unsupported) => Ok(()),
        result => result,
    }
}

/// The generated `service.instance.id` of this process: a random UUID, the same at every call.
fn instance_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| uuid_v4(RandomIdGenerator::default().new_trace_id()))
}

/// RFC 9562 text form of a random UUID.
fn uuid_v4(random: TraceId) -> String {
    let mut bytes = random.to_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

/// A span processor that tells [`wrap`](crate::wrap) the real resource of the SDK's provider. It does nothing
/// with spans.
///
/// The SDK's builder passes the resource to its processors inside `build()`; there is no way to ask a
/// provider for it later. It may be added in any order, and takes precedence over the SDK's detectors.
///
/// ```
/// use opentelemetry_sdk::Resource;
/// use opentelemetry_sdk::trace::SdkTracerProvider;
/// use otel_profiling_tracer::{ResourceProcessor, wrap};
///
/// let provider = SdkTracerProvider::builder()
///     .with_resource(Resource::builder().with_service_name("checkout").build())
///     .with_span_processor(ResourceProcessor::new())
///     .build();
/// let provider = wrap(provider); // the process context now says service.name = checkout
/// ```
#[derive(Debug, Default)]
pub struct ResourceProcessor {
    _private: (),
}

impl ResourceProcessor {
    /// A processor for one provider.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl SpanProcessor for ResourceProcessor {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, _span: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        if state.offer(Source::Processor, resource.clone())
            && state.wrapped
            && let Err(error) = publish_resource(resource)
        {
            warning::log(&format!("the process context was not updated: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &'static str) -> Resource {
        Resource::builder_empty().with_service_name(name).build()
    }

    #[test]
    fn the_better_source_wins_in_any_order() {
        let offers = [
            (Source::Detectors, "detectors"),
            (Source::Processor, "processor"),
            (Source::Builder, "builder"),
        ];
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut state = State {
                best: None,
                wrapped: false,
            };
            for index in order {
                let (source, name) = offers[index];
                state.offer(source, named(name));
            }
            assert_eq!(state.best, Some((Source::Builder, named("builder"))));
        }
        let mut state = State {
            best: None,
            wrapped: false,
        };
        assert!(state.offer(Source::Processor, named("first")));
        assert!(
            state.offer(Source::Processor, named("second")),
            "the later provider counts"
        );
        assert!(!state.offer(Source::Detectors, named("detectors")));
    }

    #[test]
    fn a_generated_instance_id_is_a_random_uuid() {
        let id = instance_id();
        assert_eq!(id, instance_id());
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]));
        assert_eq!(
            uuid_v4(TraceId::from(u128::MAX)),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
    }
}
