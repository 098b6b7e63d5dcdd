//! Within TLS, who cannot show what the authority has signed is no worker, whichever side it is on.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::TcpListener;

use chariot_fabric::transport::{Credentials, Link, TcpTransport, TlsTransport, Transport, adopt};
use chariot_types::WorkerAddress;
use support::papers::Authority;

/// What comes of it when `dialler` dials `served`: what each side got.
async fn meet(dialler: &dyn Transport, served: &TlsTransport) -> (std::io::Result<Link>, std::io::Result<Link>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: WorkerAddress = listener.local_addr().unwrap().to_string().parse().unwrap();
    let accept = async {
        let (stream, _) = tokio::task::spawn_blocking(move || listener.accept()).await.unwrap().unwrap();
        served.adopt(stream).await
    };
    tokio::join!(
        async {
            let mut link = dialler.dial(&address).await?;
            // In TLS 1.3 who dials has a connection before the other side has looked at its certificate.
            link.sender.send(b"hello", &[]).await?;
            let mut answer = [0];
            match link.receiver.receive(&mut answer).await? {
                1 if answer == *b"!" => Ok(link),
                _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        },
        async {
            let mut link = accept.await?;
            let mut hello = [0; 5];
            link.receiver.receive(&mut hello).await?;
            link.sender.send(b"!", &[]).await?;
            Ok(link)
        }
    )
}

#[tokio::test]
async fn workers_of_one_authority_meet() {
    let authority = Authority::new();
    let [one, other] = [(); 2].map(|()| authority.transport(&["127.0.0.1"]));
    let (dialled, accepted) = meet(&one, &other).await;
    assert!(dialled.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn a_worker_of_another_authority_meets_nobody() {
    let [one, other] = [(); 2].map(|()| Authority::new().transport(&["127.0.0.1"]));
    let (dialled, accepted) = meet(&one, &other).await;
    assert!(dialled.is_err() && accepted.is_err());
}

#[tokio::test]
async fn who_dials_with_a_certificate_that_nobody_asked_for_is_turned_away() {
    let (known, unknown) = (Authority::new(), Authority::new());
    let served = known.transport(&["127.0.0.1"]);
    let stranger = unknown.credentials(&["127.0.0.1"]);
    // It believes the worker, which does not believe it.
    let Credentials { ca, .. } = known.credentials(&["127.0.0.1"]);
    let stranger = TlsTransport::new(&Credentials { ca, ..stranger }).unwrap();
    let (dialled, accepted) = meet(&stranger, &served).await;
    assert!(dialled.is_err() && accepted.is_err());
}

#[tokio::test]
async fn a_certificate_for_another_host_is_not_believed() {
    let authority = Authority::new();
    let (one, elsewhere) = (authority.transport(&["127.0.0.1"]), authority.transport(&["127.0.0.9"]));
    let (dialled, accepted) = meet(&one, &elsewhere).await;
    assert!(dialled.is_err() && accepted.is_err());
}

#[tokio::test]
async fn who_speaks_no_tls_is_turned_away() {
    let served = Authority::new().transport(&["127.0.0.1"]);
    let (dialled, accepted) = meet(&TcpTransport, &served).await;
    assert!(dialled.is_err() && accepted.is_err());
}

#[tokio::test]
async fn a_worker_that_answers_without_tls_is_not_believed() {
    let dialler = Authority::new().transport(&["127.0.0.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: WorkerAddress = listener.local_addr().unwrap().to_string().parse().unwrap();
    let accept = async {
        let (stream, _) = tokio::task::spawn_blocking(move || listener.accept()).await.unwrap().unwrap();
        let mut link = adopt(stream).unwrap();
        link.receiver.receive(&mut [0; 100]).await.unwrap();
        link.sender.send(b"an answer that is no handshake", &[]).await.unwrap();
        link
    };
    let (dialled, _link) = tokio::join!(dialler.dial(&address), accept);
    assert!(dialled.is_err());
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let authority = Authority::new();
    let good = authority.credentials(&["127.0.0.1"]);
    let missing = good.ca.with_file_name("missing");
    for bad in [
        Credentials { ca: missing.clone(), ..good.clone() },
        Credentials { cert: missing.clone(), ..good.clone() },
        Credentials { key: missing.clone(), ..good.clone() },
    ] {
        assert_eq!(TlsTransport::new(&bad).err().unwrap().path, missing);
    }
    let swapped = Credentials { cert: good.key.clone(), ..good.clone() };
    assert_eq!(TlsTransport::new(&swapped).err().unwrap().path, good.key);
    // The key of another certificate.
    let another = Authority::new();
    let other = another.credentials(&["127.0.0.1"]);
    let mixed = Credentials { key: other.key.clone(), ..good };
    assert_eq!(TlsTransport::new(&mixed).err().unwrap().path, other.key);
}
