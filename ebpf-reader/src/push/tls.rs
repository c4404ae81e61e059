//! Encryption: rustls, with the system's certificates or those of a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::config::{Config, ConfigError, Protocol};
use super::exchange::chain;

/// Bytes of a file with certificates that are read: all of a system's together have a quarter of it.
const MAX_FILE: u64 = 1 << 20;

/// Encrypts connections to one receiver.
pub(super) struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Connector {
    pub(super) fn new(config: &Config, host: &str) -> Result<Self, ConfigError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ConfigError::Value {
            name: "the end point's host".to_owned(),
            value: host.to_owned(),
            expected: "expected a host name or an address".to_owned(),
        })?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::Value {
                name: "TLS".to_owned(),
                value: error.to_string(),
                expected: "expected TLS 1.2 and 1.3".to_owned(),
            })?
            .with_root_certificates(roots(config.ca_file.as_deref())?);
        let mut tls = match &config.client_certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    certificates(certificate)?,
                    PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| {
                        ConfigError::File {
                            path: key.clone(),
                            reason: format!("no private key in PEM form: {error}"),
                        }
                    })?,
                )
                .map_err(|error| ConfigError::File {
                    path: certificate.clone(),
                    reason: error.to_string(),
                })?,
        };
        tls.alpn_protocols = vec![match config.chosen_protocol() {
            Protocol::Grpc => b"h2".to_vec(),
            Protocol::HttpProtobuf => b"http/1.1".to_vec(),
        }];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(tls)),
            name,
        })
    }

    pub(super) async fn encrypt(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        self.connector
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| chain("no encrypted connection", &error))
    }
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    let (certificates, path) = match file {
        Some(path) => (certificates(path)?, path),
        None => (
            rustls_native_certs::load_native_certs().certs,
            Path::new("/etc/ssl/certs"),
        ),
    };
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(ConfigError::File {
            path: path.to_owned(),
            reason: "no usable certificate in PEM form; name a file with --push-ca or \
                     OTEL_EXPORTER_OTLP_CERTIFICATE"
                .to_owned(),
        });
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: format!("not certificates in PEM form: {error}"),
        })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    Ok(bytes)
}
