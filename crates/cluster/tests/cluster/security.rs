//! Etcd that wants users, and TLS.

use std::path::Path;

use chariot_cluster::{ClusterConfig, Farewell, JoinError, Login, Membership, Tls, TlsIdentity};

use crate::certificates::Certificates;
use crate::server::{Etcd, with_each_version};
use crate::workers::{LONG_LEASE, config, healthy, is_away, is_connected, member, refused, sees};

#[test]
fn an_etcd_that_wants_users_is_told_one_and_told_again_when_it_is_back() {
    with_each_version(async |version| {
        let mut etcd = Etcd::start(version);
        etcd.ctl(&["role", "add", "workers"]);
        etcd.ctl(&["role", "grant-permission", "--prefix", "workers", "readwrite", "/chariot/"]);
        for user in ["chariot", "stranger"] {
            etcd.ctl(&["user", "add", &format!("{user}:secret of {user}")]);
        }
        etcd.ctl(&["user", "grant-role", "chariot", "workers"]);
        etcd.require_users("rootpw");

        let worker = Membership::join(as_user(&etcd, "chariot", "secret of chariot"), member(1, 1)).await.unwrap();
        etcd.kill(0);
        healthy(&worker, is_away).await;
        etcd.restart(0);
        healthy(&worker, is_connected).await;
        let other = Membership::join(as_user(&etcd, "chariot", "secret of chariot"), member(2, 2)).await.unwrap();
        sees(&worker, &[member(1, 1), member(2, 2)]).await;
        assert_eq!(other.leave().await, Farewell::Said);

        let said = async |config| {
            let error = refused(config, member(3, 3)).await;
            assert!(matches!(error, JoinError::Refused { .. }), "{error:?}");
            error.hint().unwrap()
        };
        assert!(said(as_user(&etcd, "chariot", "wrong")).await.contains("name and password"));
        assert!(said(as_user(&etcd, "stranger", "secret of stranger")).await.contains("read and write access"));
        assert!(said(config(&etcd.addresses(), LONG_LEASE)).await.contains("--etcd_user"));
    });
}

#[test]
fn a_user_is_no_hindrance_where_etcd_wants_none() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let worker = Membership::join(as_user(&etcd, "anyone", "any"), member(1, 1)).await.unwrap();
        assert_eq!(worker.leave().await, Farewell::Said);
    });
}

#[test]
fn a_password_is_not_in_what_is_logged_of_a_configuration() {
    let mut config = ClusterConfig::new(Vec::new());
    config.security.login = Some(Login { user: "chariot".into(), password: "hunter2".into() });
    let text = format!("{config:?}");
    assert!(text.contains("chariot") && !text.contains("hunter2"), "{text}");
}

#[test]
fn etcd_with_certificates_on_both_sides() {
    with_each_version(async |version| {
        let files = Certificates::new();
        let etcd = files.serve(version);
        let whole = config_of(&files, &etcd, &files.path("ca.pem"), Some("client"));
        let worker = Membership::join(whole.clone(), member(1, 1)).await.unwrap();
        let other = Membership::join(whole, member(2, 2)).await.unwrap();
        sees(&worker, &[member(1, 1), member(2, 2)]).await;
        assert_eq!(other.leave().await, Farewell::Said);

        let hint = async |config| refused(config, member(3, 3)).await.hint().unwrap();
        let stranger = Certificates::new();
        let (distrust, unnamed, plain) = tokio::join!(
            hint(config_of(&files, &etcd, &stranger.path("ca.pem"), Some("client"))),
            hint(config_of(&files, &etcd, &files.path("ca.pem"), None)),
            hint(config(&etcd.addresses(), LONG_LEASE)),
        );
        assert!(distrust.contains("do not agree on TLS"), "{distrust}");
        assert!(unnamed.contains("`--etcd_cert`"), "{unnamed}");
        assert!(plain.contains("`--etcd_ca`"), "{plain}");
    });
}

#[tokio::test]
async fn what_tls_needs_is_looked_at_before_etcd_is() {
    let addresses = ["https://127.0.0.1:1".to_owned()];
    let error = refused(config(&addresses, LONG_LEASE), member(1, 1)).await;
    assert!(matches!(error, JoinError::NoAuthority { .. }), "{error:?}");

    let with_ca = |address: &str, ca: &Path| {
        let mut config = config(&[address.to_owned()], LONG_LEASE);
        config.security.tls = Some(Tls { ca: ca.to_owned(), identity: None });
        config
    };
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("ca.pem");
    let error = refused(with_ca("http://127.0.0.1:1", &missing), member(1, 1)).await;
    assert!(matches!(error, JoinError::AuthorityForPlainText { .. }), "{error:?}");
    let error = refused(with_ca("127.0.0.1:1", &missing), member(1, 1)).await;
    assert!(matches!(error, JoinError::Refused { .. }), "{error:?}");
    std::fs::write(&missing, "no certificate").unwrap();
    let error = refused(with_ca("127.0.0.1:1", &missing), member(1, 1)).await;
    assert!(matches!(error, JoinError::Refused { .. }), "{error:?}");
}

fn as_user(etcd: &Etcd, user: &str, password: &str) -> ClusterConfig {
    let mut config = config(&etcd.addresses(), LONG_LEASE);
    config.security.login = Some(Login { user: user.into(), password: password.into() });
    config
}

fn config_of(files: &Certificates, etcd: &Etcd, ca: &Path, identity: Option<&str>) -> ClusterConfig {
    let mut config = config(&etcd.addresses(), LONG_LEASE);
    let file = |name: &str, kind: &str| files.path(&format!("{name}.{kind}"));
    let identity = identity.map(|name| TlsIdentity { cert: file(name, "pem"), key: file(name, "key") });
    config.security.tls = Some(Tls { ca: ca.to_owned(), identity });
    config
}
