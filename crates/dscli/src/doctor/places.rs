//! The places where files go: the log's directory, and the run directory with sockets and locks.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chariot_types::WorkerAddress;
use chariot_worker::{Place, default_run_dir};
use rustix::fs::Access;

use super::Check;
use crate::Failure;

/// The longest path of a Unix socket.
const LONGEST_SOCKET: usize = 107;

pub(super) fn log_dir(dir: Result<PathBuf, Failure>) -> Check {
    const CHECK: &str = "log directory";
    match dir.and_then(|dir| Ok(std::path::absolute(dir)?)) {
        Err(failure) => Check::fail(CHECK, format!("{:#}", failure.reason), failure.hint.unwrap_or_default()),
        Ok(dir) if can_be_written(&dir) => Check::ok(CHECK, dir.display().to_string()),
        Ok(dir) => Check::fail(
            CHECK,
            format!("`{}` cannot be written", dir.display()),
            "make it writable, or name another with `--log_dir`",
        ),
    }
}

pub(super) fn run_dir(address: &WorkerAddress) -> Check {
    const CHECK: &str = "run directory";
    let dir = default_run_dir();
    let shown = dir.display();
    let socket = Place::of(address, &dir).socket();
    if socket.as_os_str().as_bytes().len() > LONGEST_SOCKET {
        return Check::fail(
            CHECK,
            format!("`{}` is longer than the {LONGEST_SOCKET} bytes that a socket's path may have", socket.display()),
            "name a shorter directory with CHARIOT_RUN_DIR",
        );
    }
    match fs::symlink_metadata(&dir) {
        Ok(found) if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() => Check::fail(
            CHECK,
            format!("`{shown}` is not a directory of this user"),
            "name another with CHARIOT_RUN_DIR, for the worker and for vLLM",
        ),
        Ok(found) if found.mode() & 0o022 != 0 => Check::fail(
            CHECK,
            format!("others can write to `{shown}`"),
            format!("`chmod 700 {shown}`, or name another with CHARIOT_RUN_DIR"),
        ),
        _ if can_be_written(&dir) => Check::ok(CHECK, shown.to_string()),
        _ => Check::fail(
            CHECK,
            format!("`{shown}` cannot be written"),
            "name another with CHARIOT_RUN_DIR, for the worker and for vLLM",
        ),
    }
}

/// Whether files can be made in `dir`, or `dir` in what there is of the path to it.
fn can_be_written(dir: &Path) -> bool {
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|dir| dir.is_dir() && rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_directory_that_can_be_made_is_as_good_as_one_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(log_dir(Ok(dir.path().join("to/be/made"))).verdict, Verdict::Ok);
        assert_eq!(log_dir(Ok(file.join("below/a/file"))).verdict, Verdict::Fail);
    }
}
