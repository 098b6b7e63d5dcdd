//! Getting a connection to etcd: the first of its members that answers.

use std::io;
use std::sync::Arc;

use http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::connection::Connection;
use crate::health::Reported;
use crate::{ClusterConfig, DIAL_PATIENCE, EtcdEndpoint, EtcdError, HEAD_START, tls};

/// Bytes both ways.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Connects to one of the endpoints, of which the one at `first` and those after it have a head start, and logs in.
/// Returns which it is.
pub(crate) async fn dial(
    config: &ClusterConfig,
    first: usize,
    reported: &Arc<Reported>,
) -> Result<(usize, Connection), EtcdError> {
    let (at, mut connection) = race(config, first, reported).await?;
    if let Some(login) = &config.security.login {
        connection.log_in(login).await?;
    }
    Ok((at, connection))
}

async fn race(
    config: &ClusterConfig,
    first: usize,
    reported: &Arc<Reported>,
) -> Result<(usize, Connection), EtcdError> {
    let tls = config.security.tls.as_ref().map(tls::connector).transpose()?;
    let count = config.endpoints.len();
    let mut others = (0..count).map(|at| (first + at) % count);
    let mut attempts = JoinSet::new();
    loop {
        let next = others.next();
        if let Some(at) = next {
            let (endpoint, tls, reported) = (config.endpoints[at].clone(), tls.clone(), reported.clone());
            attempts.spawn(async move { (at, connect(endpoint, tls, reported).await) });
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok((at, Ok(connection))) => return Ok((at, connection)),
                Ok((_, Err(error))) if attempts.is_empty() && others.len() == 0 => return Err(error),
                Ok((_, Err(_))) => {}
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = sleep(HEAD_START), if others.len() > 0 => {}
        }
    }
}

async fn connect(
    endpoint: EtcdEndpoint,
    tls: Option<TlsConnector>,
    reported: Arc<Reported>,
) -> Result<Connection, EtcdError> {
    let scheme = if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let wire = timeout(DIAL_PATIENCE, wire(&endpoint, tls)).await;
    let wire = wire.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let wire = wire.map_err(|source| EtcdError::Dial { endpoint: endpoint.clone(), source })?;
    Connection::over(wire, scheme, endpoint, reported).await
}

async fn wire(endpoint: &EtcdEndpoint, tls: Option<TlsConnector>) -> io::Result<Box<dyn Wire>> {
    let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(endpoint.host().to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(tls.connect(name, stream).await?))
}
