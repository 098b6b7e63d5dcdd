//! [`Parts`]: what a worker may have besides its memory, for the one who starts it and for the process that is it.

use std::ffi::OsString;
use std::time::Duration;

use chariot_worker::WorkerConfig;
use clap::Args;

use crate::Failure;
use crate::etcd::EtcdOptions;
use crate::spill::SpillOptions;
use crate::tenants::TenantsOptions;
use crate::tls::TlsOptions;

/// What a worker may have besides its memory.
#[derive(Args, Clone)]
pub(crate) struct Parts {
    #[command(flatten)]
    tenants: TenantsOptions,
    #[command(flatten)]
    spill: SpillOptions,
    #[command(flatten)]
    etcd: EtcdOptions,
    #[command(flatten)]
    tls: TlsOptions,
}

impl Parts {
    /// The same for a process in another directory.
    pub(crate) fn absolute(self) -> Result<Self, Failure> {
        Ok(Self {
            tenants: self.tenants.absolute()?,
            spill: self.spill.absolute()?,
            etcd: self.etcd.absolute()?,
            tls: self.tls.absolute()?,
        })
    }

    /// The arguments that read back as this.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = OsString> {
        [self.tenants.arguments(), self.spill.arguments(), self.etcd.arguments(), self.tls.arguments()]
            .into_iter()
            .flatten()
    }

    /// These, or what was said before where these say nothing.
    pub(crate) fn or(self, before: Self) -> Self {
        Self {
            tenants: self.tenants.or(before.tenants),
            spill: self.spill.or(before.spill),
            etcd: self.etcd.or(before.etcd),
            tls: self.tls.or(before.tls),
        }
    }

    /// The time that a start may take longer than without.
    pub(crate) fn patience(&self) -> Duration {
        self.spill.patience() + self.etcd.patience()
    }

    /// `config` with these.
    pub(crate) fn complete(&self, config: WorkerConfig) -> Result<WorkerConfig, Failure> {
        Ok(WorkerConfig {
            tenants: self.tenants.config()?,
            cluster: self.etcd.config()?,
            security: self.tls.security(),
            spill: self.spill.config(),
            ..config
        })
    }
}
