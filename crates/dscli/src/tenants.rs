//! [`TenantsOptions`]: those who share a worker and no pool, as the user writes them.
//!
//! A line a tenant: its name, its megabytes of memory, its token. They stand in a file, because whoever lists processes sees
//! what is on a command line.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use chariot_worker::Tenant;
use clap::Args;

use crate::Failure;
use crate::options::absolute;

/// Those who share a worker and no pool.
#[derive(Args, Clone)]
#[command(rename_all = "snake_case", next_help_heading = "Tenants")]
pub(crate) struct TenantsOptions {
    /// Give each of the tenants in this file a pool of its own, which no other can map, read, list or evict. A line for each: its
    /// name, its megabytes (2^20 bytes) of host memory, its token, which clients show by CHARIOT_TOKEN or CHARIOT_TOKEN_FILE.
    /// The file must be readable by this user alone [default: one pool for all who come]
    #[arg(long, value_name = "FILE")]
    tenants: Option<PathBuf>,
}

/// A file of tenants is no longer than this.
const LONGEST_FILE: u64 = 1 << 20;

impl TenantsOptions {
    /// The tenants, if there are any.
    pub(crate) fn config(&self) -> Result<Vec<Tenant>, Failure> {
        let Some(path) = &self.tenants else { return Ok(Vec::new()) };
        let shown = path.display();
        let read = || {
            let file = File::open(path)?;
            if file.metadata()?.mode() & 0o077 != 0 {
                bail!("others can read it, or write it");
            }
            let mut text = String::new();
            file.take(LONGEST_FILE).read_to_string(&mut text)?;
            parse(&text)
        };
        read().with_context(|| format!("cannot take tenants from `{shown}`")).map_err(|error| {
            Failure::new(error).hint(format!(
                "`chmod 600 {shown}`, and in it a line for each tenant: `NAME MEGABYTES TOKEN`; `openssl rand -hex 32` makes a token"
            ))
        })
    }

    /// This, or what was said before where this says nothing.
    pub(crate) fn or(self, before: Self) -> Self {
        if self.tenants.is_some() { self } else { before }
    }

    /// The same for a process in another directory.
    pub(crate) fn absolute(self) -> Result<Self, Failure> {
        Ok(Self { tenants: absolute(self.tenants)? })
    }

    /// The arguments that read back as this.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        self.tenants.iter().flat_map(|file| ["--tenants".into(), file.into()]).collect()
    }
}

/// The tenants that a file's text names. Errors tell the line and never a token.
fn parse(text: &str) -> Result<Vec<Tenant>> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let tenants: Vec<_> =
        said.map(|(number, line)| parse_line(line).with_context(|| format!("line {number}"))).collect::<Result<_>>()?;
    if tenants.is_empty() {
        bail!("it names nobody");
    }
    Ok(tenants)
}

fn parse_line(line: &str) -> Result<Tenant> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, megabytes, token] = words[..] else {
        bail!("expected three words, found {}", words.len());
    };
    let shared_memory = megabytes.parse::<u64>().ok().filter(|megabytes| (1..=1 << 40).contains(megabytes));
    Ok(Tenant {
        name: name.parse()?,
        shared_memory: shared_memory.context("the second word is no number of megabytes")? << 20,
        token: token.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn a_line_is_a_tenant() {
        let text = format!("# name  megabytes  token\n\n team-a\t16384   {TOKEN}  \nteam-b 1 {TOKEN}b\n");
        let tenants = parse(&text).unwrap();
        let seen: Vec<_> = tenants.iter().map(|tenant| (tenant.name.as_str(), tenant.shared_memory >> 20)).collect();
        assert_eq!(seen, [("team-a", 16384), ("team-b", 1)]);
        assert!(tenants[1].token.is(format!("{TOKEN}b").as_bytes()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_a_token() {
        for (line, what) in [
            (format!("a 1 {TOKEN} x"), "three words, found 4"),
            (format!("a/b 1 {TOKEN}"), "cannot name a tenant"),
            (format!("a 0 {TOKEN}"), "no number of megabytes"),
            (format!("a 99999999999999999999 {TOKEN}"), "no number of megabytes"),
            ("a 1 0123456789abcde".to_owned(), "not a token"),
        ] {
            let error = format!("{:#}", parse(&format!("\n{line}")).unwrap_err());
            assert!(error.contains("line 2") && error.contains(what) && !error.contains("0123456789"), "{error}");
        }
        assert!(parse("# nobody\n").unwrap_err().to_string().contains("nobody"));
    }

    proptest! {
        #[test]
        fn any_text_is_tenants_or_refused(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
