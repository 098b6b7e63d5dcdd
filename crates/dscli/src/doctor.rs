//! `dscli doctor`: looks at everything that keeps Chariot from working, or from working well, on this machine.

use clap::Args;
use serde::Serialize;

use crate::etcd::EtcdOptions;
use crate::options::At;
use crate::{Failure, log, report};

mod engine;
mod etcd;
mod machine;
mod places;
mod worker;

/// Look for what keeps Chariot from working, or from working well, here
///
/// Changes nothing. Fails when a check does; warnings are for people to weigh.
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Doctor {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    etcd: EtcdOptions,
    /// Where the log would go [default: $XDG_STATE_HOME/chariot/log or ~/.local/state/chariot/log]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<std::path::PathBuf>,
    /// As JSON: {"checks": [{"check", "verdict", "found", "hint"}]}
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  dscli doctor
  dscli doctor --etcd_address 127.0.0.1:2379
  dscli doctor --json | jq '.checks[] | select(.verdict != \"OK\")'";

/// How a check went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could, or will not once it is needed.
    Warn,
    /// Does not work.
    Fail,
}

/// What one check found.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), hint: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), hint: Some(hint.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), hint: Some(hint.into()) }
    }
}

/// All that was found.
#[derive(Serialize)]
struct Findings {
    checks: Vec<Check>,
}

impl Doctor {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let address = &self.at.worker_address;
        let log_dir = self.log_dir.map_or_else(log::default_dir, Ok);
        let mut checks = machine::checks();
        checks.push(places::log_dir(log_dir));
        checks.push(places::run_dir(address));
        checks.extend(worker::checks(address));
        if let Some(cluster) = self.etcd.config()? {
            checks.extend(etcd::checks(&cluster)?);
        }
        checks.extend(engine::checks());
        let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
        let findings = Findings { checks };
        report::say(&if self.json { serde_json::to_string_pretty(&findings)? } else { findings.for_people() });
        match failed {
            0 => Ok(()),
            1 => Err(Failure::text("a check failed")),
            _ => Err(Failure::text(format!("{failed} checks failed"))),
        }
    }
}

impl Findings {
    fn for_people(&self) -> String {
        let mut lines = Vec::new();
        for Check { check, verdict, found, hint } in &self.checks {
            let verdict = match verdict {
                Verdict::Ok => "OK",
                Verdict::Warn => "WARN",
                Verdict::Fail => "FAIL",
            };
            lines.push(format!("{verdict:<5} {check:<15} {found}"));
            lines.extend(hint.iter().map(|hint| format!("{:21} hint: {hint}", "")));
        }
        lines.join("\n")
    }
}
