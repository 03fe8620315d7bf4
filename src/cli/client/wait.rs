//! `outcomed wait`: long polls until the outcome is known.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::connection::{Connection, ConnectionArgs};
use super::failure::Failure;
use super::render;
use crate::api::duration;
use crate::cli::Exit;

pub(super) const EXAMPLES: &str = "\
Exit codes: 0 the task succeeded; 1 anything else: it failed, nobody can say, the registration was
cancelled, the time is over, or the daemon was away for a minute.

Examples:
  outcomed wait reg_019aa6f0c3a17f3a8d7f1c2a0f138ec4
  outcomed wait reg_019aa6f0c3a17f3a8d7f1c2a0f138ec4 --timeout 10m --json";

/// The API's longest long poll.
const ONE_WAIT: &str = "60s";
/// A restart of the daemon is waited out, once it has answered.
const FAILURES_MAX: u32 = 60;
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// The arguments of `wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registration's id
    #[arg(value_name = "REG_ID")]
    id: String,
    /// Stop waiting after this long, e.g. 10m
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs it.
pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    let waiting = until_known(&connection, &args.id);
    match args.timeout {
        None => waiting.await,
        Some(most) => timeout(most, waiting).await.unwrap_or(Err(Failure::TimedOut)),
    }
}

/// Waits for a registration's outcome and prints it.
pub(super) async fn until_known(connection: &Connection, id: &str) -> Result<Exit, Failure> {
    let mut patience = Patience::default();
    loop {
        let asked = connection.get(&["registrations", id], &[("wait", ONE_WAIT.into())]).await;
        match asked {
            Ok(reply) if render::text(&reply.value, "/state") != "watching" => {
                render::reply(connection.json, &reply, render::registration);
                return Ok(exit(&reply.value));
            }
            Ok(_) => patience.answered(),
            Err(failure) if failure.is_passing() && patience.lasts() => {
                if patience.failures == 1 {
                    render::tell(&format!("{failure}\n  trying again for a minute"));
                }
                sleep(FAILURE_PAUSE).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// How long a daemon that does not answer is waited for.
#[derive(Default)]
struct Patience {
    answers: bool,
    /// In a row.
    failures: u32,
}

impl Patience {
    fn answered(&mut self) {
        (self.answers, self.failures) = (true, 0);
    }

    /// It failed: whether to ask again.
    fn lasts(&mut self) -> bool {
        self.failures += 1;
        self.answers && self.failures <= FAILURES_MAX
    }
}

fn exit(registration: &Value) -> Exit {
    if render::text(registration, "/outcome/outcome") == "succeeded" {
        Exit::Success
    } else {
        Exit::Failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_restart_of_a_daemon_that_answers_is_waited_out() {
        let mut patience = Patience::default();
        assert!(!patience.lasts(), "it is not there at all");
        for _restart in 0..3 {
            patience.answered();
            assert!((0..FAILURES_MAX).all(|_| patience.lasts()));
        }
        assert!(!patience.lasts(), "it stays away");
    }
}
