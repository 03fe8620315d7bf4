//! `listen`: receive callbacks, verify each one, print it.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;

use super::Exit;
use super::stopping::stop_signal;
use crate::clock::SystemClock;
use crate::receiver::verify::Key;
use crate::receiver::{Received, Receiver, accepting};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The client's signing secret, `whsec_…`, or its public key, `whpk_…` (repeatable); or where
    /// to read it, so that `ps` does not show it: `file:PATH` or `env:NAME`
    #[arg(long, value_name = "WHSEC", required = true, value_parser = key)]
    secret: Vec<Key>,
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8475")]
    listen: SocketAddr,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    let addr = args.listen;
    let result = tokio::runtime::Runtime::new().and_then(|runtime| runtime.block_on(listen(args)));
    match result {
        Ok(()) => Exit::Success,
        Err(error) => {
            let _ = writeln!(io::stderr(), "listen: cannot listen on {addr}: {error}");
            Exit::Failure
        }
    }
}

/// Reads a secret, or the place that it names.
fn key(text: &str) -> Result<Key, String> {
    let secret = if let Some(path) = text.strip_prefix("file:") {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?
    } else if let Some(name) = text.strip_prefix("env:") {
        std::env::var(name).map_err(|_| format!("the environment has no {name}"))?
    } else {
        text.to_owned()
    };
    Key::parse(secret.trim()).map_err(|error| error.to_string())
}

async fn listen(args: Args) -> io::Result<()> {
    let stopped = stop_signal()?;
    tokio::pin!(stopped);
    let clock = Arc::new(SystemClock::new());
    let mut receiver = Receiver::start(args.listen, args.secret, accepting(), clock).await?;
    let _ = writeln!(io::stderr(), "listening on {}", receiver.url());
    loop {
        let callback = tokio::select! {
            () = &mut stopped => break,
            callback = receiver.next() => callback,
        };
        let Some(callback) = callback else { break };
        let line = if args.json { as_json(&callback) } else { as_text(&callback) };
        // Whoever read us has gone, as `| head -1` does: an ordinary end.
        if writeln!(io::stdout(), "{line}").is_err() {
            break;
        }
    }
    receiver.stop().await;
    Ok(())
}

fn as_text(callback: &Received) -> String {
    let Received { at, id, verified, arrival, .. } = callback;
    let id = clean(id.as_deref().unwrap_or("(no webhook-id)"));
    let what = clean(callback.outcome().or(callback.kind()).unwrap_or("(not a callback)"));
    let task = clean(callback.task_id().unwrap_or("-"));
    let why = match (callback.reason().map(clean), callback.duplicate_of().map(clean)) {
        (Some(reason), Some(earlier)) => format!("{reason} of {earlier}  "),
        (Some(reason), None) => format!("{reason}  "),
        (None, _) => String::new(),
    };
    let genuine = match verified {
        Err(why) => format!("INVALID: {why}"),
        Ok(()) if callback.is_repeat() => format!("verified ✓  repeat (arrival {arrival})"),
        Ok(()) => "verified ✓".to_owned(),
    };
    format!("{at}  {what:<10}  {task:<32}  {why}{genuine}  {id}")
}

/// Forged callbacks are shown too: nothing in them may steer a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn as_json(callback: &Received) -> String {
    let invalid = callback.verified.err().map(|why| why.to_string());
    json!({
        "at": callback.at,
        "webhook_id": callback.id,
        "type": callback.kind(),
        "outcome": callback.outcome(),
        "task_id": callback.task_id(),
        "reason": callback.reason(),
        "verified": invalid.is_none(),
        "invalid": invalid,
        "arrival": callback.arrival,
        "repeat": callback.is_repeat(),
        "answered": callback.answered,
        "body": callback.json,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::Timestamp;
    use crate::receiver::verify::Invalid;

    fn callback(verified: Result<(), Invalid>, arrival: u32) -> Received {
        Received {
            at: Timestamp(1_000),
            id: Some("msg_1".into()),
            path: "/".into(),
            body: Bytes::new(),
            json: json!({ "type": "delivery_task.failed", "data": {
                "outcome": "failed",
                "task": { "delivery_task_id": "f1c2a0f138ec492d99d7ab73594158ad" },
                "failure": { "reason": "duplicate", "duplicate_of": "69" },
            } }),
            verified,
            arrival,
            answered: 200,
        }
    }

    #[test]
    fn a_line_says_what_ended_how_and_whether_it_is_genuine() {
        assert_eq!(
            as_text(&callback(Ok(()), 1)),
            "1970-01-01T00:00:01.000Z  failed      f1c2a0f138ec492d99d7ab73594158ad  \
             duplicate of 69  verified ✓  msg_1"
        );
        assert!(as_text(&callback(Ok(()), 2)).contains("repeat (arrival 2)"));
        let line = as_text(&callback(Err(Invalid::NoSignature), 0));
        assert!(line.contains("INVALID: the webhook-signature header is missing"), "{line}");
    }

    #[test]
    fn a_secret_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n").unwrap();
        assert!(key(&format!("file:{}", path.display())).is_ok());
        assert!(key("file:/nowhere/at/all").unwrap_err().starts_with("cannot read"));
    }

    #[test]
    fn a_forgery_cannot_steer_the_terminal() {
        let mut forged = callback(Err(Invalid::Signature), 0);
        forged.json["data"]["outcome"] = "\u{1b}[2Jgone\n".into();
        assert!(!as_text(&forged).contains(['\u{1b}', '\n']));
    }
}
