//! Etcd that is not there, and what is done until it is.

use std::net::TcpListener;

use chariot_cluster::{Contact, Farewell, JoinError, Membership};

use crate::gate::Gate;
use crate::server::{Etcd, with_each_version};
use crate::workers::{
    LONG_LEASE, SHORT_LEASE, config, healthy, is_away, is_connected, join, key, member, reaches, refused, sees,
};

#[tokio::test]
async fn an_etcd_that_is_not_there_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    drop(taken);
    let error = refused(config(&[address.clone(), "127.0.0.1:1".into()], LONG_LEASE), member(1, 1)).await;
    assert_eq!(error.to_string(), format!("cannot reach etcd at `{address},127.0.0.1:1`"));
    assert!(error.hint().unwrap().contains("check that etcd runs"));
}

#[tokio::test]
async fn a_port_that_says_nothing_is_not_waited_for_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let error = refused(config(&[address], LONG_LEASE), member(1, 1)).await;
    assert!(matches!(error, JoinError::Unreachable { .. }), "{error:?}");
}

#[test]
fn while_etcd_is_away_the_last_members_stand_and_others_are_seen_when_it_is_back() {
    with_each_version(async |version| {
        let mut etcd = Etcd::start(version);
        let first = join(&etcd, SHORT_LEASE, 1, 1).await;
        let second = join(&etcd, SHORT_LEASE, 2, 2).await;
        let both = [member(1, 1), member(2, 2)];
        sees(&first, &both).await;
        etcd.kill(0);
        healthy(&first, is_away).await;
        tokio::time::sleep(SHORT_LEASE).await;
        assert_eq!(**first.members().borrow(), both);
        etcd.restart(0);
        let third = join(&etcd, SHORT_LEASE, 3, 3).await;
        let all = [member(1, 1), member(2, 2), member(3, 3)];
        for worker in [&first, &second, &third] {
            healthy(worker, is_connected).await;
            sees(worker, &all).await;
        }
    });
}

#[test]
fn an_etcd_that_has_lost_everything_is_told_it_anew_and_nobody_is_missed() {
    with_each_version(async |version| {
        let mut etcd = Etcd::start(version);
        let first = join(&etcd, LONG_LEASE, 1, 1).await;
        let second = join(&etcd, LONG_LEASE, 2, 2).await;
        let both = [member(1, 1), member(2, 2)];
        sees(&first, &both).await;
        sees(&second, &both).await;
        let (mut told_first, mut told_second) = (first.members(), second.members());
        told_first.mark_unchanged();
        told_second.mark_unchanged();
        etcd.kill(0);
        healthy(&first, is_away).await;
        healthy(&second, is_away).await;
        etcd.restart_empty();
        healthy(&first, is_connected).await;
        healthy(&second, is_connected).await;
        let keys = etcd.ctl(&["get", "--prefix", "--keys-only", "/"]);
        assert!(keys.contains(&key(1)) && keys.contains(&key(2)), "{keys}");
        assert!(!told_first.has_changed().unwrap() && !told_second.has_changed().unwrap());
    });
}

#[test]
fn who_leaves_while_etcd_is_away_leaves_all_the_same() {
    with_each_version(async |version| {
        let mut etcd = Etcd::start(version);
        let worker = join(&etcd, LONG_LEASE, 1, 1).await;
        etcd.kill(0);
        assert_eq!(worker.leave().await, Farewell::Unheard);
    });
}

#[test]
fn a_worker_goes_on_with_another_member_of_etcd() {
    with_each_version(async |version| {
        let mut etcd = Etcd::with_members(version, 3);
        let worker = join(&etcd, SHORT_LEASE, 1, 1).await;
        let Contact::Connected { endpoint, since } = worker.health().contact else { panic!("not connected") };
        etcd.kill(etcd.at(&endpoint.to_string()));
        healthy(&worker, |health| matches!(health.contact, Contact::Connected { since: now, .. } if now != since))
            .await;
        let second = join(&etcd, SHORT_LEASE, 2, 2).await;
        sees(&worker, &[member(1, 1), member(2, 2)]).await;
        sees(&second, &[member(1, 1), member(2, 2)]).await;
    });
}

#[test]
fn any_endpoint_that_answers_will_do() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = ["127.0.0.1:1".to_owned(), silent.local_addr().unwrap().to_string(), etcd.address(0)];
        let worker = Membership::join(config(&addresses, LONG_LEASE), member(1, 1)).await.unwrap();
        assert_eq!(worker.leave().await, Farewell::Said);
    });
}

#[test]
fn what_happened_while_the_watch_was_broken_is_seen_even_where_etcd_has_forgotten_it() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let gate = Gate::to(etcd.address(0)).await;
        let worker = Membership::join(config(&[gate.address()], LONG_LEASE), member(1, 1)).await.unwrap();
        let second = join(&etcd, LONG_LEASE, 2, 2).await;
        sees(&worker, &[member(1, 1), member(2, 2)]).await;
        gate.cut();
        healthy(&worker, is_away).await;
        second.leave().await;
        let _third = join(&etcd, LONG_LEASE, 3, 3).await;
        forget_the_past(&etcd);
        gate.open();
        sees(&worker, &[member(1, 1), member(3, 3)]).await;
    });
}

#[test]
fn a_network_that_falls_silent_is_noticed_by_the_keep_alive() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let gate = Gate::to(etcd.address(0)).await;
        let far = Membership::join(config(&[gate.address()], SHORT_LEASE), member(1, 1)).await.unwrap();
        let near = join(&etcd, SHORT_LEASE, 2, 2).await;
        let (mut far_told, mut near_told) = (far.members(), near.members());
        let both = [member(1, 1), member(2, 2)];
        reaches(&mut far_told, &both).await;
        gate.fall_silent();
        healthy(&far, is_away).await;
        reaches(&mut near_told, &[member(2, 2)]).await;
        assert_eq!(**far_told.borrow(), both);
        gate.open();
        reaches(&mut near_told, &both).await;
        healthy(&far, is_connected).await;
        assert_eq!(**far_told.borrow(), both);
    });
}

/// Compacts etcd's history up to now.
fn forget_the_past(etcd: &Etcd) {
    let json: serde_json::Value = serde_json::from_str(&etcd.ctl(&["get", "x", "-w", "json"])).unwrap();
    etcd.ctl(&["compaction", &json["header"]["revision"].to_string()]);
}
