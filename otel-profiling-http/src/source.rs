//! Where a request's context can be found. Always by value: a clone of somebody's `Context` that is kept can keep
//! a span from ending.

use http::{Extensions, HeaderMap, Request};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry::{Context, global, propagation::Extractor};
use otel_profiling::SpanIds;

/// The span of the OpenTelemetry context that is current on this thread.
pub(crate) fn current() -> Option<SpanIds> {
    Context::map_current(span_of)
}

/// What the request itself says: in its extensions, or else, if `extract_headers`, in its headers.
pub(crate) fn of_request<B>(request: &Request<B>, extract_headers: bool) -> Option<SpanIds> {
    of_extensions(request.extensions()).or_else(|| {
        extract_headers
            .then(|| of_headers(request.headers()))
            .flatten()
    })
}

fn span_of(context: &Context) -> Option<SpanIds> {
    // Asked first, since a context without a span makes an invalid one up.
    context
        .has_active_span()
        .then(|| SpanIds::from_span_context(context.span().span_context()))
        .flatten()
}

/// What a middleware left in a request's extensions.
pub(crate) fn of_extensions(extensions: &Extensions) -> Option<SpanIds> {
    let context = || extensions.get::<Context>().and_then(span_of);
    let span_context = || {
        extensions
            .get::<SpanContext>()
            .and_then(SpanIds::from_span_context)
    };
    context().or_else(span_context)
}

fn of_headers(headers: &HeaderMap) -> Option<SpanIds> {
    // On top of an empty context: a propagator returns what it was given where it finds nothing.
    let context = global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &Headers(headers))
    });
    span_of(&context)
}

/// A request's headers, as propagators read them. Values that are not visible ASCII are not there.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        let values = self.0.get_all(key).iter();
        let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then_some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    fn span_context(byte: u8) -> SpanContext {
        SpanContext::new(
            TraceId::from_bytes([byte; 16]),
            SpanId::from_bytes([byte; 8]),
            TraceFlags::default(),
            true,
            TraceState::NONE,
        )
    }

    fn ids(byte: u8) -> Option<SpanIds> {
        SpanIds::new([byte; 16], [byte; 8], 0)
    }

    #[test]
    fn a_context_in_the_extensions_comes_before_a_span_context() {
        let mut request = Request::new(());
        assert_eq!(of_request(&request, false), None);
        request.extensions_mut().insert(span_context(1));
        assert_eq!(of_request(&request, false), ids(1));
        let context = Context::new().with_remote_span_context(span_context(2));
        request.extensions_mut().insert(context);
        assert_eq!(of_request(&request, false), ids(2));
    }

    #[test]
    fn invalid_ones_are_passed_over() {
        let mut request = Request::new(());
        request.extensions_mut().insert(Context::new());
        request.extensions_mut().insert(SpanContext::NONE);
        assert_eq!(of_request(&request, true), None);
        request.extensions_mut().insert(span_context(3));
        assert_eq!(of_request(&request, false), ids(3));
    }

    #[test]
    fn header_values_that_are_not_text_are_not_there() {
        let mut headers = HeaderMap::new();
        headers.append("tracestate", "a=1".parse().unwrap());
        headers.append(
            "tracestate",
            http::HeaderValue::from_bytes(b"\xff").unwrap(),
        );
        headers.append("tracestate", "b=2".parse().unwrap());
        let headers = Headers(&headers);
        assert_eq!(headers.get_all("tracestate"), Some(vec!["a=1", "b=2"]));
        assert_eq!(headers.get_all("traceparent"), None);
        assert_eq!(headers.keys(), ["tracestate"]);
    }
}
