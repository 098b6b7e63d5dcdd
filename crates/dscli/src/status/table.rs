//! A status for people to read.

use chariot_wire::{ClusterStatus, EtcdStatus, MemberStatus, NamespaceStatus, SessionStatus, SpillStatus, Status};

/// `status` as lines of a name and what there is to say.
pub(crate) fn table(status: &Status) -> String {
    let Status { worker_address, version, pid, uptime_s, .. } = status;
    let rows = [
        ("worker", format!("{worker_address}, PID {pid}, version {version}, up {}", duration(*uptime_s))),
        ("tenant", status.tenant.as_deref().map_or_else(String::new, printable)),
        ("memory", memory(status)),
        ("pages", pages(status)),
        ("blocks", blocks(status)),
        ("puts", format!("{} ({}), {} there already", status.puts, bytes(status.put_bytes), status.duplicates)),
        ("gets", gets(status)),
        ("pinned", pinned(status)),
        ("dropped", format!("{} evicted, {} expired", status.evictions, status.expired)),
        ("waiting", format!("{} requests", status.waiting)),
        ("misuses", format!("{} connections ended for breaking the rules", status.misuses)),
        ("process", format!("{} besides the shared memory", bytes(status.resident_bytes))),
        ("log", if status.log_dir.is_empty() { "standard error".to_owned() } else { printable(&status.log_dir) }),
    ];
    let rows = rows.iter().filter(|(_, said)| !said.is_empty());
    let mut text: String = rows.map(|(name, said)| format!("{name:<9} {said}\n")).collect();
    text.push_str(&namespaces(&status.namespaces));
    if let Some(status) = &status.spill {
        text.push_str(&spill(status));
    }
    if let Some(status) = &status.cluster {
        text.push_str(&cluster(status));
    }
    text.push_str(&sessions(&status.sessions));
    text
}

fn spill(status: &SpillStatus) -> String {
    let SpillStatus { blocks, coming, stored, kept, dropped, hits, misses, corrupt, late, .. } = status;
    let state = if status.takes_more { "" } else { ", does not keep up" };
    let (held, capacity) = (bytes(status.bytes), bytes(status.capacity_bytes));
    let (read_errors, write_errors) = (status.read_errors, status.write_errors);
    let rows = [
        ("disk", format!("{} ({}{state})", printable(&status.file), printable(&status.engine))),
        ("", format!("{blocks} blocks ({held}) of {capacity}, {coming} coming")),
        ("", format!("{stored} stored ({}), {kept} there already, {dropped} dropped", bytes(status.stored_bytes))),
        ("", format!("{hits} loaded ({}), {misses} in vain: {late} late, {corrupt} corrupt", bytes(status.hit_bytes))),
        ("", format!("{read_errors} reads and {write_errors} writes failed")),
    ];
    rows.iter().map(|(name, said)| format!("{name:<9} {said}\n")).collect()
}

fn cluster(status: &ClusterStatus) -> String {
    let ClusterStatus { name, members, sent_bytes, received_bytes, received_blocks, corrupt, broken, .. } = status;
    let mut rows = vec![
        ("cluster", format!("{name}, {} members", members.len())),
        ("directory", format!("{} keys in {}", status.directory_keys, bytes(status.directory_bytes))),
        (
            "peers",
            format!(
                "{} sent, {} received in {received_blocks} blocks, {corrupt} pieces corrupt, {broken} connections lost",
                bytes(*sent_bytes),
                bytes(*received_bytes)
            ),
        ),
    ];
    rows.extend(status.etcd.as_ref().map(|status| ("etcd", etcd(status))));
    let mut text: String = rows.iter().map(|(name, said)| format!("{name:<9} {said}\n")).collect();
    for MemberStatus { address, is_reached, .. } in members {
        let reached = if *is_reached { "" } else { "not connected" };
        text.push_str(format!("  {address:<28} {reached}").trim_end());
        text.push('\n');
    }
    text
}

