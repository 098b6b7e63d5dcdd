//! Etcd, where the user says which: whether it can be reached and used, and whether leases run as clocks do.

use chariot_cluster::{ClusterConfig, EtcdError, EtcdReport, inspect, lease_clock};

use super::Check;
use crate::Failure;

pub(super) fn checks(config: &ClusterConfig) -> Result<Vec<Check>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checks = runtime.block_on(look(config));
    // A look-up of etcd's name may still be under way.
    runtime.shutdown_background();
    Ok(checks)
}

async fn look(config: &ClusterConfig) -> Vec<Check> {
    let reports = match inspect(config).await {
        Ok(reports) => reports,
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            return vec![Check::fail("etcd", format!("{:#}", anyhow::Error::new(error)), hint)];
        }
    };
    let mut known = None;
    let mut reached = 0;
    let mut checks = Vec::new();
    for (endpoint, report) in reports {
        checks.push(match report {
            Ok(report) => {
                reached += 1;
                let first = *known.get_or_insert(report.etcd);
                member(&endpoint.to_string(), &report, first)
            }
            Err(error) => unreached(&endpoint.to_string(), error),
        });
    }
    if reached > 0 {
        checks.push(leases(config).await);
    }
    checks
}

fn member(endpoint: &str, report: &EtcdReport, first: u64) -> Check {
    const CHECK: &str = "etcd";
    let EtcdReport { version, etcd, has_leader, errors } = report;
    if *etcd != first {
        let found = format!("`{endpoint}` is a member of another etcd than the first that answers");
        return Check::fail(CHECK, found, "give the members of one etcd alone to `--etcd_address`");
    }
    if !has_leader {
        let found = format!("`{endpoint}` has no leader: fewer than half of the members of etcd run");
        return Check::fail(CHECK, found, "start the others, or look into their logs");
    }
    if let Some(error) = errors.first() {
        return Check::warn(CHECK, format!("`{endpoint}` says `{error}`"), "`etcdctl alarm list` says more");
    }
    match is_old(version) {
        true => Check::warn(
            CHECK,
            format!("`{endpoint}` is version {version}"),
            "Chariot is tested with 3.4 and 3.5: workers may not be able to join by an older one",
        ),
        false => Check::ok(CHECK, format!("`{endpoint}` answers, version {version}")),
    }
}

fn is_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (3, 4)
}

fn unreached(endpoint: &str, error: EtcdError) -> Check {
    let found = format!("`{endpoint}` cannot be used: {:#}", anyhow::Error::new(error));
    Check::fail("etcd", found, "check that etcd runs there, and what `dscli start --help` says of TLS and users")
}

async fn leases(config: &ClusterConfig) -> Check {
    const CHECK: &str = "etcd leases";
    match lease_clock(config).await {
        Ok(clock) if clock.is_sane() => Check::ok(CHECK, "run as this machine's clock does"),
        Ok(clock) => Check::warn(
            CHECK,
            format!(
                "one of {:.0} s still runs for {:.0} s after {:.1} s",
                clock.granted.as_secs_f64(),
                clock.remaining.as_secs_f64(),
                clock.waited.as_secs_f64()
            ),
            "etcd's leader is overloaded, or its clock is wrong: workers may be thought dead, or alive, for too long",
        ),
        Err(error) => Check::fail(
            CHECK,
            format!("cannot be taken: {:#}", anyhow::Error::new(error)),
            "the user needs read and write access to the keys from `/chariot/`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn an_etcd_is_judged_by_what_it_says() {
        let sound = EtcdReport { version: "3.5.1".into(), etcd: 7, has_leader: true, errors: Vec::new() };
        let verdict = |report: EtcdReport| member("etcd:2379", &report, 7).verdict;
        assert_eq!(verdict(sound.clone()), Verdict::Ok);
        assert_eq!(verdict(EtcdReport { version: "3.10.0".into(), ..sound.clone() }), Verdict::Ok);
        assert_eq!(verdict(EtcdReport { version: "3.3.25".into(), ..sound.clone() }), Verdict::Warn);
        assert_eq!(verdict(EtcdReport { errors: vec!["NOSPACE".into()], ..sound.clone() }), Verdict::Warn);
        assert_eq!(verdict(EtcdReport { has_leader: false, ..sound.clone() }), Verdict::Fail);
        assert_eq!(verdict(EtcdReport { etcd: 8, ..sound }), Verdict::Fail);
    }
}
