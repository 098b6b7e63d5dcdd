//! The machine: kernel, memory and limits.

use std::fs;

use chariot_pool::{Arena, HugePages, Mapping};
use rustix::process::{Resource, getrlimit};

use super::Check;
use crate::status::bytes;

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![kernel(), memory()];
    checks.extend(shared_memory());
    checks.extend([dev_shm(), open_files()]);
    checks
}

fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next().and_then(Result::ok).unwrap_or(0), numbers.next().and_then(Result::ok).unwrap_or(0));
    match version {
        (0, _) => {
            Check::warn("kernel", format!("Linux `{release}`"), "its version cannot be read: 5.14 or later is best")
        }
        version if version < (5, 3) => {
            Check::warn("kernel", format!("Linux {release}"), "`dscli stop` needs 5.3: end the worker with `kill` here")
        }
        version if version < (5, 14) => {
            Check::warn("kernel", format!("Linux {release}"), "from 5.14 on the worker makes its memory present faster")
        }
        _ => Check::ok("kernel", format!("Linux {release}")),
    }
}

fn memory() -> Check {
    let size = chariot_worker::default_shared_memory();
    let found = format!("a worker would take {} by itself", bytes(size));
    match size {
        size if size < 1 << 30 => Check::warn(
            "memory",
            found,
            "little KV cache fits that: free memory, or name a size with `--shared_memory_size_mb`",
        ),
        _ => Check::ok("memory", found),
    }
}

/// Makes shared memory the way a worker does.
fn shared_memory() -> Vec<Check> {
    let arena = match Arena::create(Mapping::TOUCH) {
        Ok(arena) => arena,
        Err(error) => {
            let found = format!("{:#}", anyhow::Error::new(error));
            return vec![Check::fail("shared memory", found, "a container's security profile must allow memfd_create")];
        }
    };
    let huge_pages = match arena.huge_pages() {
        HugePages::Allowed => Check::ok("huge pages", "the kernel gives them to shared memory"),
        HugePages::Unavailable => Check::warn(
            "huge pages",
            "the kernel does not give them to shared memory, which makes copies of large blocks slower",
            "`echo advise | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled`, then start the worker again",
        ),
    };
    vec![Check::ok("shared memory", "memory files can be made, sealed and mapped"), huge_pages]
}

/// Chariot does not use it; vLLM's own processes talk through it.
fn dev_shm() -> Check {
    const LEAST: u64 = 512 << 20;
    match rustix::fs::statvfs("/dev/shm") {
        Err(error) => Check::warn(
            "/dev/shm",
            format!("cannot be used: {error}"),
            "vLLM needs it (Chariot does not): in a container, add `--ipc=host` or `--shm-size=8g`",
        ),
        Ok(found) => {
            let size = found.f_blocks.saturating_mul(found.f_frsize);
            match size {
                size if size < LEAST => Check::warn(
                    "/dev/shm",
                    bytes(size),
                    "vLLM needs more (Chariot does not use it): in a container, add `--ipc=host` or `--shm-size=8g`",
                ),
                _ => Check::ok("/dev/shm", bytes(size)),
            }
        }
    }
}

/// A worker raises the limit as far as it may; a client takes two descriptors.
fn open_files() -> Check {
    const ENOUGH: u64 = 4096;
    match getrlimit(Resource::Nofile).maximum {
        Some(most) if most < ENOUGH => Check::warn(
            "open files",
            format!("at most {most}"),
            "raise the hard limit (`ulimit -Hn`, or LimitNOFILE= of a systemd unit): each client takes two",
        ),
        Some(most) => Check::ok("open files", format!("at most {most}")),
        None => Check::ok("open files", "no limit"),
    }
}

/// Whether this process is likely in a container of its own, for hints.
pub(super) fn in_container() -> bool {
    fs::exists("/.dockerenv").unwrap_or(false) || fs::exists("/run/.containerenv").unwrap_or(false)
}