fn etcd(status: &EtcdStatus) -> String {
    let since = duration(status.since_s);
    let contact = match status.is_connected {
        true => format!("`{}` answers for {since}", status.endpoint),
        false => format!("away for {since}, the last members stand: {}", printable(&status.error)),
    };
    let registered = match (status.is_registered, status.taken_by.as_str()) {
        (true, _) => String::new(),
        (false, "") => ", this worker is not registered yet".to_owned(),
        (false, host) => format!(", this worker's address is another's on host `{}`", printable(host)),
    };
    format!("{contact}{registered}, {} requests so far", status.requests.values().sum::<u64>())
}

fn memory(status: &Status) -> String {
    let Status { capacity_bytes, free_bytes, granted_bytes, largest_free_bytes, .. } = status;
    format!(
        "{} of {} free ({}), {} granted ahead, longest free run {}",
        bytes(*free_bytes),
        bytes(*capacity_bytes),
        percent(*free_bytes, *capacity_bytes),
        bytes(*granted_bytes),
        bytes(*largest_free_bytes),
    )
}

fn pages(status: &Status) -> String {
    let huge = if status.huge_pages { "huge where the kernel finds them" } else { "no huge ones" };
    format!("{} touched ahead, {huge}", percent(status.touched_bytes, status.capacity_bytes))
}

fn blocks(status: &Status) -> String {
    let Status { sealed_blocks, sealed_bytes, growing_blocks, pinned_blocks, detached_blocks, .. } = status;
    let whole = bytes(*sealed_bytes);
    format!(
        "{sealed_blocks} whole ({whole}), {growing_blocks} growing, {pinned_blocks} being read, {detached_blocks} withdrawn but in use"
    )
}

fn gets(status: &Status) -> String {
    let Status { hits, hit_bytes, misses, .. } = status;
    format!("{hits} hits ({}), {misses} misses, hit rate {}", bytes(*hit_bytes), percent(*hits, hits + misses))
}

fn pinned(status: &Status) -> String {
    let Status { soft_pinned_blocks, soft_pinned_bytes, capacity_bytes, .. } = status;
    format!("{soft_pinned_blocks} go last ({}, of at most {})", bytes(*soft_pinned_bytes), bytes(capacity_bytes / 4))
}

fn namespaces(namespaces: &[NamespaceStatus]) -> String {
    let mut text = format!("{:<9} {}\n", "namespaces", namespaces.len());
    for NamespaceStatus { name, blocks, bytes: held, quota_bytes } in namespaces {
        let quota = match quota_bytes {
            Some(quota) => format!("quota {}, {} of it", bytes(*quota), percent(*held, *quota)),
            None => "no quota".to_owned(),
        };
        text.push_str(&format!("  {:<28} {} in {blocks} blocks, {quota}\n", printable(name), bytes(*held)));
    }
    text
}

fn sessions(sessions: &[SessionStatus]) -> String {
    // The one who asks is no news.
    let others: Vec<_> = sessions.iter().filter(|session| session.pid != std::process::id()).collect();
    let mut text = format!("{:<9} {}", "clients", others.len());
    for SessionStatus { name, pid, namespace, transport, connected_s } in others {
        let name = if name.is_empty() { "(no name)".to_owned() } else { printable(name) };
        let (namespace, connected) = (printable(namespace), duration(*connected_s));
        text.push_str(&format!("\n  {name:<28} PID {pid:<8} {transport:<5} for {connected}, puts into {namespace}"));
    }
    text
}

/// `count` bytes in the unit that fits.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1}%", part as f64 / whole as f64 * 100.0) }
}

fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds:.1} s"),
        (0, 0, _) => format!("{minutes} min {} s", whole % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Names come from clients: none may move the reader's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        let told = [0, 1023, 1024, 5 << 20, 3 << 29, u64::MAX].map(bytes);
        assert_eq!(told, ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "1.5 GiB", "16384.0 PiB"]);
    }

    #[test]
    fn a_rate_of_nothing_is_no_number() {
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(1, 4), "25.0%");
    }

    #[test]
    fn a_client_cannot_move_the_cursor_with_its_name() {
        let session = SessionStatus { name: "\u{1b}[2Jevil\n".into(), ..Default::default() };
        let text = table(&Status { sessions: vec![session], ..Default::default() });
        assert!(text.contains("[2Jevil") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn times_are_told_in_the_two_units_that_matter() {
        let told = [0.25, 61.0, 3_661.0, 90_000.0].map(duration);
        assert_eq!(told, ["0.2 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
