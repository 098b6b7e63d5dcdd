//! What the user is told: results on standard output, failures with their hints on standard error.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use crate::Failure;

/// Writes `text` and a new line to standard output. Ends the program quietly when nobody reads it any more, as in
/// `dscli status | head -1`.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        // Nowhere to tell it, and what was asked for is done.
        Ok(()) | Err(_) => {}
    }
}

/// The line that tells that a service was started or stopped. Scripts wait for it: it must not change.
pub(crate) fn succeeded(task: &str, pid: u32) {
    say(&format!("[INFO] [  OK  ] {task} success, PID: {pid}"));
}

/// Tells a failure; returns what the shell gets.
pub(crate) fn failed(failure: &Failure) -> ExitCode {
    let Failure { task, reason, hint, code } = failure;
    let mut text = match task {
        Some(task) => format!("[ERROR] [FAILED] {task} failed: {reason:#}\n"),
        None => format!("error: {reason:#}\n"),
    };
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(*code)
}

/// Tells what went otherwise than asked, in a command that goes on.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "[WARN] {text}");
}
