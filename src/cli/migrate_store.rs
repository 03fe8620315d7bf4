//! `outcomed migrate-store`: everything of one `SQLite` file into a Postgres database.

mod progress;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use self::progress::Reporter;
use super::Exit;
use crate::clock::SystemClock;
use crate::config::secret::Secret;
use crate::config::{Overrides, Sources, StoreUrl};
use crate::store::migration::{self, Migrated, MigrationError, Tally};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "The daemon on the file must be stopped, and none may run on the database \
                        yet. From the first row on, no daemon opens the file any more; the database \
                        has everything, compared, in one transaction, or nothing. Killed or cut \
                        off, the same command starts over.\n\nExamples:\n  \
                        outcomed migrate-store --from sqlite:/var/lib/outcomed/outcomed.db --to \
                        file:/etc/outcomed/credentials/store-url\n  outcomed migrate-store --from \
                        sqlite:outcomed.db --to postgres://outcomed@db.example/outcomed\n\nExit \
                        codes: 0 all is there, 1 it is not, 2 usage.")]
pub struct Args {
    /// The store to move: sqlite:PATH
    #[arg(long, value_name = "URL")]
    from: String,
    #[arg(
        long,
        value_name = "URL",
        help = "The empty database to move it into: postgres://…, or where that URL is, with its \
                password in it: file:/path, env:NAME"
    )]
    to: String,
    /// Take the move back: daemons use the file again, as it was when the move began, and the
    /// database no more
    #[arg(long)]
    abandon: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    let (from, to) = match ends(&args) {
        Ok(ends) => ends,
        Err(why) => return super::fail(&format!("outcomed migrate-store: {why}"), Exit::Usage),
    };
    super::block_on(async move {
        let clock = SystemClock::new();
        if args.abandon {
            let done = migration::abandon(&from, to.expose(), &clock).await;
            return end(done.map(|()| abandoned(&args.from)));
        }
        let reporter = Reporter::new(&clock);
        let done =
            migration::run(&from, to.expose(), &clock, &|event| reporter.report(&event)).await;
        reporter.finish();
        end(done.map(|moved| told(&moved, &args.from)))
    })
}

/// The two ends, or why they cannot be.
fn ends(args: &Args) -> Result<(PathBuf, Secret), String> {
    let sources = Sources::of_process(None, Overrides::default());
    let read = |name: &str, url: &str| {
        StoreUrl::read(url, &sources).map_err(|why| format!("{name} {why}"))
    };
    match (read("--from", &args.from)?, read("--to", &args.to)?) {
        (StoreUrl::Sqlite(from), StoreUrl::Postgres(to)) => Ok((from, to)),
        (StoreUrl::Postgres(_), StoreUrl::Sqlite(_)) => Err(
            "there is no way back from Postgres to SQLite: a store only moves from sqlite:PATH to \
             postgres://…; a move that was just made can be taken back with --abandon, its --from \
             and --to as they were"
                .into(),
        ),
        (StoreUrl::Sqlite(_), StoreUrl::Sqlite(_)) => {
            Err("--to is a SQLite file too: stop the daemon, and copy the file".into())
        }
        (StoreUrl::Postgres(_), StoreUrl::Postgres(_)) => {
            Err("--from is a Postgres too: move it with pg_dump and pg_restore".into())
        }
    }
}

/// What is data, and what is said beside it.
struct Ending {
    data: String,
    said: String,
}

fn end(done: Result<Ending, MigrationError>) -> Exit {
    match done {
        Ok(Ending { data, said }) => {
            // Nobody reading any more is no failure of the move.
            let _ = write!(std::io::stdout().lock(), "{data}");
            super::fail(&said, Exit::Success)
        }
        Err(error) => super::fail(&format!("outcomed migrate-store: {error}"), Exit::Failure),
    }
}

fn told(moved: &Migrated, from: &str) -> Ending {
    let go_on = format!(
        "Give every daemon the database as its `store.url` and start them. {from} stays as it is, \
         for the archive; no daemon opens it."
    );
    match moved {
        Migrated::Before { at } => {
            let said = format!("nothing to do: this move was finished at {at}. {go_on}");
            Ending { data: String::new(), said }
        }
        Migrated::Now(tallies) => {
            let replaced: u64 = tallies.iter().map(|tally| tally.replaced).sum();
            let mut said = String::from("Everything is there, and alike on both sides.\n");
            if replaced > 0 {
                let _ = writeln!(
                    said,
                    "In {replaced} texts of receivers U+0000, which Postgres cannot hold, became \
                     U+FFFD."
                );
            }
            said.push_str(&go_on);
            Ending { data: summary(tallies), said }
        }
    }
}

fn abandoned(from: &str) -> Ending {
    let said = format!(
        "Taken back: daemons open {from} again, as it was when the move began, and the database no \
         more. What was registered or delivered on the database since is not in the file: what was \
         delivered meanwhile is sent again. Drop that database."
    );
    Ending { data: String::new(), said }
}

fn summary(tallies: &[Tally]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["TABLE", "ROWS", "SHA-256 ON BOTH SIDES"]);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    // Store apps' tickets are secrets: not even what they add up to is shown.
    for tally in tallies.iter().filter(|tally| tally.table != "app_ticket") {
        let checksum = tally.checksum.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        table.add_row([tally.table.to_owned(), tally.rows.to_string(), checksum]);
    }
    table.trim_fmt() + "\n"
}
