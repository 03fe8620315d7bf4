//! The plain sections: `[http]`, `[store]`, `[polling]`, `[delivery]`, `[retention]`, `[log]`.

use std::time::Duration;

use super::field::Field;
use super::model::{Delivery, Http, Listen, Log, Polling, Retention, StoreUrl};
use super::reader::{Bad, Table};
use super::secrets::Secrets;
use super::store_url;
use super::{tls, values};

/// Attempts at one host at once; beyond it sockets run out before a receiver gains anything.
const CONCURRENCY_MAX: u32 = 1_000;
/// A schedule longer than this is a slip.
const RETRY_DELAYS_MAX: usize = 100;

pub(super) fn http(root: &Table<'_>) -> Option<Http> {
    let table = root.table("http")?;
    let listen = table.field("listen").parse(values::listen);
    let open_metrics = table.field("open_metrics").truth();
    if let (Some(Listen::Tcp(address)), Some(true)) = (&listen, open_metrics)
        && !address.ip().is_loopback()
    {
        root.reader
            .warn(format!("http.open_metrics lets everybody who reaches {address} read /metrics"));
    }
    table.finish();
    Some(Http { listen: listen?, open_metrics: open_metrics? })
}

pub(super) fn store(root: &Table<'_>, secrets: &Secrets<'_>) -> Option<StoreUrl> {
    let table = root.table("store")?;
    let field = table.field("url");
    let url = store_url(&field, secrets);
    table.finish();
    url
}

/// A Postgres URL may hold a password, so the URL may be a reference like any other secret, and
/// no complaint repeats it.
fn store_url(field: &Field<'_>, secrets: &Secrets<'_>) -> Option<StoreUrl> {
    let text = field.text()?;
    if text.starts_with("sqlite:") {
        return field.parse(store_url::sqlite);
    }
    let url = secrets.follow(field)?;
    match store_url::parse(url.expose()) {
        Ok(store) => Some(store),
        Err(bad) => {
            let message = format!("`{}` {}", field.shown(), bad.message);
            field.error(Bad { message, help: bad.help });
            None
        }
    }
}

pub(super) fn polling(root: &Table<'_>) -> Option<Polling> {
    let table = root.table("polling")?;
    let give_up_after = table.field("give_up_after").parse(values::duration);
    let not_found_grace = table.field("not_found_grace").parse(values::duration_or_zero);
    let poll_worth = table.field("poll_worth").parse(values::duration_or_zero);
    table.finish();
    let polling = Polling {
        give_up_after: give_up_after?,
        not_found_grace: not_found_grace?,
        poll_worth: poll_worth?,
    };
    if polling.not_found_grace >= polling.give_up_after {
        root.reader.warn(
            "polling.not_found_grace is not shorter than polling.give_up_after: unknown tasks \
             will end unresolved",
        );
    }
    Some(polling)
}

pub(super) fn delivery(root: &Table<'_>) -> Option<Delivery> {
    let table = root.table("delivery")?;
    let timeout = table.field("timeout").parse(values::duration);
    let retry_delays = retry_delays(&table.field("retry_delays"));
    let concurrency_per_host = table.field("concurrency_per_host").count(CONCURRENCY_MAX);
    let extra_ca_files = tls::ca_files(&table.field("extra_ca_files"));
    table.finish();
    Some(Delivery {
        timeout: timeout?,
        retry_delays: retry_delays?,
        concurrency_per_host: concurrency_per_host?,
        extra_ca_files: extra_ca_files?,
    })
}

fn retry_delays(field: &Field<'_>) -> Option<Vec<Duration>> {
    let list = field.list()?;
    if list.is_empty() || list.len() > RETRY_DELAYS_MAX {
        let bad = format!("`{}` must hold 1 to {RETRY_DELAYS_MAX} durations", field.shown());
        let help = "with none, a receiver that is down for a moment would miss its outcome";
        field.error(Bad::new(bad).help(help));
        return None;
    }
    let delays: Vec<Option<Duration>> =
        list.iter().map(|element| element.parse(values::duration)).collect();
    delays.into_iter().collect()
}

pub(super) fn retention(root: &Table<'_>) -> Option<Retention> {
    let table = root.table("retention")?;
    let delivered = table.field("delivered").parse(values::duration);
    let undeliverable = table.field("undeliverable").parse(values::duration);
    let attempts = table.field("attempts").parse(values::duration);
    table.finish();
    Some(Retention { delivered: delivered?, undeliverable: undeliverable?, attempts: attempts? })
}

pub(super) fn log(root: &Table<'_>) -> Option<Log> {
    let table = root.table("log")?;
    let level = table.field("level").parse(values::level);
    let format = table.field("format").parse(values::log_format);
    table.finish();
    Some(Log { level: level?, format: format? })
}
