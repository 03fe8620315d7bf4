//! The process: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use outcomed::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run().into()
}
