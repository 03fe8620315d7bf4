//! `rewatch`: watching one unresolved registration again, or many by a filter.

use reqwest::Method;
use serde_json::{Map, Value};

use super::connection::{Connection, ConnectionArgs};
use super::failure::Failure;
use super::render;
use crate::cli::Exit;

pub(super) const EXAMPLES: &str = "\
Examples:
  outcomed rewatch reg_0198…
  outcomed rewatch --account default --reason not_observed --since 2026-11-21T00:00:00Z
  outcomed rewatch rwt_0198…            # how far that is
  outcomed rewatch rwt_0198… --cancel   # let it go no further";

/// The arguments of `rewatch`.
#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = true)]
pub struct Args {
    /// The registration's id; or that of a rewatch of many, to see how far it is
    #[arg(value_name = "ID", group = "which", conflicts_with = "filters")]
    id: Option<String>,
    /// Let that rewatch of many go no further
    #[arg(long, requires = "id")]
    cancel: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, clap::Args)]
#[group(id = "filters", multiple = true)]
struct FilterArgs {
    /// Only on this account
    #[arg(long, group = "which")]
    account: Option<String>,
    /// Only what ended for this reason: `not_observed`, `timed_out`, `task_not_found`, `invalid_task`
    #[arg(long, group = "which")]
    reason: Option<String>,
    /// Only what ended at or after this time (RFC 3339)
    #[arg(long, group = "which")]
    since: Option<String>,
    /// Only what ended before this time (RFC 3339)
    #[arg(long, group = "which")]
    until: Option<String>,
    /// Only this client's (for operators)
    #[arg(long, group = "which")]
    client: Option<String>,
}

/// `rewatch`
pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    if let Some(id) = args.id {
        if id.starts_with("rwt_") {
            let method = if args.cancel { Method::DELETE } else { Method::GET };
            let reply = connection.call(method, &["rewatches", &id], &[], None).await?;
            render::reply(connection.json, &reply, render::rewatch);
            return Ok(Exit::Success);
        }
        if args.cancel {
            let advice = "--cancel is for a rewatch of many (rwt_…); use `outcomed cancel`";
            return Err(Failure::Usage(advice.to_owned()));
        }
        let path = ["registrations", id.as_str(), "rewatch"];
        let reply = connection.call(Method::POST, &path, &[], None).await?;
        render::reply(connection.json, &reply, render::registration);
        return Ok(Exit::Success);
    }
    let FilterArgs { account, reason, since, until, client } = args.filter;
    let filter: Map<String, Value> = [
        ("account", account),
        ("reason", reason),
        ("since", since),
        ("until", until),
        ("client", client),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
    .collect();
    let body = Value::Object(filter).to_string();
    let reply = connection.call(Method::POST, &["rewatches"], &[], Some(body)).await?;
    render::reply(connection.json, &reply, render::rewatch);
    if !connection.json {
        let id = render::text(&reply.value, "/id");
        render::tell(&format!("see how far it is with: outcomed rewatch {id}"));
    }
    Ok(Exit::Success)
}
