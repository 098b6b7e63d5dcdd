//! How much memory the machine, and the control group this process runs in, have left.

use std::fs;

/// Bytes that can be used without pushing others out; `None` when the system does not say.
///
/// The smaller of the machine's `MemAvailable` and what the process's control group (version 2) leaves, because a
/// container that goes past its limit is killed however much the machine has.
pub(crate) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let machine = machine.and_then(|kib| kib.checked_mul(1024));
    match (machine, left_in_control_group()) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

fn left_in_control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = format!("/sys/fs/cgroup{}", own.trim_end_matches('/'));
    let number = |name: &str| fs::read_to_string(format!("{own}/{name}")).ok()?.trim().parse::<u64>().ok();
    // An unlimited group says "max", which is no number.
    let left = number("memory.max")?.saturating_sub(number("memory.current")?);
    // File cache counts as used but gives way, as it does in MemAvailable.
    let stat = fs::read_to_string(format!("{own}/memory.stat")).unwrap_or_default();
    Some(left.saturating_add(field(&stat, "inactive_file").unwrap_or(0)))
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
    }

    #[test]
    fn a_field_is_the_number_after_its_name() {
        let text = "MemFree:  12 kB\nMemAvailable:   4096 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(4096));
        assert_eq!(field(text, "SwapFree:"), None);
    }
}
