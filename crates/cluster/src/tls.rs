//! TLS towards etcd.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::{EtcdError, Tls};

/// Reads the files.
pub(crate) fn connector(tls: &Tls) -> Result<TlsConnector, EtcdError> {
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&tls.ca)? {
        authorities.add(authority).map_err(|error| unusable(&tls.ca, error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for the versions that are the default")
        .with_root_certificates(authorities);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|error| unusable(&identity.key, error))?;
            let chain = certificates(&identity.cert)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&identity.key, error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The certificates in a file; there is at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, EtcdError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unusable(path, "there is no certificate in it")),
        read => read.map_err(|error| unusable(path, error)),
    }
}

fn unusable(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> EtcdError {
    EtcdError::Credentials { path: path.to_owned(), source: source.into() }
}
