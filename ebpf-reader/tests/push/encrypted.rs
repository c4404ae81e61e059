//! TLS: certificates of an own authority, of both sides, and wrong ones.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ebpf_reader::push::{Config, Exporter, Protocol};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::message::message;
use crate::receiver::Receiver;
use crate::{config, wait_for};

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn acceptor(&self, clients: Option<&Self>) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut server = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(server))
    }
}

fn to(receiver: &Receiver, protocol: Protocol) -> Config {
    config(
        protocol,
        &format!("https://localhost:{}", receiver.address.port()),
    )
}

#[test]
fn an_own_authority() {
    let authority = Authority::new();
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let receiver = Receiver::encrypted(authority.acceptor(None));
        let exporter =
            Exporter::start(to(&receiver, protocol).ca_file(authority.file("ca.pem"))).unwrap();
        exporter.push(&message(1, 5));
        wait_for(&exporter, "success", |counters| counters.sent == 1);
        assert_eq!(receiver.received()[0].message, message(1, 5));
    }
}

#[test]
fn a_receiver_of_another_authority_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let receiver = Receiver::encrypted(authority.acceptor(None));
    for file in [Some(other.file("ca.pem")), None] {
        let mut config = to(&receiver, Protocol::HttpProtobuf);
        if let Some(file) = file {
            config = config.ca_file(file);
        } else if !std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
            println!("skipped: needs the certificates of the system (package ca-certificates)");
            continue;
        }
        let exporter = Exporter::start(config).unwrap();
        exporter.push(&message(1, 5));
        let counters = wait_for(&exporter, "failure", |counters| {
            counters.failed_attempts > 0
        });
        let error = counters.last_error.unwrap();
        assert!(error.contains("invalid peer certificate"), "{error}");
    }
    assert!(receiver.received().is_empty());
}

#[test]
fn a_receiver_that_wants_a_certificate() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["reader".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &clients.issuer).unwrap();
    fs::write(clients.file("cert.pem"), certificate.pem()).unwrap();
    fs::write(clients.file("key.pem"), key.serialize_pem()).unwrap();
    let receiver = Receiver::encrypted(servers.acceptor(Some(&clients)));

    let config = to(&receiver, Protocol::Grpc).ca_file(servers.file("ca.pem"));
    let without = Exporter::start(config.clone()).unwrap();
    without.push(&message(1, 5));
    wait_for(&without, "failure", |counters| counters.failed_attempts > 0);
    assert!(receiver.received().is_empty());

    let config = config.client_certificate(clients.file("cert.pem"), clients.file("key.pem"));
    let with = Exporter::start(config).unwrap();
    with.push(&message(1, 5));
    wait_for(&with, "success", |counters| counters.sent == 1);
}

#[test]
fn files_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for (file, reason) in [
        (empty, "no usable certificate"),
        (folder.path().join("missing.pem"), "No such file"),
    ] {
        let config = config(Protocol::Grpc, "https://localhost:1").ca_file(&file);
        let error = Exporter::start(config).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
}
