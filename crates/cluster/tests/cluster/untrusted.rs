//! What others may write to etcd.

use crate::server::{Etcd, with_each_version};
use crate::workers::{LONG_LEASE, join, join_at_last, key, member, record, sees, until};

#[test]
fn what_is_no_record_is_skipped_before_and_after_joining() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        // Together more than a client takes by default.
        let huge = "x".repeat(100_000);
        let put_garbage = |from: u16| {
            for at in from..from + 60 {
                etcd.ctl(&["put", &key(at), &huge]);
            }
            etcd.ctl(&["put", &key(from + 60), "{}"]);
            etcd.ctl(&["put", "/chariot/default/workers/", "\u{1b}[2J"]);
            etcd.ctl(&["put", "/chariot/default/workers/a/b:1", "[1]"]);
        };
        put_garbage(100);
        let first = join(&etcd, LONG_LEASE, 1, 1).await;
        sees(&first, &[member(1, 1)]).await;
        put_garbage(200);
        let second = join(&etcd, LONG_LEASE, 2, 2).await;
        for worker in [&first, &second] {
            sees(worker, &[member(1, 1), member(2, 2)]).await;
        }
    });
}

#[test]
fn garbage_at_a_workers_own_key_is_replaced() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        etcd.ctl(&["put", &key(2), "{"]);
        let first = join(&etcd, LONG_LEASE, 1, 1).await;
        let _second = join(&etcd, LONG_LEASE, 2, 2).await;
        sees(&first, &[member(1, 1), member(2, 2)]).await;
        etcd.ctl(&["put", &key(2), "{"]);
        until("the garbage is replaced", || record(&etcd, 2).is_some_and(|record| record.lease != 0));
        sees(&first, &[member(1, 1), member(2, 2)]).await;
    });
}

#[test]
fn values_that_are_longer_than_any_answer_hide_nobody() {
    with_each_version(async |version| {
        // More than a worker takes from etcd at once: each of the first two alone, and the others together.
        let too_long = 51 << 20;
        let etcd = Etcd::with_values_up_to(version, too_long);
        let first = join(&etcd, LONG_LEASE, 1, 1).await;
        etcd.put_zeros("L2NoYXJpb3QvZGVmYXVsdC93b3JrZXJzLzEyNy4wLjAuMTozMTEwMA==", too_long);
        etcd.put_zeros("L2NoYXJpb3QvZGVmYXVsdC93b3JrZXJzLzEyNy4wLjAuMTozMTEwMQ==", 3 << 20);
        let second = join_at_last(&etcd, LONG_LEASE, 2, 2).await;
        for worker in [&first, &second] {
            sees(worker, &[member(1, 1), member(2, 2)]).await;
        }
    });
}
