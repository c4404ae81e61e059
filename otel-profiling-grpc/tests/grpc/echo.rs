//! A gRPC service with a method of each kind, as generated code would have it, and its client.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use otel_profiling::SpanIds;
use tokio::task::{JoinHandle, yield_now};
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::probe::{Call, OnDrop, Probe};
use crate::telemetry::traceparent;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

type One = Request<Text>;
type Many = Request<Streaming<Text>>;

fn text(text: &str) -> Text {
    Text { text: text.into() }
}

/// The kinds of methods: each one's name, and the places to which its handler comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ClientStreaming,
    ServerStreaming,
    Bidirectional,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [
        Self::Unary,
        Self::ClientStreaming,
        Self::ServerStreaming,
        Self::Bidirectional,
    ];

    pub(crate) fn method(self) -> String {
        format!("/test.Echo/{self:?}")
    }

    /// What the client gets.
    pub(crate) fn texts(self) -> &'static [&'static str] {
        match self {
            Self::Unary => &["abc"],
            Self::ClientStreaming => &["abcdef"],
            Self::ServerStreaming => &["abc", "abc"],
            Self::Bidirectional => &["abc", "def"],
        }
    }

    pub(crate) fn places(self) -> &'static [&'static str] {
        match self {
            Self::Unary => &["first poll", "later poll", "handler dropped"],
            Self::ClientStreaming => &["first poll", "message", "message", "handler dropped"],
            Self::ServerStreaming => &[
                "first poll",
                "later poll",
                "handler dropped",
                "pending",
                "item",
                "pending",
                "item",
                "stream ended",
                "stream dropped",
            ],
            Self::Bidirectional => &[
                "first poll",
                "handler dropped",
                "pending",
                "item",
                "pending",
                "item",
                "stream ended",
                "stream dropped",
            ],
        }
    }
}

