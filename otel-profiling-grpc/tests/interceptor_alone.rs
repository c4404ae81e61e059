//! The interceptor without its layer warns once and refuses nothing; in a program of its own, since the warning is given
//! once for each process.

use std::sync::Mutex;

use otel_profiling_grpc::{ProfilingLayer, interceptor};
use tonic::service::Interceptor as _;
use tonic::{Request, Status};
use tower::{Layer as _, Service as _, service_fn};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps this project's warnings.
struct Keep;

impl<S: tracing::Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        if event.metadata().target() == "otel_profiling" {
            let mut message = Message(String::new());
            event.record(&mut message);
            WARNINGS.lock().expect("no panic inside").push(message.0);
        }
    }
}

fn warnings() -> Vec<String> {
    WARNINGS.lock().expect("no panic inside").clone()
}

#[tokio::test]
async fn without_the_layer_there_is_one_warning() {
    let subscriber = tracing_subscriber::registry().with(Keep);
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    let intercepted = |request: http::Request<()>| async {
        let (parts, ()) = request.into_parts();
        let request = Request::from_parts(Default::default(), parts.extensions, ());
        interceptor().call(request)?;
        Ok::<_, Status>(http::Response::new(()))
    };

    // With it there is none, whether the call is to be published or not.
    let layer = ProfilingLayer::new()
        .interceptor_slot(true)
        .ignore_prefix("/ignored");
    for path in ["/a.B/C", "/ignored.B/C"] {
        let request = http::Request::get(path).body(()).expect("a valid request");
        let served = layer.layer(service_fn(intercepted)).call(request).await;
        assert!(served.is_ok());
    }
    assert_eq!(warnings(), [""; 0]);

    for _ in 0..3 {
        assert!(intercepted(http::Request::new(())).await.is_ok());
    }
    // A layer that was not told to take contexts is as good as none.
    let mut untold = ProfilingLayer::new().layer(service_fn(intercepted));
    assert!(untold.call(http::Request::new(())).await.is_ok());
    let warnings = warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("interceptor_slot(true)"),
        "{warnings:?}"
    );
}
