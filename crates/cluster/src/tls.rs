//! TLS towards etcd.

use std::sync::Arc;

use chariot_certificates::{Unusable, authorities, chain, ciphers, key};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use crate::Tls;

/// Reads the files.
pub(crate) fn connector(tls: &Tls) -> Result<TlsConnector, Unusable> {
    let builder = ClientConfig::builder_with_provider(ciphers())
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for the versions that are the default")
        .with_root_certificates(authorities(&tls.ca)?);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(chain(&identity.cert)?, key(&identity.key)?)
            .map_err(|error| Unusable::new(&identity.key, error))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
