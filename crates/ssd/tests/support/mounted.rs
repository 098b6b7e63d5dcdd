//! File systems that a test has for itself. Root alone can mount them: without that the test says so and does nothing.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)] // each test file uses a part

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file system of its own, unmounted when it goes.
pub struct Mounted {
    point: PathBuf,
    _dir: tempfile::TempDir,
}

/// A file system whose writes hang; dropped, they go on.
pub struct Frozen(PathBuf);

impl Mounted {
    pub fn tmpfs(bytes: u64) -> Option<Self> {
        Self::mount(|point| command("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "none", point]))
    }

    pub fn ramfs() -> Option<Self> {
        Self::mount(|point| command("mount", &["-t", "ramfs", "none", point]))
    }

    pub fn image(kind: &str, bytes: u64) -> Option<Self> {
        Self::mount(|point| {
            let image = format!("{point}.image");
            fs::File::create(&image).unwrap().set_len(bytes).unwrap();
            command("mkfs", &["-q", "-t", kind, &image]) && command("mount", &["-o", "loop", &image, point])
        })
    }

    fn mount(mount: impl FnOnce(&str) -> bool) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().join("disk");
        fs::create_dir(&point).unwrap();
        let is_mounted = mount(point.to_str().unwrap());
        if !is_mounted {
            eprintln!("skipped: a file system cannot be made or mounted here");
        }
        is_mounted.then_some(Self { point, _dir: dir })
    }

    pub fn path(&self) -> &Path {
        &self.point
    }

    pub fn freeze(&self) -> Frozen {
        assert!(command("fsfreeze", &["-f", self.point.to_str().unwrap()]));
        Frozen(self.point.clone())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A spill that could not close keeps it busy a little longer.
        command("umount", &["-l", self.point.to_str().unwrap()]);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        command("fsfreeze", &["-u", self.0.to_str().unwrap()]);
    }
}

fn command(name: &str, arguments: &[&str]) -> bool {
    let status = Command::new(name).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
