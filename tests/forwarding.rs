//! A second observer behind ours: it is called as if it had the slot to itself.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::context::{ContextObserver, ObserverContextView};
use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use otel_profiling::{Installed, Observer, SpanIds, published};

/// Numbers the contexts that it sees made, and writes down which numbers are entered and left.
#[derive(Default)]
struct Second {
    made: AtomicUsize,
    calls: Mutex<Vec<Call>>,
}

/// What was called, and the numbers of the contexts that were left and entered.
type Call = (&'static str, Option<usize>, Option<usize>);

struct Number(usize);

impl ObserverContextView for Number {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn number(context: &Context) -> Option<usize> {
    let view = context.observer_view().as_ref()?;
    Some(
        view.as_any()
            .downcast_ref::<Number>()
            .expect("its own view")
            .0,
    )
}

impl ContextObserver for Second {
    fn on_context_enter(&self, from: &Context, to: &Context) {
        // Ours was called first.
        let ids = SpanIds::from_span_context(to.span().span_context());
        assert_eq!(published::thread_context().map(|context| context.ids), ids);
        self.calls
            .lock()
            .unwrap()
            .push(("enter", number(from), number(to)));
    }

    fn on_context_exit(&self, from: &Context, to: &Context) {
        self.calls
            .lock()
            .unwrap()
            .push(("exit", number(from), number(to)));
    }

    fn make_view(&self, _context: &Context) -> Option<Arc<dyn ObserverContextView>> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(Number(number)))
    }
}

#[test]
fn both_observers_see_every_context() {
    let second = Arc::new(Second::default());
    let installed = Observer::new().forward_to(second.clone()).install();
    assert_eq!(installed, Ok(Installed::Now));

    let tracer = SdkTracerProvider::builder().build().tracer("test");
    let spanless = Context::new().with_baggage([opentelemetry::KeyValue::new("a", "b")]);
    let span = Context::new().with_span(tracer.start("span"));
    let derived = span.with_value(7_u8);
    let numbers = [&spanless, &span, &derived].map(|context| number(context).expect("a view"));
    {
        let _spanless = spanless.clone().attach();
        let _span = span.clone().attach();
        let _derived = derived.clone().attach();
        assert!(published::thread_context().is_some());
    }
    assert_eq!(published::thread_context(), None);
    let [a, b, c] = numbers.map(Some);
    assert_eq!(
        *second.calls.lock().unwrap(),
        [
            ("enter", None, a),
            ("enter", a, b),
            ("enter", b, c),
            ("exit", c, b),
            ("exit", b, a),
            ("exit", a, None),
        ]
    );
}
