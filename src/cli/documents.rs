//! (in the making)

use super::Exit;

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionArgs {}

/// The arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {}

/// Prints a completion script.
pub fn run_completions(_args: CompletionArgs) -> Exit {
    Exit::Failure
}

/// Prints the manual page.
pub fn run_man(_args: ManArgs) -> Exit {
    Exit::Failure
}
