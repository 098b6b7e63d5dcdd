//! [`TlsOptions`]: how a worker speaks with other hosts, as the user writes it.

use std::ffi::OsString;
use std::path::PathBuf;

use chariot_worker::{Credentials, Plain, Security};
use clap::Args;

use crate::Failure;
use crate::options::absolute;

/// How a worker speaks with other hosts.
#[derive(Args, Clone)]
#[command(rename_all = "snake_case", next_help_heading = "TLS between workers")]
pub(crate) struct TlsOptions {
    /// The authority that has signed the certificates of all workers (PEM); with it they speak TLS with each other, and with
    /// no worker that does not
    #[arg(long, value_name = "FILE", requires = "tls_cert", requires = "tls_key")]
    tls_ca: Option<PathBuf>,
    /// This worker's certificate, for the host of its address, good for servers and for clients (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_key: Option<PathBuf>,
    /// Let nobody on another host in who does not speak TLS, clients neither; where others could reach the worker and there
    /// is no certificate, it does not start
    #[arg(long)]
    require_tls: bool,
}

impl TlsOptions {
    /// What the worker is told.
    pub(crate) fn security(&self) -> Security {
        let files = self.tls_ca.clone().zip(self.tls_cert.clone()).zip(self.tls_key.clone());
        Security {
            tls: files.map(|((ca, cert), key)| Credentials { ca, cert, key }),
            plain: if self.require_tls { Plain::Refused } else { Plain::Allowed },
        }
    }

    /// This, or what was said before where this says nothing.
    pub(crate) fn or(self, before: Self) -> Self {
        if self.tls_ca.is_some() || self.require_tls { self } else { before }
    }

    /// The same for a process in another directory.
    pub(crate) fn absolute(self) -> Result<Self, Failure> {
        Ok(Self {
            tls_ca: absolute(self.tls_ca)?,
            tls_cert: absolute(self.tls_cert)?,
            tls_key: absolute(self.tls_key)?,
            ..self
        })
    }

    /// The arguments that read back as this.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let files = [("--tls_ca", &self.tls_ca), ("--tls_cert", &self.tls_cert), ("--tls_key", &self.tls_key)];
        let named = files.into_iter().filter_map(|(option, file)| Some([option.into(), file.clone()?.into()]));
        named.flatten().chain(self.require_tls.then(|| "--require_tls".into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        tls: TlsOptions,
    }

    fn read(arguments: &[OsString]) -> Result<TlsOptions, clap::Error> {
        let program = OsString::from("dscli");
        Line::try_parse_from(std::iter::once(&program).chain(arguments)).map(|line| line.tls)
    }

    #[test]
    fn what_the_daemon_is_told_is_what_the_user_said() {
        let said = "--tls_ca /ca --tls_cert /cert --tls_key /key --require_tls";
        let said: Vec<_> = said.split_whitespace().map(OsString::from).collect();
        assert_eq!(read(&said).unwrap().absolute().unwrap().arguments(), said);
        let nothing = read(&[]).unwrap();
        assert!(nothing.arguments().is_empty() && nothing.security().tls.is_none());
    }

    #[test]
    fn a_certificate_without_the_rest_is_refused() {
        for lacking in ["--tls_ca /ca", "--tls_ca /ca --tls_cert /cert", "--tls_cert /cert --tls_key /key"] {
            let said: Vec<_> = lacking.split_whitespace().map(OsString::from).collect();
            assert!(read(&said).is_err(), "{lacking}");
        }
    }
}
