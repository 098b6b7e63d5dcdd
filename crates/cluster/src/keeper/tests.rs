use super::*;
use chariot_types::RunId;
use tokio::time::timeout;

#[allow(dead_code)]
#[path = "../../tests/cluster/server.rs"]
mod server;

use server::{Etcd, PATIENCE, with_each_version};

fn keeper(etcd: &Etcd, number: u8) -> (Keeper, Arc<Reported>) {
    let me = Member { run: RunId::from_bytes([number; 16]), address: format!("node{number}:1").parse().unwrap() };
    let reported = Arc::new(Reported::new());
    let config = ClusterConfig::new(vec![etcd.address(0).parse().unwrap()]);
    (Keeper::new(config, me, Host::here().unwrap(), reported.clone()), reported)
}

#[test]
fn a_watch_of_what_etcd_has_forgotten_is_begun_anew_from_a_listing() {
    with_each_version(async |version| {
        let etcd = Etcd::start(version);
        let (mut watching, reported) = keeper(&etcd, 1);
        let session = watching.join().await.unwrap();
        let (mut other, _) = keeper(&etcd, 2);
        other.join().await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&etcd.ctl(&["get", "x", "-w", "json"])).unwrap();
        etcd.ctl(&["compaction", &json["header"]["revision"].to_string()]);

        let mut members = watching.members();
        let asked = reported.health().requests;
        let (_ending, told) = oneshot::channel();
        let task = tokio::spawn(watching.run(Session { revision: 0, ..session }, told));
        timeout(PATIENCE, members.wait_for(|members| members.len() == 2)).await.unwrap().unwrap();
        let (mut third, _) = keeper(&etcd, 3);
        third.join().await.unwrap();
        timeout(PATIENCE, members.wait_for(|members| members.len() == 3)).await.unwrap().unwrap();
        // Over the same connection: one listing, and one watch more.
        let now = reported.health().requests;
        assert_eq!(now.of(RequestKind::Range), asked.of(RequestKind::Range) + 1);
        assert_eq!(now.of(RequestKind::Watch), asked.of(RequestKind::Watch) + 2);
        task.abort();
    });
}
