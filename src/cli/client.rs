//! (in the making)

use super::Exit;

/// The commands that talk to a running daemon.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Register a task and a callback
    Register,
}

/// Runs the command.
pub fn run(_command: Command) -> Exit {
    Exit::Failure
}
