//! vLLM in the Python environment of this shell, and whether it knows the connector.

use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Check;
use crate::patience::read_to_end;

/// How long Python may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connector's name among vLLM's plugins.
const PLUGIN: &str = "chariot";

/// Looks without importing vLLM, which takes many seconds.
const QUESTION: &str = r#"
import importlib.metadata as metadata, importlib.util, json, sys
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
try:
    import chariot_ds
    broken = None
except ModuleNotFoundError as error:
    broken = None if error.name == "chariot_ds" else repr(error)
except Exception as error:
    broken = repr(error)
print(json.dumps({
    "python": sys.version.split()[0],
    "executable": sys.executable,
    "vllm": version("vllm") if importlib.util.find_spec("vllm") else None,
    "plugins": [plugin.name for plugin in metadata.entry_points(group="vllm.general_plugins")],
    "broken": broken,
}))
"#;

/// What Python says.
#[derive(Deserialize)]
struct Answer {
    python: String,
    executable: String,
    vllm: Option<String>,
    plugins: Vec<String>,
    /// Why `chariot_ds` is there and cannot be imported.
    broken: Option<String>,
}

pub(super) fn checks() -> Vec<Check> {
    let answer = match ask() {
        Ok(answer) => answer,
        Err(error) => {
            let hint = "activate the Python environment that vLLM is in, then run `dscli doctor` again";
            return vec![Check::warn("python", format!("`python3` does not answer: {error}"), hint)];
        }
    };
    vec![Check::ok("python", format!("{} at `{}`", answer.python, answer.executable)), engine(&answer), plugin(&answer)]
}

fn engine(answer: &Answer) -> Check {
    match &answer.vllm {
        Some(version) => Check::ok("vllm", version),
        None => Check::warn(
            "vllm",
            format!("not installed for `{}`", answer.executable),
            "activate the Python environment that vLLM is in, or `pip install vllm`",
        ),
    }
}

fn plugin(answer: &Answer) -> Check {
    const CHECK: &str = "vllm plugin";
    if let Some(error) = &answer.broken {
        return Check::warn(CHECK, format!("chariot_ds cannot be imported: {error}"), "`pip install chariot-ds` anew");
    }
    if !answer.plugins.iter().any(|plugin| plugin == PLUGIN) {
        let found = format!("ChariotConnector is not registered for `{}`", answer.executable);
        return Check::warn(CHECK, found, "`pip install chariot-ds` in the Python environment of vLLM");
    }
    match std::env::var("VLLM_PLUGINS") {
        Ok(chosen) if !chosen.split(',').any(|plugin| plugin == PLUGIN) => Check::warn(
            CHECK,
            format!("ChariotConnector is registered, but VLLM_PLUGINS is `{chosen}`, so vLLM will not load it"),
            format!("add `{PLUGIN}` to VLLM_PLUGINS, or unset it"),
        ),
        _ => Check::ok(CHECK, "ChariotConnector is registered"),
    }
}

fn ask() -> io::Result<Answer> {
    let mut python = Command::new("python3");
    // In `/`, so that no folder of the user's that happens to be called vllm is taken for it.
    python.args(["-c", QUESTION]).env("PYTHONDONTWRITEBYTECODE", "1").current_dir("/");
    let mut child = python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let Some(pipe) = child.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let said = read_to_end(pipe, Instant::now() + PATIENCE);
    if !matches!(said, Ok(Some(_))) {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let ended = child.wait()?;
    let slow = || io::Error::new(io::ErrorKind::TimedOut, format!("nothing came within {} s", PATIENCE.as_secs()));
    serde_json::from_slice(&said?.ok_or_else(slow)?).map_err(|_| io::Error::other(format!("it ended with {ended}")))
}
