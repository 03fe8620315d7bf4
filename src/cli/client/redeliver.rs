//! `redeliver` and `redelivery`: sending one again, or many by a filter.

use reqwest::Method;
use serde_json::{Map, Value};

use super::connection::{Connection, ConnectionArgs};
use super::failure::Failure;
use super::render;
use crate::cli::Exit;

pub(super) const EXAMPLES: &str = "\
Examples:
  outcomed redeliver reg_0198…
  outcomed redeliver --state undeliverable --callback-host hr.example.com
  outcomed redeliver --state undeliverable --since 2026-11-21T00:00:00Z";

/// The arguments of `redeliver`.
#[derive(Debug, clap::Args)]
#[group(id = "what", required = true, multiple = true)]
pub struct Args {
    /// The registration's id; without one, everything that fits the filter
    #[arg(value_name = "REG_ID", group = "what", conflicts_with = "filter")]
    id: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, clap::Args)]
#[group(id = "filter", multiple = true)]
struct FilterArgs {
    /// undeliverable or delivered
    #[arg(long, group = "what")]
    state: Option<String>,
    /// Only what ended at or after this time (RFC 3339)
    #[arg(long, group = "what")]
    since: Option<String>,
    /// Only what ended before this time (RFC 3339)
    #[arg(long, group = "what")]
    until: Option<String>,
    /// Only to this callback host
    #[arg(long, group = "what")]
    callback_host: Option<String>,
    /// Only this client's (for operators)
    #[arg(long, group = "what")]
    client: Option<String>,
}

/// The arguments of `redelivery`.
#[derive(Debug, clap::Args)]
pub struct ProgressArgs {
    /// The redelivery's id, as `redeliver` printed it
    #[arg(value_name = "RDL_ID")]
    id: String,
    /// Let it go no further
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// `redeliver`
pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    if let Some(id) = args.id {
        let path = ["registrations", id.as_str(), "redeliver"];
        let reply = connection.call(Method::POST, &path, &[], None).await?;
        render::reply(connection.json, &reply, render::registration);
        return Ok(Exit::Success);
    }
    let FilterArgs { state, since, until, callback_host, client } = args.filter;
    let filter: Map<String, Value> = [
        ("state", state),
        ("since", since),
        ("until", until),
        ("callback_host", callback_host),
        ("client", client),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
    .collect();
    let body = Value::Object(filter).to_string();
    let reply = connection.call(Method::POST, &["redeliveries"], &[], Some(body)).await?;
    render::reply(connection.json, &reply, render::redelivery);
    if !connection.json {
        let id = render::text(&reply.value, "/id");
        render::tell(&format!("see how far it is with: outcomed redelivery {id}"));
    }
    Ok(Exit::Success)
}

/// `redelivery`
pub(super) async fn progress(args: ProgressArgs) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    let method = if args.cancel { Method::DELETE } else { Method::GET };
    let reply = connection.call(method, &["redeliveries", &args.id], &[], None).await?;
    render::reply(connection.json, &reply, render::redelivery);
    Ok(Exit::Success)
}
