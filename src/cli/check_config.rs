//! `outcomed check-config`: is the configuration right, and what does it say?

pub mod online;
mod report;

use std::io::Write;
use std::path::PathBuf;

use super::Exit;
use crate::config::{Loaded, Overrides, Sources, load};
use crate::source::feishu::{Deadlines, Http};
use online::{Check, OnlineChecks, Upstreams};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  outcomed check-config\n  outcomed check-config --config \
                        ./config.toml --online\n\nExit codes: 0 right, 78 wrong, 1 right but an \
                        --online check failed.")]
pub struct Args {
    #[arg(
        long,
        value_name = "FILE",
        help = "The file [default: $OUTCOMED_CONFIG, else /etc/outcomed/config.toml, else \
                ./config.toml, else none]"
    )]
    config: Option<PathBuf>,
    /// Also try each account's token, the names of its host, and the store. Writes nothing
    #[arg(long)]
    online: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    let loaded = match load(Sources::of_process(args.config, Overrides::default())) {
        Ok(loaded) => loaded,
        Err(errors) => {
            say(std::io::stderr(), &format!("{errors}\n"));
            return Exit::BadConfig;
        }
    };
    for warning in &loaded.warnings {
        say(std::io::stderr(), &format!("warning: {warning}\n"));
    }
    say(std::io::stdout(), &report::found(&loaded));
    if !args.online {
        return Exit::Success;
    }
    // The TLS library is told once which cryptography to use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Http::new(Deadlines::default()) {
        Ok(http) => check_online(&loaded, &Upstreams(http)),
        Err(error) => super::fail(&format!("error: {error}"), Exit::Failure),
    }
}

fn check_online(loaded: &Loaded, checks: &dyn OnlineChecks) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say(std::io::stderr(), &format!("error: cannot start: {error}\n"));
            return Exit::Failure;
        }
    };
    let results = runtime.block_on(online::run(&loaded.config, checks));
    // A lookup that hangs would otherwise keep the process until the resolver gives up.
    runtime.shutdown_background();
    say(std::io::stdout(), &report::checked(&results));
    let failed = results.iter().any(|(_, check)| matches!(check, Check::Failed { .. }));
    if failed { Exit::Failure } else { Exit::Success }
}

/// Whoever reads us may have gone (`check-config | head`): that is no failure of the check.
fn say(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
    let _ = to.flush();
}
