//! [`Node`]: a machine's worth of places that one test has for itself.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything here takes; whoever waits longer has found a bug.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An address of its own, a home, a run directory and an empty working directory. What still runs there ends with it.
pub(crate) struct Node {
    dir: TempDir,
    pub(crate) address: String,
}

/// What the environment of the one who tests may say otherwise.
const UNWANTED: [&str; 7] = [
    "DS_WORKER_ADDR",
    "CHARIOT_TOKEN",
    "CHARIOT_TOKEN_FILE",
    "CHARIOT_ETCD_PASSWORD",
    "RUST_LOG",
    "XDG_STATE_HOME",
    "VLLM_PLUGINS",
];

impl Node {
    pub(crate) fn new() -> Self {
        // Every test has a loopback address of its own, so that none can take another's port.
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = format!("127.{}.{low}.{}:31501", 64 + high % 64, NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().unwrap();
        for name in ["home", "cwd"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, address }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.path("log")
    }

    pub(crate) fn log(&self) -> String {
        let name = format!("worker_{}.log", self.address.replace(':', "_"));
        fs::read_to_string(self.log_dir().join(name)).unwrap()
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.path("run").join(format!("{}.lock", self.address.replace(':', "_")))
    }

    /// `dscli` with `arguments`, in this node's places.
    pub(crate) fn command(&self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dscli"));
        command.args(arguments).current_dir(self.path("cwd"));
        command.env("HOME", self.path("home")).env("CHARIOT_RUN_DIR", self.path("run"));
        for unwanted in UNWANTED {
            command.env_remove(unwanted);
        }
        command
    }

    pub(crate) fn dscli(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    /// The arguments that start a small worker here.
    pub(crate) fn start_arguments(&self) -> Vec<String> {
        let log_dir = self.log_dir().display().to_string();
        let arguments =
            ["start", "-w", "--worker_address", &self.address, "--shared_memory_size_mb", "16", "--log_dir", &log_dir];
        arguments.map(str::to_owned).to_vec()
    }

    pub(crate) fn start_with(&self, more: &[&str]) -> Ran {
        Ran::from(self.command(self.start_arguments()).args(more).output().unwrap())
    }

    /// Starts a worker; returns its process id.
    pub(crate) fn start(&self) -> u32 {
        self.start_with(&[]).pid_of("Start", &self.address)
    }

    pub(crate) fn stop(&self) -> Ran {
        self.dscli(&["stop", "-w", "--worker_address", &self.address])
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let ran = self.dscli(&["status", "--json", "--worker_address", &self.address]);
        serde_json::from_str(&ran.succeeded().stdout).unwrap()
    }

    /// Processes that were started in this node's places and are still there.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let marker = self.dir.path().to_str().unwrap();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| mentions(&line, marker))).collect()
    }

    /// Everything below the node's directory called `name`.
    pub(crate) fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        list(&self.path(name), &mut found);
        found
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, "KILL");
        }
    }
}

fn mentions(text: &[u8], marker: &str) -> bool {
    text.windows(marker.len()).any(|window| window == marker.as_bytes())
}

fn list(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        list(&path, found);
        found.push(path);
    }
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
    }
}

impl Ran {
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Asserts that it failed with `code`, said `said`, and had a hint that says `hint`.
    pub(crate) fn failed(self, code: i32, said: &str, hint: &str) {
        let (reason, hints) = self.stderr.split_once("hint: ").unwrap_or_else(|| panic!("no hint: {self:?}"));
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(reason.contains(said), "`{said}` is not in {self:?}");
        assert!(hints.contains(hint), "`{hint}` is not in the hint of {self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
    }

    /// Asserts that it failed with exactly this line.
    pub(crate) fn failed_to(self, task: &str, address: &str, reason: &str, hint: &str) {
        let line = format!("[ERROR] [FAILED] {task} worker service @ {address} failed: {reason}");
        assert!(self.stderr.starts_with(&line), "{self:?} does not begin with `{line}`");
        self.failed(1, &line, hint);
    }

    /// The process id in the line that tells success, and nothing else may be told.
    pub(crate) fn pid_of(self, task: &str, address: &str) -> u32 {
        let ran = self.succeeded();
        let start = format!("[INFO] [  OK  ] {task} worker service @ {address} success, PID: ");
        let pid = ran.stdout.strip_prefix(&start).unwrap_or_else(|| panic!("not `{start}`: {ran:?}"));
        assert!(ran.stderr.is_empty(), "{ran:?}");
        pid.trim_end_matches('\n').parse().unwrap()
    }
}

/// Sends a signal by its name.
pub(crate) fn signal(pid: u32, name: &str) {
    Command::new("kill").args(["-s", name, &pid.to_string()]).output().unwrap();
}

/// The state letter of a process; `None` once it is gone, or only its parent has not noticed.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    (state != 'Z').then_some(state)
}

/// Returns once `condition` holds.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::yield_now();
    }
}
