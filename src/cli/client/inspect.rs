//! `list`, `show`, `cancel`, `attempts`, `accounts`, `fleet`: one call each.

use reqwest::Method;

use super::connection::{Connection, ConnectionArgs};
use super::failure::Failure;
use super::render;
use crate::cli::Exit;

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  outcomed list --state undeliverable --callback-host hr.example.com
  outcomed list --delivery-task-id f1c2a0f138ec492d99d7ab73594158ad --json";

/// The arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// watching, delivering, delivered, undeliverable or cancelled
    #[arg(long)]
    state: Option<String>,
    /// Only this account's
    #[arg(long)]
    account: Option<String>,
    /// Only of this task
    #[arg(long)]
    delivery_task_id: Option<String>,
    /// Only to this callback host
    #[arg(long)]
    callback_host: Option<String>,
    /// Only this client's (for operators)
    #[arg(long)]
    client: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Go on where an earlier page ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// The arguments of a command about one registration.
#[derive(Debug, clap::Args)]
pub struct OneArgs {
    /// The registration's id
    #[arg(value_name = "REG_ID")]
    id: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// The arguments of a command about everything.
#[derive(Debug, clap::Args)]
pub struct AllArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// `list`
pub(super) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    let query: Vec<(&str, String)> = [
        ("state", args.state),
        ("account", args.account),
        ("delivery_task_id", args.delivery_task_id),
        ("callback_host", args.callback_host),
        ("client", args.client),
        ("limit", Some(args.limit.to_string())),
        ("cursor", args.cursor),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let page = connection.get(&["registrations"], &query).await?;
    render::reply(connection.json, &page, render::registrations);
    let next = render::text(&page.value, "/next_cursor");
    if next != "-" && !connection.json {
        render::tell(&format!("there are more: add --cursor {next}"));
    }
    Ok(Exit::Success)
}

/// `show`
pub(super) async fn show(args: OneArgs) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    let reply = connection.get(&["registrations", &args.id], &[]).await?;
    render::reply(connection.json, &reply, render::registration);
    Ok(Exit::Success)
}

/// `cancel`
pub(super) async fn cancel(args: OneArgs) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    let path = ["registrations", args.id.as_str()];
    let reply = connection.call(Method::DELETE, &path, &[], None).await?;
    render::reply(connection.json, &reply, render::registration);
    Ok(Exit::Success)
}

/// `attempts`
pub(super) async fn attempts(args: OneArgs) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    let reply = connection.get(&["registrations", &args.id, "attempts"], &[]).await?;
    render::reply(connection.json, &reply, render::attempts);
    Ok(Exit::Success)
}

/// `accounts`
pub(super) async fn accounts(args: AllArgs) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    let reply = connection.get(&["accounts"], &[]).await?;
    render::reply(connection.json, &reply, render::accounts);
    Ok(Exit::Success)
}

/// `fleet`
pub(super) async fn fleet(args: AllArgs) -> Result<Exit, Failure> {
    let connection = Connection::new(args.connection)?;
    let reply = connection.get(&["fleet"], &[]).await?;
    render::reply(connection.json, &reply, render::fleet);
    Ok(Exit::Success)
}