/// `/test.Echo/…`: the four kinds, and methods that do not end well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echo(pub(crate) Probe);

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let probe = self.0.clone();
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<Text, Text>::default());
        let method = request.uri().path().replace("/test.Echo/", "");
        Box::pin(async move {
            let call = move |metadata: &MetadataMap| probe.call(metadata);
            Ok(match &*method {
                "Unary" => {
                    grpc.unary(service_fn(|r: One| unary(call(r.metadata()), r)), request)
                        .await
                }
                "ClientStreaming" => {
                    let service = service_fn(|r: Many| client_streaming(call(r.metadata()), r));
                    grpc.client_streaming(service, request).await
                }
                "ServerStreaming" => {
                    let service = service_fn(|r: One| server_streaming(call(r.metadata()), r));
                    grpc.server_streaming(service, request).await
                }
                "Bidirectional" => {
                    let service = service_fn(|r: Many| bidirectional(call(r.metadata()), r));
                    grpc.streaming(service, request).await
                }
                "Hangs" => {
                    grpc.unary(service_fn(|r: One| hangs(call(r.metadata()), r)), request)
                        .await
                }
                "StreamHangs" => {
                    let service = service_fn(|r: One| stream_hangs(call(r.metadata()), r));
                    grpc.server_streaming(service, request).await
                }
                "Panics" => {
                    grpc.unary(service_fn(|r: One| panics(call(r.metadata()), r)), request)
                        .await
                }
                "StreamPanics" => {
                    let service = service_fn(|r: One| stream_panics(call(r.metadata()), r));
                    grpc.server_streaming(service, request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

async fn unary(call: Call, request: One) -> Result<Response<Text>, Status> {
    call.see("first poll");
    let _guard = call.on_drop("handler dropped");
    yield_now().await;
    call.see("later poll");
    Ok(Response::new(request.into_inner()))
}

async fn client_streaming(call: Call, request: Many) -> Result<Response<Text>, Status> {
    call.see("first poll");
    let _guard = call.on_drop("handler dropped");
    let mut messages = request.into_inner();
    let mut all = String::new();
    while let Some(message) = messages.message().await? {
        yield_now().await;
        call.see("message");
        all += &message.text;
    }
    Ok(Response::new(text(&all)))
}

async fn server_streaming(call: Call, request: One) -> Result<Response<Items>, Status> {
    call.see("first poll");
    let _guard = call.on_drop("handler dropped");
    yield_now().await;
    call.see("later poll");
    let items = [request.get_ref().clone(), request.into_inner()];
    let items = tokio_stream::iter(items.map(Ok));
    Ok(Response::new(Items::new(call, items)))
}

async fn bidirectional(call: Call, request: Many) -> Result<Response<Items>, Status> {
    call.see("first poll");
    let _guard = call.on_drop("handler dropped");
    Ok(Response::new(Items::new(call, request.into_inner())))
}

async fn hangs(call: Call, _: One) -> Result<Response<Text>, Status> {
    call.see("first poll");
    let _guard = call.on_drop("handler dropped");
    std::future::pending().await
}

async fn stream_hangs(call: Call, _: One) -> Result<Response<Items>, Status> {
    call.see("first poll");
    let items = tokio_stream::iter([Ok(text("one"))]).chain(tokio_stream::pending());
    Ok(Response::new(Items::new(call, items)))
}

async fn panics(call: Call, _: One) -> Result<Response<Text>, Status> {
    let _guard = call.on_drop("handler dropped");
    yield_now().await;
    call.see("later poll");
    panic!("on purpose");
}

async fn stream_panics(call: Call, _: One) -> Result<Response<Items>, Status> {
    let items = tokio_stream::iter([Ok(text("one")), Err(Status::ok("panic"))]);
    let items = items.map(|item| Ok(item.expect("on purpose")));
    Ok(Response::new(Items::new(call, items)))
}

/// The response's messages; pending once before each.
pub(crate) struct Items {
    call: Call,
    inner: Pin<Box<dyn Stream<Item = Result<Text, Status>> + Send>>,
    item: Option<Option<Result<Text, Status>>>,
    _dropped: OnDrop,
}

impl Items {
    fn new(call: Call, inner: impl Stream<Item = Result<Text, Status>> + Send + 'static) -> Self {
        Self {
            _dropped: call.on_drop("stream dropped"),
            call,
            inner: Box::pin(inner),
            item: None,
        }
    }
}

impl Stream for Items {
    type Item = Result<Text, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(item) = self.item.take() {
            self.call.see("item");
            return Poll::Ready(item);
        }
        match self.inner.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => {
                self.call.see("pending");
                self.item = Some(Some(item));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.call.see("stream ended");
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A running server, which is stopped when this is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) server: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Starts a server with a service on a free port.
macro_rules! serve {
    ($server:expr, $service:expr) => {{
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut server = $server;
        let router = server.add_service($service);
        let server = tokio::spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            router
                .serve_with_incoming(incoming)
                .await
                .expect("it serves");
        });
        $crate::echo::Running { address, server }
    }};
}
pub(crate) use serve;

/// A client of the server.
#[derive(Clone)]
pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Client {
    pub(crate) async fn connect(server: &Running) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address));
        let channel = endpoint.expect("a valid address").connect().await;
        Self(tonic::client::Grpc::new(
            channel.expect("the server listens"),
        ))
    }

    /// Calls a method; the texts of the response.
    pub(crate) async fn call(
        &mut self,
        kind: Kind,
        method: &str,
        metadata: MetadataMap,
    ) -> Result<Vec<String>, Status> {
        let codec = ProstCodec::<Text, Text>::default();
        let path = method.parse().expect("a valid path");
        let one = || {
            let mut request = Request::new(text("abc"));
            *request.metadata_mut() = metadata.clone();
            request
        };
        let two = || {
            let messages = tokio_stream::iter([text("abc"), text("def")]);
            let mut request = Request::new(messages);
            *request.metadata_mut() = metadata.clone();
            request
        };
        self.0
            .ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        match kind {
            Kind::Unary => {
                let response = self.0.unary(one(), path, codec).await?;
                Ok(vec![response.into_inner().text])
            }
            Kind::ClientStreaming => {
                let response = self.0.client_streaming(two(), path, codec).await?;
                Ok(vec![response.into_inner().text])
            }
            Kind::ServerStreaming => {
                let response = self.0.server_streaming(one(), path, codec).await?;
                texts(response.into_inner()).await
            }
            Kind::Bidirectional => {
                let response = self.0.streaming(two(), path, codec).await?;
                texts(response.into_inner()).await
            }
        }
    }

    /// Calls the method of this kind for a caller with this span.
    pub(crate) async fn call_from(&mut self, kind: Kind, caller: SpanIds) -> Vec<String> {
        let texts = self.call(kind, &kind.method(), metadata_of(caller)).await;
        texts.expect("the call is served")
    }
}

async fn texts(mut messages: Streaming<Text>) -> Result<Vec<String>, Status> {
    let mut texts = Vec::new();
    while let Some(message) = messages.message().await? {
        texts.push(message.text);
    }
    Ok(texts)
}

/// The metadata that a caller with this span sends.
pub(crate) fn metadata_of(caller: SpanIds) -> MetadataMap {
    metadata(&HashMap::from([
        ("traceparent", traceparent(caller)),
        (
            "caller",
            format!("{:032x}", u128::from_be_bytes(caller.trace_id())),
        ),
    ]))
}

pub(crate) fn metadata(values: &HashMap<&'static str, String>) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (name, value) in values {
        metadata.insert(*name, MetadataValue::try_from(value).expect("ASCII"));
    }
    metadata
}
