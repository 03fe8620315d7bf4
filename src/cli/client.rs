//! The commands that talk to a running daemon through its API.

mod connection;
mod failure;
mod inspect;
mod redeliver;
mod register;
mod render;
mod rewatch;
mod wait;

use std::future::Future;

use self::failure::Failure;
use super::Exit;

/// The commands that talk to a running daemon.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Register a task and a callback
    #[command(after_help = register::EXAMPLES)]
    Register(Box<register::Args>),
    /// List registrations, newest first
    #[command(after_help = inspect::LIST_EXAMPLES)]
    List(Box<inspect::ListArgs>),
    /// Show one registration
    Show(inspect::OneArgs),
    /// Wait until a task's outcome is known, and print it
    #[command(after_help = wait::EXAMPLES)]
    Wait(wait::Args),
    /// Cancel a registration
    Cancel(inspect::OneArgs),
    /// Send one registration's outcome again, or many by a filter
    #[command(after_help = redeliver::EXAMPLES)]
    Redeliver(Box<redeliver::Args>),
    /// Show how far a redelivery of many is, or cancel it
    Redelivery(redeliver::ProgressArgs),
    /// Watch one unresolved registration again, or many by a filter
    #[command(after_help = rewatch::EXAMPLES)]
    Rewatch(Box<rewatch::Args>),
    /// Show every attempt to tell a registration's callback
    Attempts(inspect::OneArgs),
    /// Show how each account does (for operators)
    Accounts(inspect::AllArgs),
    /// Show the daemons on this store and whose each lane is (for operators)
    Fleet(inspect::AllArgs),
}

/// Runs the command.
pub fn run(command: Command) -> Exit {
    match command {
        Command::Register(args) => finish(register::run(*args)),
        Command::List(args) => finish(inspect::list(*args)),
        Command::Show(args) => finish(inspect::show(args)),
        Command::Wait(args) => finish(wait::run(args)),
        Command::Cancel(args) => finish(inspect::cancel(args)),
        Command::Redeliver(args) => finish(redeliver::run(*args)),
        Command::Redelivery(args) => finish(redeliver::progress(args)),
        Command::Rewatch(args) => finish(rewatch::run(*args)),
        Command::Attempts(args) => finish(inspect::attempts(args)),
        Command::Accounts(args) => finish(inspect::accounts(args)),
        Command::Fleet(args) => finish(inspect::fleet(args)),
    }
}

/// Runs a command to its end and tells on standard error what went wrong.
fn finish(command: impl Future<Output = Result<Exit, Failure>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            render::tell(&format!("outcomed: cannot start: {error}"));
            return Exit::Failure;
        }
    };
    runtime.block_on(command).unwrap_or_else(|failure| {
        render::tell(&failure.to_string());
        failure.exit()
    })
}
