//! Certificates and keys for TLS, read from the PEM files that a user names. Which file it was that cannot be used, every
//! error says.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A file that TLS needs cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use `{path}` for TLS")]
pub struct Unusable {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}

impl Unusable {
    /// The file at `path` cannot be used, because of `source`.
    pub fn new(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { path: path.to_owned(), source: source.into() }
    }
}

/// The authorities in a file, whose word is believed; there is at least one.
pub fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let mut authorities = RootCertStore::empty();
    for authority in chain(path)? {
        authorities.add(authority).map_err(|error| Unusable::new(path, error))?;
    }
    Ok(authorities)
}

/// The certificates in a file; there is at least one.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(Unusable::new(path, "there is no certificate in it")),
        read => read.map_err(|error| Unusable::new(path, error)),
    }
}

/// The private key in a file.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| Unusable::new(path, error))
}

/// The ciphers that are used.
pub fn ciphers() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}
