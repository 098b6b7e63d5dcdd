//! Listens, serves each connection in a task of its own, and ends in good order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info, warn};

use crate::connection::tune;
use crate::routes::Routes;
use crate::{ProxyConfig, ProxyError};

/// How often idle connections to instances are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How long accepting rests after an error: mostly there are no descriptors left, and only time brings some.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Listens and serves until `shutdown` resolves, then lets the requests in flight finish, for
/// [`Timeouts::shutdown_grace`](crate::Timeouts::shutdown_grace) at most.
pub async fn serve(config: ProxyConfig, shutdown: impl Future<Output = ()>) -> Result<(), ProxyError> {
    Proxy::bind(config).await?.run(shutdown).await;
    Ok(())
}

/// A proxy that listens and does not serve yet.
pub struct Proxy {
    listener: TcpListener,
    address: SocketAddr,
    routes: Arc<Routes>,
    config: ProxyConfig,
}

impl Proxy {
    /// Checks the configuration and opens the listening socket.
    pub async fn bind(config: ProxyConfig) -> Result<Self, ProxyError> {
        config.validate()?;
        let failed = |source| ProxyError::Listen { address: format!("{}:{}", config.host, config.port), source };
        let listener = TcpListener::bind((config.host.as_str(), config.port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, routes: Arc::new(Routes::new(&config)), config })
    }

    /// Where it listens: the port that the system chose, where none was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves; see [`serve`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, address, routes, config } = self;
        info!(%address, prefill = config.prefill.len(), decode = config.decode.len(), "proxy serves");
        let (draining, drained) = watch::channel(());
        let server = Server { http: http(&config), routes, draining: drained, config };
        let mut connections = JoinSet::new();
        tokio::select! {
            () = shutdown => {}
            never = server.accept(&listener, &mut connections) => match never {},
        }
        drop(listener);
        drop(draining);
        finish(connections, server.config.timeouts.shutdown_grace).await;
    }
}

/// How clients' connections are served.
pub(crate) fn http(config: &ProxyConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.timeouts.head_read)
        .max_headers(config.limits.max_headers)
        .max_header_size(config.limits.max_head_bytes);
    http
}

/// Ends when every connection has, or kills what is left after `grace`.
async fn finish(mut connections: JoinSet<()>, grace: Duration) {
    if connections.is_empty() {
        return;
    }
    info!(connections = connections.len(), "proxy finishes the requests in flight");
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(grace, all).await.is_err() {
        warn!(connections = connections.len(), ?grace, "proxy ends requests that took too long to finish");
        connections.shutdown().await;
    }
}

struct Server {
    http: http1::Builder,
    routes: Arc<Routes>,
    /// Its sender is dropped when the proxy shuts down.
    draining: watch::Receiver<()>,
    config: ProxyConfig,
}

impl Server {
    async fn accept(&self, listener: &TcpListener, connections: &mut JoinSet<()>) -> std::convert::Infallible {
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = connections.len() < self.config.limits.max_connections;
            tokio::select! {
                accepted = listener.accept(), if room => match accepted {
                    Ok((stream, _)) => { connections.spawn(self.serve(stream)); }
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_REST).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                _ = sweep.tick() => self.routes.sweep(),
            }
        }
    }

    /// Serves one client connection until either side ends it.
    fn serve(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        let routes = Arc::clone(&self.routes);
        let answer = service_fn(move |request| Arc::clone(&routes).answer(request));
        let http = self.http.clone();
        let mut draining = self.draining.clone();
        let silence = self.config.timeouts.peer_silence;
        async move {
            if let Err(error) = tune(&stream, silence) {
                debug!(%error, "client connection ended before it began");
                return;
            }
            let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), answer));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = draining.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                debug!(%error, "client connection ended");
            }
        }
    }
}
