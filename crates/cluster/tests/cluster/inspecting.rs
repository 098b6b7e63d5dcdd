//! Looking at etcd without joining.

use chariot_cluster::{inspect, lease_clock};

use crate::server::{Etcd, with_each_version};
use crate::workers::{LONG_LEASE, config};

#[test]
fn each_endpoint_says_how_it_is() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let config = config(&["127.0.0.1:1".into(), etcd.address(0)], LONG_LEASE);
        let reports = inspect(&config).await.unwrap();
        assert!(reports[0].1.is_err(), "{reports:?}");
        let report = reports[1].1.as_ref().unwrap();
        assert!(report.version.starts_with("3.") && report.has_leader && report.errors.is_empty(), "{report:?}");
        let clock = lease_clock(&config).await.unwrap();
        assert!(clock.is_sane(), "{clock:?}");
        assert_eq!(etcd.ctl(&["lease", "list"]).trim(), "found 0 leases");
    });
}
