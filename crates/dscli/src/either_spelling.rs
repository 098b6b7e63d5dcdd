//! Options with underscores, as the guide writes them, and with dashes, as other tools do: both are accepted.

use clap::{Arg, Command};

/// Gives every option of `command` and its subcommands the other spelling as a silent alias.
pub(crate) fn accept(command: Command) -> Command {
    command.mut_args(with_other_spelling).mut_subcommands(accept)
}

fn with_other_spelling(option: Arg) -> Arg {
    match option.get_long() {
        Some(long) if long.contains('_') => {
            let dashes = long.replace('_', "-");
            option.alias(dashes)
        }
        Some(long) if long.contains('-') => {
            let underscores = long.replace('-', "_");
            option.alias(underscores)
        }
        _ => option,
    }
}
