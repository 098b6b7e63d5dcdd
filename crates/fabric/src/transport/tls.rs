//! Links over TCP within TLS: each side shows a certificate that one authority has signed, and whoever dials sees that it
//! is the other's for the address that was dialled.
//!
//! What is sent is copied once more, into what is encrypted.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use chariot_certificates::{Unusable, authorities, chain, ciphers, key};
use chariot_types::WorkerAddress;
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::tcp::{dial, prepare};
use super::{Doing, Link, Receiver, Sender, Transport};
use crate::PATIENCE;

/// The files from which a worker takes who it is and whom it believes, all PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// The authority that has signed the certificates of all workers.
    pub ca: PathBuf,
    /// This worker's certificate, for the host of its address; good for a server and for a client.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// Links over TCP within TLS.
#[derive(Clone)]
pub struct TlsTransport {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl TlsTransport {
    /// Reads the files.
    pub fn new(credentials: &Credentials) -> Result<Self, Unusable> {
        let Credentials { ca, cert, key: key_file } = credentials;
        let authorities = Arc::new(authorities(ca)?);
        let versions = "the provider has ciphers for the versions that are the default";
        let client = ClientConfig::builder_with_provider(ciphers())
            .with_safe_default_protocol_versions()
            .expect(versions)
            .with_root_certificates(authorities.clone())
            .with_client_auth_cert(chain(cert)?, key(key_file)?)
            .map_err(|error| Unusable::new(key_file, error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, ciphers()).build();
        let server = ServerConfig::builder_with_provider(ciphers())
            .with_safe_default_protocol_versions()
            .expect(versions)
            .with_client_cert_verifier(verifier.map_err(|error| Unusable::new(ca, error))?)
            .with_single_cert(chain(cert)?, key(key_file)?)
            .map_err(|error| Unusable::new(key_file, error))?;
        Ok(Self { connector: Arc::new(client).into(), acceptor: Arc::new(server).into() })
    }

    /// Makes a link of a connection that was accepted, if the other side shows who it is in time. To be called in the runtime
    /// that will drive it.
    pub async fn adopt(&self, stream: StdTcpStream) -> io::Result<Link> {
        stream.set_nonblocking(true)?;
        let stream = prepare(TcpStream::from_std(stream)?)?;
        let socket = another(&stream)?;
        Ok(link(in_time(self.acceptor.accept(stream)).await?, socket))
    }
}

impl Transport for TlsTransport {
    fn dial<'a>(&'a self, to: &'a WorkerAddress) -> Doing<'a, Link> {
        Box::pin(async move {
            let name = ServerName::try_from(to.host().to_owned()).map_err(io::Error::other)?;
            let stream = dial(to).await?;
            let socket = another(&stream)?;
            Ok(link(in_time(self.connector.connect(name, stream)).await?, socket))
        })
    }
}

/// The same connection once more, to end it.
fn another(stream: &TcpStream) -> io::Result<Arc<Ending>> {
    Ok(Arc::new(Ending(stream.as_fd().try_clone_to_owned()?.into())))
}

fn link<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S, socket: Arc<Ending>) -> Link {
    let (read, write) = tokio::io::split(stream);
    let receiver = TlsReceiver { read, socket: socket.clone() };
    Link { sender: Box::new(TlsSender { write, socket }), receiver: Box::new(receiver) }
}

/// Ends a connection for both halves.
struct Ending(Socket);

impl Ending {
    /// One half is gone. The other may still be held, and nobody shall wait for what it brings, nor for it.
    fn end(&self) {
        // A connection that has ended already is no error.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

struct TlsSender<S> {
    write: WriteHalf<S>,
    socket: Arc<Ending>,
}

struct TlsReceiver<S> {
    read: ReadHalf<S>,
    socket: Arc<Ending>,
}

impl<S: AsyncRead + AsyncWrite + Send> Sender for TlsSender<S> {
    fn send<'a>(&'a mut self, frames: &'a [u8], payload: &'a [u8]) -> Doing<'a, ()> {
        Box::pin(async move {
            for mut left in [frames, payload] {
                while !left.is_empty() {
                    match in_time(self.write.write(left)).await? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        written => left = &left[written..],
                    }
                }
            }
            in_time(self.write.flush()).await
        })
    }

    /// What is encrypted here has to be sent: there is no saying how much of it would be.
    fn try_send(&mut self, _frames: &[u8]) -> usize {
        0
    }
}

impl<S: AsyncRead + AsyncWrite + Send> Receiver for TlsReceiver<S> {
    fn receive<'a>(&'a mut self, into: &'a mut [u8]) -> Doing<'a, usize> {
        Box::pin(async move {
            match self.read.read(into).await {
                // It ended without the farewell of TLS. That it ended too soon, whoever reads frames sees by itself.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                received => received,
            }
        })
    }
}

impl<S> Drop for TlsSender<S> {
    fn drop(&mut self) {
        self.socket.end();
    }
}

impl<S> Drop for TlsReceiver<S> {
    fn drop(&mut self) {
        self.socket.end();
    }
}

async fn in_time<T>(moving: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, moving).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}
