//! [`Certificates`]: an authority, and what it has signed, as files.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

use super::server::{Etcd, Version};

/// `ca.pem`, and `server` and `client`, each `.pem` and `.key`.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        for name in ["server", "client"] {
            let mut params = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
            // The server's as well for clients: etcd asks itself.
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().unwrap();
            let signed = params.signed_by(&key, &authority).unwrap();
            fs::write(dir.path().join(format!("{name}.pem")), signed.pem()).unwrap();
            fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self(dir)
    }

    /// Where a file is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An etcd that is spoken to by whom this authority has signed.
    pub(crate) fn serve(&self, version: Version) -> Etcd {
        let flag = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        Etcd::encrypted(
            version,
            vec![
                flag("cert-file", "server.pem"),
                flag("key-file", "server.key"),
                flag("trusted-ca-file", "ca.pem"),
                "--client-cert-auth".into(),
            ],
            vec![flag("cacert", "ca.pem"), flag("cert", "client.pem"), flag("key", "client.key")],
        )
    }
}
