//! `outcomed register`.

use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;

use super::connection::{Connection, ConnectionArgs};
use super::failure::Failure;
use super::{render, wait};
use crate::cli::Exit;
use crate::task::Callback;

pub(super) const EXAMPLES: &str = "\
Examples:
  outcomed register 7047318856652261676 f1c2a0f138ec492d99d7ab73594158ad \\
      --callback https://hr.example.com/hooks/feishu
  outcomed register 7047318856652261676 f1c2a0f138ec492d99d7ab73594158ad \\
      --callback https://hr.example.com/hooks/feishu \\
      --metadata '{\"candidate\":\"42\"}' --give-up-after 30m --wait

Registering the same task and callback again answers with the first registration.";

/// The arguments of `register`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Feishu's website id
    website_id: String,
    /// Feishu's delivery task id, as `create_by_attachment` answered it
    delivery_task_id: String,
    /// Where the outcome is sent
    #[arg(long, value_name = "URL")]
    callback: String,
    /// The account; may be left out where there is one
    #[arg(long)]
    account: Option<String>,
    /// The kind of task
    #[arg(long, default_value = "hire.website_delivery")]
    kind: String,
    /// A JSON object that comes back with the outcome
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// How long to wait for the outcome, e.g. 30m [default: the daemon's]
    #[arg(long, value_name = "DURATION")]
    give_up_after: Option<String>,
    /// Then wait for the outcome, as `outcomed wait` does
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Serialize)]
struct Body {
    task: Task,
    callback: Callback,
    /// Passed on to the byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    give_up_after: Option<String>,
}

#[derive(Serialize)]
struct Task {
    website_id: String,
    delivery_task_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    kind: String,
}

/// Runs it.
pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let metadata = args
        .metadata
        .map(RawValue::from_string)
        .transpose()
        .map_err(|error| Failure::Usage(format!("--metadata is not JSON: {error}")))?;
    let body = Body {
        task: Task {
            website_id: args.website_id,
            delivery_task_id: args.delivery_task_id,
            account: args.account,
            kind: args.kind,
        },
        callback: Callback { url: args.callback },
        metadata,
        give_up_after: args.give_up_after,
    };
    let body = serde_json::to_string(&body)
        .map_err(|error| Failure::Usage(format!("this cannot be registered: {error}")))?;
    let connection = Connection::new(args.connection)?;
    let reply = connection.call(Method::POST, &["registrations"], &[], Some(body)).await?;
    if reply.status == 200 {
        render::tell("it was registered before; nothing is sent twice");
    }
    if args.wait {
        let id = render::text(&reply.value, "/id");
        render::tell(&format!("waiting for the outcome of {id}"));
        return wait::until_known(&connection, &id).await;
    }
    render::reply(connection.json, &reply, render::registration);
    Ok(Exit::Success)
}
