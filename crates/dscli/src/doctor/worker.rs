//! The worker, as a vLLM process on this machine would find it.

use chariot_client::Client;
use chariot_types::WorkerAddress;
use chariot_wire::ClusterStatus;

use super::{Check, machine};
use crate::Failure;
use crate::options::client_options;

/// How a vLLM process is told where its worker is.
const VARIABLE: &str = "DS_WORKER_ADDR";

pub(super) fn checks(address: &WorkerAddress) -> Vec<Check> {
    let mut checks = vec![variable()];
    let options = client_options("dscli doctor").unwrap_or_default();
    let asked = Client::connect(address, options).and_then(|client| Ok((client.status()?, client)));
    let (status, client) = match asked {
        Ok(answer) => answer,
        Err(error) => {
            let Failure { reason, hint, .. } = Failure::of_client(error, address);
            checks.push(Check::fail("worker", format!("{reason:#}"), hint.unwrap_or_default()));
            return checks;
        }
    };
    checks.push(Check::ok("worker", format!("`{address}` answers, PID {}", status.pid)));
    checks.push(release(&status.version));
    checks.push(shared(&client, address));
    checks.extend(status.cluster.as_ref().map(cluster));
    checks
}

/// How the worker stands with the others, as it says itself.
fn cluster(status: &ClusterStatus) -> Check {
    const CHECK: &str = "cluster";
    let ClusterStatus { name, members, etcd, .. } = status;
    if let Some(etcd) = etcd.as_ref().filter(|etcd| !etcd.is_connected) {
        let found = format!("the worker cannot reach etcd for {:.1} s: {}", etcd.since_s, etcd.error);
        return Check::fail(
            CHECK,
            found,
            "`dscli doctor --etcd_address` looks closer; the last members stand meanwhile",
        );
    }
    if let Some(etcd) = etcd.as_ref().filter(|etcd| !etcd.taken_by.is_empty()) {
        let found = format!("the worker's address is another worker's, on host `{}`", etcd.taken_by);
        return Check::fail(CHECK, found, "give each worker an address of its own, at which the others reach it");
    }
    let connected = members.iter().filter(|member| member.is_reached).count();
    Check::ok(CHECK, format!("`{name}`, {} members, {connected} of them connected", members.len()))
}

fn variable() -> Check {
    match std::env::var(VARIABLE) {
        Ok(address) => Check::ok(VARIABLE, address),
        Err(_) => Check::warn(
            VARIABLE,
            "not set in this shell: vLLM would not find its worker",
            format!("`export {VARIABLE}=127.0.0.1:31501`, with the address of this node's worker"),
        ),
    }
}

/// A worker that speaks another version of the protocol does not answer at all; another release may still differ.
fn release(theirs: &str) -> Check {
    let protocol = chariot_wire::PROTOCOL_VERSION;
    let ours = env!("CARGO_PKG_VERSION");
    if theirs == ours {
        Check::ok("protocol", format!("version {protocol} on both sides, release {ours}"))
    } else {
        Check::warn(
            "protocol",
            format!("version {protocol} on both sides, but the worker is release `{theirs}` and this is `{ours}`"),
            "stop the worker and start it again with this release",
        )
    }
}

fn shared(client: &Client, address: &WorkerAddress) -> Check {
    const CHECK: &str = "zero copy";
    if client.is_local() {
        return Check::ok(CHECK, "blocks are read where they lie, in the worker's shared memory");
    }
    let hint = if machine::in_container() {
        "give the containers of vLLM and worker one run directory: mount it in both, and name it with CHARIOT_RUN_DIR"
    } else {
        "use the worker of this node, run vLLM as the worker's user, and give both the same CHARIOT_RUN_DIR"
    };
    Check::warn(CHECK, format!("blocks go through TCP to `{address}`, not through shared memory"), hint)
}
