//! A stand-in for Feishu, faithful enough for its official SDKs: for the demo, for tests, and for
//! the CI of whoever uses this daemon.
//!
//! [`MockFeishu::start`] listens; [`Control`] steers it and reads what was asked. The core,
//! [`Upstream`], is pure and runs without a socket. With the same seed and the same calls it
//! makes the same tasks and the same faults.

mod auth;
mod control;
mod event;
mod fault;
mod journal;
mod options;
mod push;
mod reply;
mod route;
mod server;
mod settle;
mod tasks;
mod tokens;
mod upstream;
mod windows;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use control::Control;
pub use event::{Event, Rendered, Salt, encrypt};
pub use fault::{Fault, Standing};
pub use journal::{Api, Journal, Poll};
pub use options::{App, Options, Percent, QuotaStatus, StoreApp, duration};
pub use reply::{Manner, Reply};
pub use settle::Settle;
pub use tasks::{Ending, Life, Task};
pub use upstream::{Request, Upstream};
pub use windows::{Window, Windows};

use crate::clock::{Clock, SystemClock};
use crate::small_server::SmallServer;

/// How often Feishu pushes a store app's ticket.
const TICKET_EVERY: Duration = Duration::from_secs(3600);

/// A running stand-in; it stops when this is dropped.
#[derive(Debug)]
pub struct MockFeishu {
    server: SmallServer,
    control: Control,
    _tickets: DropGuard,
}

impl MockFeishu {
    /// Listens and answers, by the machine's clock.
    pub async fn start(options: Options) -> io::Result<Self> {
        Self::start_with_clock(options, Arc::new(SystemClock::new())).await
    }

    /// Listens and answers, by a clock of the caller's.
    pub async fn start_with_clock(options: Options, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listen = options.listen;
        let stores: Vec<String> = options
            .apps
            .iter()
            .filter(|app| app.store.is_some())
            .map(|app| app.id.clone())
            .collect();
        let (pushes, due) = mpsc::unbounded_channel();
        let upstream = Upstream::new(options);
        let shared = Arc::new(control::Shared::new(upstream, Arc::clone(&clock), pushes));
        let control = Control(Arc::clone(&shared));
        let server = SmallServer::start(listen, move |head, body| {
            server::answer(Arc::clone(&shared), head, body)
        })
        .await?;
        let stop = CancellationToken::new();
        if !stores.is_empty() {
            tokio::spawn(stop.clone().run_until_cancelled_owned(push::run(due, clock)));
            let tickets = hourly(control.clone(), stores);
            tokio::spawn(stop.clone().run_until_cancelled_owned(tickets));
        }
        Ok(Self { server, control, _tickets: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// What to configure as an account's `base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Its controls.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Stops, and waits a moment for the replies under way.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// Pushes a ticket to each store app now and every hour.
async fn hourly(control: Control, app_ids: Vec<String>) {
    let mut ticks = tokio::time::interval(TICKET_EVERY);
    loop {
        ticks.tick().await;
        for app_id in &app_ids {
            control.push_ticket(app_id);
        }
    }
}
