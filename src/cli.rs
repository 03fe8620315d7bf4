//! The command line: one file a subcommand.

pub mod check_config;
pub mod client;
pub mod demo;
pub mod documents;
pub mod listen;
pub mod migrate_store;
pub mod mock_feishu;
pub mod new_secret;
pub mod replay;
pub mod serve;
pub mod stopping;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Threads of the runtime, however many cores there are: together with the resolver's, the store's
/// and these for what blocks, fewer than the unit's `TasksMax`.
pub const WORKERS_MAX: usize = 16;
/// Threads for what blocks: the embedded store's readers, the database's name.
pub const BLOCKING_MAX: usize = 64;

/// Watches Feishu delivery tasks and tells your callback how each one ended.
#[derive(Debug, Parser)]
#[command(name = "outcomed", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve(serve::Args),
    /// Check the configuration and say what it found
    CheckConfig(check_config::Args),
    /// Show the main job, with everything it needs in this one process
    Demo(demo::Args),
    #[command(flatten)]
    Client(client::Command),
    /// Receive callbacks: verify each one and print it
    Listen(listen::Args),
    /// Print a new API token and the hash to configure
    NewToken(new_secret::TokenArgs),
    /// Print a new signing secret
    NewSecret(new_secret::SecretArgs),
    /// Run a stand-in for Feishu
    MockFeishu(Box<mock_feishu::Args>),
    /// Run the scheduler over a trace in virtual time
    Replay(replay::Args),
    /// Move the embedded store into Postgres
    MigrateStore(migrate_store::Args),
    /// Print a completion script for a shell
    Completions(documents::CompletionArgs),
    /// Print the manual page
    Man(documents::ManArgs),
}

/// How a command ended; the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Success,
    /// 1
    Failure,
    /// 2
    Usage,
    /// 78 (`EX_CONFIG`)
    BadConfig,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::BadConfig => 78,
        })
    }
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> Exit {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::CheckConfig(args) => check_config::run(args),
            Command::Demo(args) => demo::run(args),
            Command::Client(command) => client::run(command),
            Command::Listen(args) => listen::run(args),
            Command::NewToken(args) => new_secret::run_token(args),
            Command::NewSecret(args) => new_secret::run_secret(args),
            Command::MockFeishu(args) => mock_feishu::run(*args),
            Command::Replay(args) => replay::run(args),
            Command::MigrateStore(args) => migrate_store::run(args),
            Command::Completions(args) => documents::run_completions(args),
            Command::Man(args) => documents::run_man(args),
        }
    }
}

/// How long what still blocks a thread (a resolver that is silent, a file that is locked) is waited
/// for once a command is over.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Runs a command's future to its end.
fn block_on(command: impl Future<Output = Exit>) -> Exit {
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.min(WORKERS_MAX))
        .max_blocking_threads(BLOCKING_MAX)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(command);
            runtime.shutdown_timeout(LAST_WAIT);
            exit
        }
        Err(error) => fail(&format!("cannot start the runtime: {error}"), Exit::Failure),
    }
}

/// Says on standard error what went wrong.
fn fail(message: &str, exit: Exit) -> Exit {
    // Where standard error is gone, the exit code says what is left to say.
    let _ = writeln!(std::io::stderr(), "{}", message.trim_end());
    exit
}
