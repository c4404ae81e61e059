//! A receiver in this process: answers as it is told, and keeps what it got.

use std::collections::VecDeque;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ::http::{HeaderMap, Uri};
use axum::Router;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use flate2::read::GzDecoder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::profiles::v1development::profiles_service_server::{
    ProfilesService, ProfilesServiceServer,
};
use opentelemetry_proto::tonic::collector::profiles::v1development::{
    ExportProfilesServiceRequest, ExportProfilesServiceResponse,
};
use opentelemetry_proto::tonic::profiles::v1development::ProfilesData;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;

/// What was received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    /// Path of the request; empty over gRPC.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) message: ProfilesData,
}

/// Runs until it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    _runtime: Runtime,
}

impl Receiver {
    /// Answers by HTTP with these answers, one after the other, then with success.
    pub(crate) fn http(answers: impl IntoIterator<Item = Response>) -> Self {
        Self::http_at("127.0.0.1:0", answers)
    }

    pub(crate) fn http_at(address: &str, answers: impl IntoIterator<Item = Response>) -> Self {
        let received = Arc::default();
        Self::start(address, http_router(&received, answers), received, None)
    }

    pub(crate) fn grpc(
        answers: impl IntoIterator<Item = Result<ExportProfilesServiceResponse, tonic::Status>>,
    ) -> Self {
        let received = Arc::default();
        Self::start(
            "127.0.0.1:0",
            grpc_router(&received, answers),
            received,
            None,
        )
    }

    /// Speaks both, encrypted.
    pub(crate) fn encrypted(acceptor: TlsAcceptor) -> Self {
        let received = Arc::default();
        let router = grpc_router(&received, []).merge(http_router(&received, []));
        Self::start("127.0.0.1:0", router, received, Some(acceptor))
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    fn start(
        address: &str,
        router: Router,
        received: Arc<Mutex<Vec<Received>>>,
        acceptor: Option<TlsAcceptor>,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, router.clone(), acceptor.clone()));
            }
        });
        Self {
            address,
            received,
            _runtime: runtime,
        }
    }
}

async fn serve(stream: TcpStream, router: Router, acceptor: Option<TlsAcceptor>) {
    let service = TowerToHyperService::new(router);
    let server = auto::Builder::new(TokioExecutor::new());
    // A connection that fails is the other side's affair.
    let _ = match acceptor {
        None => server.serve_connection(TokioIo::new(stream), service).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => Ok(()),
        },
    };
}

fn http_router(
    received: &Arc<Mutex<Vec<Received>>>,
    answers: impl IntoIterator<Item = Response>,
) -> Router {
    let received = Arc::clone(received);
    let answers: Mutex<VecDeque<Response>> = Mutex::new(answers.into_iter().collect());
    let answers = Arc::new(answers);
    Router::new().route(
        "/{*path}",
        axum::routing::post(
            move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
                let body = match headers.get("content-encoding") {
                    Some(encoding) => {
                        assert_eq!(encoding, "gzip");
                        let mut plain = Vec::new();
                        GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
                        plain
                    }
                    None => body.to_vec(),
                };
                let request = ExportProfilesServiceRequest::decode(&body[..]).unwrap();
                received.lock().unwrap().push(Received {
                    at: Instant::now(),
                    path: uri.to_string(),
                    headers,
                    message: data(request),
                });
                let answer = answers.lock().unwrap().pop_front();
                answer.unwrap_or_else(|| {
                    let response = ExportProfilesServiceResponse::default().encode_to_vec();
                    ([("content-type", "application/x-protobuf")], response).into_response()
                })
            },
        ),
    )
}

fn grpc_router(
    received: &Arc<Mutex<Vec<Received>>>,
    answers: impl IntoIterator<Item = Result<ExportProfilesServiceResponse, tonic::Status>>,
) -> Router {
    let service = Service {
        received: Arc::clone(received),
        answers: Mutex::new(answers.into_iter().collect()),
    };
    let server = ProfilesServiceServer::new(service)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    tonic::service::Routes::new(server).into_axum_router()
}

struct Service {
    received: Arc<Mutex<Vec<Received>>>,
    answers: Mutex<VecDeque<Result<ExportProfilesServiceResponse, tonic::Status>>>,
}

#[tonic::async_trait]
impl ProfilesService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportProfilesServiceRequest>,
    ) -> Result<tonic::Response<ExportProfilesServiceResponse>, tonic::Status> {
        let headers = MetadataMap::into_headers(request.metadata().clone());
        self.received.lock().unwrap().push(Received {
            at: Instant::now(),
            path: String::new(),
            headers,
            message: data(request.into_inner()),
        });
        let answer = self.answers.lock().unwrap().pop_front();
        answer
            .unwrap_or_else(|| Ok(Default::default()))
            .map(tonic::Response::new)
    }
}

fn data(request: ExportProfilesServiceRequest) -> ProfilesData {
    ProfilesData {
        resource_profiles: request.resource_profiles,
        dictionary: request.dictionary,
    }
}
