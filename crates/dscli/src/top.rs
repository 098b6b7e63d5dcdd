//! `dscli top`: a worker's status, again and again.

use std::io::IsTerminal;
use std::time::Duration;

use chariot_client::Client;
use chariot_wire::Status;
use clap::Args;

use crate::options::{At, client_options};
use crate::status::{bytes, table};
use crate::{Failure, report};

/// How often the screen is drawn.
const PERIOD: Duration = Duration::from_secs(1);

/// Watch a worker: its status, drawn anew each second until Ctrl-C
#[derive(Args)]
#[command(rename_all = "snake_case", after_help = EXAMPLES)]
pub(crate) struct Top {
    #[command(flatten)]
    at: At,
    /// Draw once and end
    #[arg(long)]
    once: bool,
}

const EXAMPLES: &str = "\
Examples:
  dscli top
  dscli top --worker_address 10.0.0.7:31501 --once";

impl Top {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let address = &self.at.worker_address;
        let options = client_options("dscli top")?;
        let client = Client::connect(address, options).map_err(|error| Failure::of_client(error, address))?;
        let mut before: Option<Status> = None;
        loop {
            // The client finds a worker that went away by itself; until then there is this to show.
            let (screen, now) = match client.status() {
                Ok(now) => (screen(before.as_ref(), &now), Some(now)),
                Err(error) if self.once => return Err(Failure::of_client(error, address)),
                Err(error) => (format!("{:#}", anyhow::Error::new(error)), None),
            };
            draw(&screen);
            if self.once {
                return Ok(());
            }
            before = now;
            std::thread::sleep(PERIOD);
        }
    }
}

/// In place of what was there before on a terminal, below it elsewhere.
fn draw(screen: &str) {
    const HOME_AND_CLEAR: &str = "\u{1b}[H\u{1b}[J";
    let clear = if std::io::stdout().is_terminal() { HOME_AND_CLEAR } else { "" };
    report::say(&format!("{clear}{screen}"));
}

fn screen(before: Option<&Status>, now: &Status) -> String {
    let rates = before.and_then(|before| rates(before, now)).unwrap_or_default();
    format!("{}{rates}", table(now))
}

/// What changed in a second; nothing where another run of the worker answers.
fn rates(before: &Status, now: &Status) -> Option<String> {
    let seconds = now.uptime_s - before.uptime_s;
    if before.pid != now.pid || seconds <= 0.0 {
        return None;
    }
    let rate = |of: fn(&Status) -> u64| of(now).saturating_sub(of(before)) as f64 / seconds;
    Some(format!(
        "\n\nper second\n  puts {:.0} ({}), hits {:.0} ({}), misses {:.0}, evictions {:.0}",
        rate(|status| status.puts),
        bytes(rate(|status| status.put_bytes) as u64),
        rate(|status| status.hits),
        bytes(rate(|status| status.hit_bytes) as u64),
        rate(|status| status.misses),
        rate(|status| status.evictions),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_one_run_of_the_worker() {
        let before = Status { pid: 7, uptime_s: 10.0, puts: 100, ..Default::default() };
        let now = Status { uptime_s: 12.0, puts: 300, put_bytes: 4 << 20, ..before.clone() };
        assert!(rates(&before, &now).unwrap().contains("puts 100 (2.0 MiB)"));
        assert_eq!(rates(&before, &Status { pid: 8, ..now }), None);
    }
}
