//! Joining, leaving, crashing, and what stands at a worker's address already.

use chariot_cluster::{Farewell, JoinError, Membership, Registered, RequestKind};

use crate::server::{Etcd, with_each_version};
use crate::workers::{LONG_LEASE, SHORT_LEASE, config, healthy, join, key, member, record, refused, sees, until};

#[test]
fn who_joins_is_seen_by_all_and_who_leaves_is_gone_at_once() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let first = join(&etcd, LONG_LEASE, 1, 9).await;
        sees(&first, &[member(1, 9)]).await;
        let second = join(&etcd, LONG_LEASE, 2, 5).await;
        for worker in [&first, &second] {
            sees(worker, &[member(2, 5), member(1, 9)]).await;
        }
        assert_eq!(second.leave().await, Farewell::Said);
        sees(&first, &[member(1, 9)]).await;
        assert_eq!(etcd.ctl(&["get", "--prefix", "--keys-only", "/"]).trim(), key(1));
    });
}

#[test]
fn who_crashes_is_gone_when_its_lease_has_run_out() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let first = join(&etcd, SHORT_LEASE, 1, 1).await;
        let second = join(&etcd, SHORT_LEASE, 2, 2).await;
        sees(&first, &[member(1, 1), member(2, 2)]).await;
        drop(second);
        sees(&first, &[member(1, 1)]).await;
    });
}

#[test]
fn a_stale_record_of_this_host_is_replaced_at_once_by_another_member() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let other = join(&etcd, LONG_LEASE, 1, 1).await;
        drop(join(&etcd, LONG_LEASE, 2, 2).await);
        let _again = join(&etcd, LONG_LEASE, 2, 3).await;
        sees(&other, &[member(1, 1), member(2, 3)]).await;
    });
}

#[test]
fn a_worker_that_has_left_joins_again_under_the_same_address() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let other = join(&etcd, LONG_LEASE, 1, 1).await;
        assert_eq!(join(&etcd, LONG_LEASE, 2, 2).await.leave().await, Farewell::Said);
        let _again = join(&etcd, LONG_LEASE, 2, 3).await;
        sees(&other, &[member(1, 1), member(2, 3)]).await;
    });
}

#[test]
fn a_clash_with_another_host_is_told_by_its_name() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let lease = put_record_of_another_host(&etcd, 1, 10);
        let _alive = etcd.keep_doing(&["lease", "keep-alive", &lease]);
        let error = refused(config(&etcd.addresses(), std::time::Duration::from_secs(10)), member(1, 1)).await;
        assert!(matches!(&error, JoinError::Clash { host, .. } if host == "elsewhere"), "{error:?}");
        assert!(error.to_string().contains("127.0.0.1:31001"), "{error}");
        assert!(error.hint().unwrap().contains("--cluster_name"));
        assert!(etcd.ctl(&["get", &key(1)]).contains("elsewhere"));
    });
}

#[test]
fn a_record_of_another_host_that_stands_for_longer_than_the_lease_is_a_clash() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        put_record_of_another_host(&etcd, 1, 600);
        let error = refused(config(&etcd.addresses(), SHORT_LEASE), member(1, 1)).await;
        assert!(matches!(error, JoinError::Clash { .. }), "{error:?}");
    });
}

#[test]
fn a_dead_worker_of_another_host_is_waited_for_until_its_lease_has_run_out() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        put_record_of_another_host(&etcd, 1, 2);
        let worker = join(&etcd, SHORT_LEASE, 1, 1).await;
        sees(&worker, &[member(1, 1)]).await;
        assert!(!etcd.ctl(&["get", &key(1)]).contains("elsewhere"));
    });
}

#[test]
fn a_record_that_is_gone_is_put_anew() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let first = join(&etcd, LONG_LEASE, 1, 1).await;
        let second = join(&etcd, LONG_LEASE, 2, 2).await;
        let both = [member(1, 1), member(2, 2)];
        sees(&first, &both).await;
        let lease = record(&etcd, 2).unwrap().lease;
        etcd.ctl(&["del", &key(2)]);
        until("the record is put anew, under the same lease", || {
            record(&etcd, 2).is_some_and(|record| record.lease == lease)
        });
        etcd.ctl(&["lease", "revoke", &format!("{lease:x}")]);
        until("the record is put anew, under another lease", || {
            record(&etcd, 2).is_some_and(|record| record.lease != lease)
        });
        sees(&first, &both).await;
        assert_eq!(second.leave().await, Farewell::Said);
        sees(&first, &[member(1, 1)]).await;
    });
}

#[test]
fn a_running_worker_whose_address_another_host_takes_says_so_and_takes_it_back() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let worker = join(&etcd, SHORT_LEASE, 1, 1).await;
        put_record_of_another_host(&etcd, 1, 2);
        let taken = Registered::Taken { by: "elsewhere".into() };
        healthy(&worker, |health| health.registered == taken).await;
        healthy(&worker, |health| health.registered == Registered::Yes).await;
        assert!(!etcd.ctl(&["get", &key(1)]).contains("elsewhere"));
    });
}

#[test]
fn clusters_share_an_etcd_and_do_not_see_each_other() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let named = |name: &str| {
            let mut config = config(&etcd.addresses(), LONG_LEASE);
            config.cluster_name = name.parse().unwrap();
            config
        };
        let here = Membership::join(named("blue"), member(1, 1)).await.unwrap();
        let there = Membership::join(named("blu"), member(1, 2)).await.unwrap();
        let third = Membership::join(named("blue"), member(3, 3)).await.unwrap();
        sees(&here, &[member(1, 1), member(3, 3)]).await;
        sees(&third, &[member(1, 1), member(3, 3)]).await;
        sees(&there, &[member(1, 2)]).await;
    });
}

#[test]
fn others_that_come_and_go_cost_a_member_no_request() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let worker = join(&etcd, LONG_LEASE, 1, 1).await;
        let other = join(&etcd, LONG_LEASE, 2, 2).await;
        sees(&worker, &[member(1, 1), member(2, 2)]).await;
        other.leave().await;
        sees(&worker, &[member(1, 1)]).await;
        let before = worker.health().requests;
        for run in 3..10 {
            let other = join(&etcd, LONG_LEASE, 2, run).await;
            sees(&worker, &[member(1, 1), member(2, run)]).await;
            other.leave().await;
            sees(&worker, &[member(1, 1)]).await;
        }
        let after = worker.health().requests;
        let but_keep_alives =
            |requests: &chariot_cluster::Requests| requests.total() - requests.of(RequestKind::LeaseKeepAlive);
        assert_eq!(but_keep_alives(&before), but_keep_alives(&after));
    });
}

/// Puts what a worker of another host would, under a lease of so many seconds. Returns the lease.
fn put_record_of_another_host(etcd: &Etcd, node: u16, seconds: u32) -> String {
    let said = etcd.ctl(&["lease", "grant", &seconds.to_string()]);
    let lease = said.split(' ').nth(1).unwrap().to_owned();
    let address = member(node, 0).address;
    let record = format!(
        r#"{{"address":"{address}","run":"{}","protocol":1,"host":"x","host_name":"elsewhere"}}"#,
        "ee".repeat(16)
    );
    etcd.ctl(&["put", &key(node), &record, &format!("--lease={lease}")]);
    lease
}
