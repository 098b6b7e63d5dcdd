//! `dscli proxy`: one OpenAI endpoint over prefill and decode instances.

use std::time::Duration;

use chariot_proxy::{Dispatch, InstanceAddress, Proxy, ProxyConfig, ProxyError};
use chariot_types::WorkerAddress;
use clap::{Args, ValueEnum};
use tokio::sync::oneshot;

use crate::ending::Ending;
use crate::{Failure, log, report};

/// Serve prefill and decode instances as one OpenAI endpoint
///
/// Sends the prompt of each request to a prefill instance, whose KV cache Chariot carries, then the request itself to a
/// decode instance. Runs in the foreground, and logs to standard error.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunProxy {
    /// The name or address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port to listen on; 0 takes any free one
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Where prefill instances are: one host for all ports, or one a port
    #[arg(long, alias = "prefiller-hosts", num_args = 1.., value_name = "HOST", default_value = "127.0.0.1")]
    prefiller_host: Vec<String>,
    /// Ports of prefill instances; may be repeated
    #[arg(long, alias = "prefiller-ports", num_args = 1.., value_name = "PORT", required = true)]
    prefiller_port: Vec<u16>,
    /// Where decode instances are: one host for all ports, or one a port
    #[arg(long, alias = "decoder-hosts", num_args = 1.., value_name = "HOST", default_value = "127.0.0.1")]
    decoder_host: Vec<String>,
    /// Ports of decode instances; may be repeated
    #[arg(long, alias = "decoder-ports", num_args = 1.., value_name = "PORT", required = true)]
    decoder_port: Vec<u16>,
    /// The data worker on a decode instance's node: one for all, or one for each --decoder-port in their order. Prefill's
    /// data worker then sends each layer there while the next is computed; without it, decode's worker fetches the KV
    /// cache when decode asks for it
    #[arg(long, alias = "decoder-workers", num_args = 1.., value_name = "HOST:PORT")]
    decoder_worker: Vec<WorkerAddress>,
    /// When decode is asked
    #[arg(long, value_enum, default_value_t = When::Sequential)]
    dispatch: When,
    /// Seconds for prefill; after that, decode computes the prompt
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    prefill_timeout: Option<u64>,
    /// Seconds that requests in flight may take to finish when the proxy is stopped
    #[arg(long, value_name = "SECONDS")]
    shutdown_grace: Option<u64>,
    /// The largest request body accepted
    #[arg(long, value_name = "MEGABYTES", value_parser = clap::value_parser!(u32).range(1..))]
    max_body_mb: Option<u32>,
    #[command(flatten)]
    level: log::Level,
}

#[derive(Clone, Copy, ValueEnum)]
enum When {
    /// When prefill has answered
    Sequential,
    /// Together with prefill: decode loads the KV cache as it comes, and is ready when the last layer is. Should prefill
    /// fail, decode is asked anew and computes the prompt itself
    Concurrent,
}

const EXAMPLES: &str = "\
Examples:
  dscli proxy --prefiller-port 8100 --decoder-port 8200
  dscli proxy --host 0.0.0.0 --port 8000 --prefiller-host 10.0.0.1 --prefiller-port 8100 --prefiller-port 8101 \\
      --decoder-host 10.0.0.2 --decoder-host 10.0.0.3 --decoder-port 8200 \\
      --decoder-worker 10.0.0.2:31501 --decoder-worker 10.0.0.3:31501 --dispatch concurrent

Then send requests to it: curl http://localhost:8000/v1/completions -H \"Content-Type: application/json\" -d '{...}'";

impl RunProxy {
    pub(crate) fn run(self) -> Result<(), Failure> {
        log::to_standard_error(&self.level.log_level)?;
        let config = self.config().map_err(told)?;
        let task = format!("Start proxy service @ {}:{}", config.host, config.port);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(serve(config)).map_err(|failure| failure.of_task(&task))
    }

    fn config(&self) -> Result<ProxyConfig, ProxyError> {
        let prefill = InstanceAddress::pair(&self.prefiller_host, &self.prefiller_port)?;
        let decode = InstanceAddress::pair(&self.decoder_host, &self.decoder_port)?;
        let mut config = ProxyConfig { host: self.host.clone(), port: self.port, ..ProxyConfig::new(prefill, decode) };
        config.decode_workers = self.decoder_worker.clone();
        config.dispatch = match self.dispatch {
            When::Sequential => Dispatch::Sequential,
            When::Concurrent => Dispatch::Concurrent,
        };
        if let Some(seconds) = self.prefill_timeout {
            config.timeouts.prefill = Duration::from_secs(seconds);
        }
        if let Some(seconds) = self.shutdown_grace {
            config.timeouts.shutdown_grace = Duration::from_secs(seconds);
        }
        if let Some(megabytes) = self.max_body_mb {
            config.limits.max_body_bytes = (megabytes as usize) << 20;
        }
        config.validate()?;
        Ok(config)
    }
}

/// Serves until a signal comes; then lets the requests in flight finish, or ends at once when a second one comes.
async fn serve(config: ProxyConfig) -> Result<(), Failure> {
    let mut ending = Ending::new()?;
    let proxy = Proxy::bind(config).await.map_err(told)?;
    report::succeeded(&format!("Start proxy service @ {}", proxy.local_addr()), std::process::id());
    let (shut_down, shutting_down) = oneshot::channel::<()>();
    let mut serving = std::pin::pin!(proxy.run(async { drop(shutting_down.await) }));
    tokio::select! {
        () = &mut serving => return Ok(()),
        signal = ending.wait() => tracing::info!(signal, "ending"),
    }
    drop(shut_down);
    tokio::select! {
        () = serving => {}
        signal = ending.wait() => tracing::warn!(signal, "ending without the requests in flight"),
    }
    Ok(())
}

fn told(error: ProxyError) -> Failure {
    let code = if matches!(error, ProxyError::Listen { .. }) { 1 } else { 2 };
    let hint = error.hint();
    Failure { code, ..Failure::new(error).hint(hint) }
}
