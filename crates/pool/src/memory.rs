//! How much memory the machine, and the control group this process runs in, have left.

use std::fs;

/// Bytes that can be used without pushing others out; `None` when the system does not say.
///
/// The smaller of the machine's `MemAvailable` and what the process's control group leaves, because a container that
/// goes past its limit is killed however much the machine has.
pub(crate) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let machine = machine.and_then(|kib| kib.checked_mul(1024));
    match (machine, left_in_control_group()) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// One version of control groups: where groups are, and what their files are called.
struct Version {
    /// What precedes the group's path in `/proc/self/cgroup`, after the hierarchy's number.
    controller: &'static str,
    root: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// File cache counts as used but gives way, as it does in `MemAvailable`: its name in `memory.stat`.
    cache: &'static str,
}

const VERSIONS: [Version; 2] = [
    Version {
        controller: "::",
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        usage: "memory.current",
        cache: "inactive_file ",
    },
    Version {
        controller: ":memory:",
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        usage: "memory.usage_in_bytes",
        cache: "total_inactive_file ",
    },
];

fn left_in_control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    VERSIONS.iter().find_map(|version| {
        let own = groups.lines().find_map(|line| line.split_once(version.controller))?.1.trim_end_matches('/');
        // In a container the path may be the host's, while the root is the container's own group.
        [own, ""].iter().find_map(|group| version.left_in(group))
    })
}

impl Version {
    fn left_in(&self, group: &str) -> Option<u64> {
        let read = |name: &str| fs::read_to_string(format!("{}{group}/{name}", self.root)).ok();
        // An unlimited group of version 2 says "max", which is no number; of version 1, a number beyond all memory.
        let limit = read(self.limit)?.trim().parse::<u64>().ok()?;
        let usage = read(self.usage)?.trim().parse::<u64>().ok()?;
        let cache = field(&read("memory.stat")?, self.cache).unwrap_or(0);
        Some(limit.saturating_sub(usage).saturating_add(cache))
    }
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        assert!(available().unwrap() > 1 << 20);
        assert!(left_in_control_group().is_none_or(|left| left > 1 << 20));
    }

    #[test]
    fn a_field_is_the_number_after_its_name() {
        let text = "MemFree:  12 kB\nMemAvailable:   4096 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(4096));
        assert_eq!(field(text, "SwapFree:"), None);
    }
}
