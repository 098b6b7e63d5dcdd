//! [`EtcdOptions`]: which cluster, and by which etcd, as the user writes it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chariot_cluster::{ClusterConfig, ClusterName, DEFAULT_LEASE, EtcdEndpoint, Login, Security, Tls, TlsIdentity};
use clap::Args;

use crate::Failure;
use crate::options::absolute;

/// The password's variable, for those who would rather not have a file.
pub(crate) const PASSWORD_VARIABLE: &str = "CHARIOT_ETCD_PASSWORD";

/// A file that is longer holds no password.
const LONGEST_PASSWORD: u64 = 4096;

/// Which cluster, and by which etcd.
#[derive(Args, Clone)]
#[command(rename_all = "snake_case", next_help_heading = "Cluster")]
pub(crate) struct EtcdOptions {
    /// Join the cluster that this etcd keeps; several of its members, with commas [default: a node on its own]
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    etcd_address: Vec<EtcdEndpoint>,
    /// Which of the clusters that share the etcd
    #[arg(long, value_name = "NAME", default_value = ClusterName::DEFAULT)]
    cluster_name: ClusterName,
    /// Seconds that the others believe in a worker which says nothing any more
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_LEASE.as_secs(),
        value_parser = clap::value_parser!(u64).range(2..=3600))]
    lease_seconds: u64,
    /// Speak TLS with etcd, whose certificate this authority has signed (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_address")]
    etcd_ca: Option<PathBuf>,
    /// This node's certificate, for an etcd that wants one (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_ca", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// The user to be, for an etcd that wants one; the password is in a file or in CHARIOT_ETCD_PASSWORD
    #[arg(long, value_name = "NAME", requires = "etcd_address")]
    etcd_user: Option<String>,
    /// The file that has the user's password [default: CHARIOT_ETCD_PASSWORD has it]
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
}

impl EtcdOptions {
    /// The cluster, if there is to be one.
    pub(crate) fn config(&self) -> Result<Option<ClusterConfig>, Failure> {
        if self.etcd_address.is_empty() {
            return Ok(None);
        }
        let identity = self.etcd_cert.as_deref().zip(self.etcd_key.as_deref());
        let identity = identity.map(|(cert, key)| TlsIdentity { cert: cert.to_owned(), key: key.to_owned() });
        let tls = self.etcd_ca.clone().map(|ca| Tls { ca, identity });
        Ok(Some(ClusterConfig {
            endpoints: self.etcd_address.clone(),
            cluster_name: self.cluster_name.clone(),
            lease: Duration::from_secs(self.lease_seconds),
            security: Security { tls, login: self.login()? },
        }))
    }

    /// This, or what was said before where this names no etcd.
    pub(crate) fn or(self, before: Self) -> Self {
        if self.etcd_address.is_empty() { before } else { self }
    }

    /// The time that joining may take longer than starting alone: until the lease of a dead worker has run out.
    pub(crate) fn patience(&self) -> Duration {
        match self.etcd_address.is_empty() {
            true => Duration::ZERO,
            false => Duration::from_secs(self.lease_seconds + 5),
        }
    }

    /// The same for a process in another directory. The password is not in it.
    pub(crate) fn absolute(self) -> Result<Self, Failure> {
        Ok(Self {
            etcd_ca: absolute(self.etcd_ca)?,
            etcd_cert: absolute(self.etcd_cert)?,
            etcd_key: absolute(self.etcd_key)?,
            etcd_password_file: absolute(self.etcd_password_file)?,
            ..self
        })
    }

    /// The arguments that read back as this.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![
            format!("--cluster_name={}", self.cluster_name).into(),
            format!("--lease_seconds={}", self.lease_seconds).into(),
        ];
        arguments.extend(self.etcd_address.iter().map(|endpoint| format!("--etcd_address={endpoint}").into()));
        arguments.extend(self.etcd_user.iter().map(|user| format!("--etcd_user={user}").into()));
        let files = [
            ("--etcd_ca", &self.etcd_ca),
            ("--etcd_cert", &self.etcd_cert),
            ("--etcd_key", &self.etcd_key),
            ("--etcd_password_file", &self.etcd_password_file),
        ];
        for (option, file) in files {
            if let Some(file) = file {
                arguments.extend([option.into(), file.into()]);
            }
        }
        arguments
    }

    fn login(&self) -> Result<Option<Login>, Failure> {
        let Some(user) = self.etcd_user.clone() else { return Ok(None) };
        let password = match (&self.etcd_password_file, std::env::var(PASSWORD_VARIABLE)) {
            (Some(file), _) => password_in(file)?,
            (None, Ok(password)) => password,
            (None, Err(_)) => {
                return Err(Failure::usage(format!("there is no password for etcd's user `{user}`"))
                    .hint(format!("name its file with `--etcd_password_file`, or set {PASSWORD_VARIABLE}")));
            }
        };
        Ok(Some(Login { user, password }))
    }
}

fn password_in(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    match File::open(file).and_then(|file| file.take(LONGEST_PASSWORD + 1).read_to_string(&mut text)) {
        Err(error) => Err(Failure::text(format!("cannot read the password in `{}`: {error}", file.display()))
            .hint("`--etcd_password_file` names a file that this user can read, with the password alone")),
        Ok(length) if length as u64 > LONGEST_PASSWORD => {
            Err(Failure::text(format!("`{}` is too long for a password", file.display()))
                .hint("`--etcd_password_file` names a file with the password alone"))
        }
        Ok(_) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        etcd: EtcdOptions,
    }

    fn read(arguments: impl IntoIterator<Item = OsString>) -> EtcdOptions {
        Line::parse_from([OsString::from("dscli")].into_iter().chain(arguments)).etcd
    }

    #[test]
    fn what_the_daemon_is_told_is_what_the_user_said() {
        let said = "--cluster_name=blue --lease_seconds=30 --etcd_address=https://a:1 --etcd_address=[::1]:2 \
                    --etcd_user=someone --etcd_ca /ca --etcd_cert /cert --etcd_key /key --etcd_password_file /secret";
        let said: Vec<_> = said.split_whitespace().map(OsString::from).collect();
        assert_eq!(read(said.clone()).absolute().unwrap().arguments(), said);
        let with_commas = read(["--etcd_address".into(), "https://a:1,[::1]:2".into()]);
        assert_eq!(with_commas.arguments()[2..], said[2..4]);
    }

    #[test]
    fn a_node_on_its_own_has_no_cluster() {
        let etcd = read([]);
        assert!(etcd.config().unwrap().is_none());
        assert!(read(etcd.arguments()).config().unwrap().is_none());
    }
}
