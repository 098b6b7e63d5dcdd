//! Where logs go: a file of bounded size in a stated directory for a worker, standard error for what runs in the
//! foreground. Never the working directory.

use std::backtrace::Backtrace;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chariot_types::WorkerAddress;
use clap::Args;
use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::Failure;

/// A log file that grows past this is renamed to `NAME.1`, in place of the one before, and begun anew.
const MOST_BYTES: u64 = 16 << 20;

/// How much is logged.
#[derive(Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct Level {
    /// How much to log: error, warn, info, debug, trace, or such a list as `info,chariot_worker=debug`
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "LEVEL", value_parser = checked_level)]
    pub(crate) log_level: String,
}

pub(crate) fn checked_level(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The directory for logs where the user names none: `$XDG_STATE_HOME/chariot/log`, else
/// `~/.local/state/chariot/log`.
pub(crate) fn default_dir() -> Result<PathBuf, Failure> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let state = state.ok_or_else(|| {
        Failure::text("no place for logs: neither XDG_STATE_HOME nor HOME is set").hint("name one with `--log_dir`")
    })?;
    Ok(state.join("chariot/log"))
}

/// The log of the worker at `address`, in `dir`.
pub(crate) fn worker_log(dir: &Path, address: &WorkerAddress) -> PathBuf {
    dir.join(format!("worker_{}.log", address.to_string().replace([':', '[', ']'], "_")))
}

/// Opens a log at its end; makes it, and its directory, where there is none.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.and_then(|()| append_to(path)).map_err(|error| {
        Failure::new(anyhow::Error::new(error).context(format!("cannot write the log `{}`", path.display())))
            .hint("name a directory that can be written with `--log_dir`")
    })
}

/// Logs what happens in this process to standard error from now on.
pub(crate) fn to_standard_error(level: &str) -> Result<(), Failure> {
    let colours = io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(level)?).with_ansi(colours);
    subscriber.with_writer(io::stderr).init();
    log_panics();
    Ok(())
}

/// Logs what happens in this process to the file at `path` from now on.
pub(crate) fn to_file(level: &str, path: &Path) -> Result<LogFile, Failure> {
    let file = open(path)?;
    let written = file.metadata()?.len();
    let log = LogFile(Arc::new(Mutex::new(Writing { path: path.to_owned(), file, written, rotation: Rotation::None })));
    let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(level)?).with_ansi(false);
    subscriber.with_writer(log.clone()).init();
    log_panics();
    Ok(log)
}

/// A panic in any thread is an event like others.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = Backtrace::force_capture();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), "{panic}\n{backtrace}");
    }));
}

/// A log file that is renamed when it has grown too large.
#[derive(Clone)]
pub(crate) struct LogFile(Arc<Mutex<Writing>>);

struct Writing {
    path: PathBuf,
    file: File,
    written: u64,
    rotation: Rotation,
}

/// What happens when the file has grown too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rotation {
    /// It grows on.
    None,
    /// It is renamed and begun anew.
    OfFile,
    /// The same, and standard output and error, which go to the file, follow.
    OfFileAndStreams,
}

impl LogFile {
    /// Keeps the file from growing without bound from now on. Not before this process is the one worker that writes
    /// there: one that fails to start, because another lives at its address, must not rename that one's log.
    pub(crate) fn rotate(&self, rotation: Rotation) {
        self.0.lock().rotation = rotation;
    }
}

impl Writing {
    fn is_full_with(&self, bytes: usize) -> bool {
        self.rotation != Rotation::None && self.written > 0 && self.written + bytes as u64 > MOST_BYTES
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        let mut previous = self.path.clone().into_os_string();
        previous.push(".1");
        fs::rename(&self.path, previous)?;
        self.file = append_to(&self.path)?;
        self.written = 0;
        if self.rotation == Rotation::OfFileAndStreams {
            rustix::stdio::dup2_stdout(&self.file)?;
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Write for &LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut writing = self.0.lock();
        if writing.is_full_with(bytes.len()) {
            writing.begin_anew()?;
        }
        let count = writing.file.write(bytes)?;
        writing.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = &'a LogFile;

    fn make_writer(&'a self) -> &'a LogFile {
        self
    }
}
