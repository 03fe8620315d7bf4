//! The composition root: the only file that knows every concrete type.

mod accounts;
mod adapters;
mod crew;
mod open;
mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::accounts::Accounts;
use self::adapters::{Callbacks, Deliveries, FeishuEvents};
use crate::api::{self, ApiState, Listener};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::delivery::alert::{self, Alerts};
use crate::delivery::handover::Handover;
use crate::delivery::health::{Health, Question, desk};
use crate::delivery::send::http::HttpCourier;
use crate::delivery::{self, guard};
use crate::observability::{Lines, Metrics};
use crate::polling::board::Board;
use crate::polling::{self, Context};
use crate::service::{Notifier, Passed};
use crate::source::feishu::{Deadlines, Http, HttpError};
use crate::store::fleet::{Fleet, Member};
use crate::store::{Store, StoreError, postgres, sqlite};

/// Why the daemon could not start. Nothing has been announced or changed by then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store in a file.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// A fault of ours.
    #[error("opening the store failed by a fault in outcomed: {0}")]
    Died(String),
    /// The shared store.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// The store is open, and then was not.
    #[error("cannot join the fleet: {0}")]
    Join(StoreError),
    /// The store is open, and then was not.
    #[error("cannot read the store apps' tickets: {0}")]
    Tickets(StoreError),
    /// The API's address.
    #[error(
        "cannot listen on {address}: {source}; is another outcomed running, or is the address wrong?"
    )]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The HTTP client.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// A daemon that has opened its store and bound its address, and does nothing yet.
pub struct App {
    config: watch::Sender<Arc<Config>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    lines: Arc<Lines>,
    store: Arc<dyn Store>,
    fleet: Arc<dyn Fleet>,
    /// This daemon in the fleet.
    member: Member,
    board: Arc<Board>,
    /// Asks the delivery loop, and what the loop will hear.
    health: (Health, mpsc::Receiver<Question>),
    accounts: Accounts,
    listeners: Vec<Listener>,
    notifier: Notifier,
}

impl App {
    /// Opens and binds everything that can fail.
    pub async fn build(
        config: Config,
        passed: Vec<Passed>,
        notifier: Notifier,
    ) -> Result<Self, StartError> {
        // The TLS library is told once which cryptography to use; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let metrics = Arc::new(Metrics::default());
        let listeners = open::listeners(&config, passed).await?;
        let (store, fleet) = open::store(&config.store, &clock, &metrics).await?;
        let http = Http::new(Deadlines::default())?;
        let accounts = Accounts::new(&config, http, &clock, &metrics);
        // Before the first poll, so that a store app goes on where it was.
        for ticket in store.tickets().await.map_err(StartError::Tickets)? {
            accounts.offer(&ticket);
        }
        let (config, _) = watch::channel(Arc::new(config));
        let board = Arc::new(Board::default());
        let health = desk();
        // Last of all: from now on the others leave lanes to this daemon.
        let member = open::join(&*fleet, &*clock).await?;
        Ok(Self {
            config,
            clock,
            metrics,
            lines: Arc::default(),
            store,
            fleet,
            member,
            board,
            health,
            accounts,
            listeners,
            notifier,
        })
    }

    /// Where the API listens, as a person would write it.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Changes the settings of a running daemon.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader { config: self.config.clone(), accounts: self.accounts.clone() }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Runs until `shutdown`, then drains. Returns whether everything under way was finished.
    pub async fn run(self, shutdown: CancellationToken) -> bool {
        let own = self.own_addresses();
        let courier = Arc::new(HttpCourier::new(own));
        let upkeep = upkeep::Upkeep {
            store: Arc::clone(&self.store),
            board: Arc::clone(&self.board),
            health: self.health.0.clone(),
            config: self.config.subscribe(),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            lines: Arc::clone(&self.lines),
            notifier: self.notifier.clone(),
            doors: self.listeners.iter().filter_map(Listener::door).collect(),
            shutdown: shutdown.clone(),
        };
        let crew = self.crew().run(shutdown.clone());
        let handover = Handover::new(self.store.clone());
        let polling = polling::run(Context {
            follower: Arc::new(Deliveries(handover.clone())),
            store: Arc::clone(&self.store),
            fleet: Arc::clone(&self.fleet),
            member: self.member.clone(),
            upstreams: self.accounts.subscribe(),
            settings: self.config.borrow().polling.clone(),
            clock: Arc::clone(&self.clock),
            board: Arc::clone(&self.board),
            metrics: Arc::clone(&self.metrics),
            shutdown: shutdown.clone(),
        });
        let state = self.api_state(courier.clone());
        let (closed, told) = mpsc::channel(alert::CLOSED_MAX);
        let alerts = self.alerts(courier.clone(), told);
        let (board, clock) = (Arc::clone(&self.board), Arc::clone(&self.clock));
        let ours = Arc::new(move || board.is_ours(clock.read()));
        let parts = delivery::Parts {
            hints: self.store.hints(),
            outbox: self.store.clone(),
            config: self.config.subscribe(),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            courier,
            questions: self.health.1,
            closed,
            handover,
            ours,
            jitter: Arc::new(delivery::random_jitter),
        };
        let delivery = delivery::run(parts, shutdown.clone(), delivery::DRAIN_MAX);
        let alerts = alert::run(alerts, shutdown.clone());
        let redeliveries =
            delivery::redeliver::run(self.store.clone(), Arc::clone(&self.clock), shutdown.clone());
        let api = api::serve(self.listeners, state, shutdown.clone());
        // Each on a task of its own: a panic in one must not be waited for by the others.
        let (polling, delivery) = (tokio::spawn(polling), tokio::spawn(delivery));
        let (redeliveries, alerts) = (tokio::spawn(redeliveries), tokio::spawn(alerts));
        let crew = tokio::spawn(crew);
        let (api, upkeep) = (tokio::spawn(api), tokio::spawn(upkeep.run()));
        let ended = tokio::try_join!(polling, delivery, api, upkeep, redeliveries, alerts, crew);
        match ended {
            Ok(((), delivery, api, (), (), (), ())) => {
                tracing::info!(attempts_cut_off = delivery.cut_off, api = ?api, "drained");
                delivery.cut_off == 0 && api == api::Drained::Clean
            }
            Err(error) => {
                tracing::error!(%error, "a part of the daemon has died");
                false
            }
        }
    }

    fn crew(&self) -> crew::Crew {
        crew::Crew {
            store: Arc::clone(&self.store),
            fleet: Arc::clone(&self.fleet),
            member: self.member.clone(),
            board: Arc::clone(&self.board),
            health: self.health.0.clone(),
            accounts: self.accounts.clone(),
        }
    }

    fn alerts(&self, courier: Arc<HttpCourier>, closed: mpsc::Receiver<alert::Closed>) -> Alerts {
        let board = Arc::clone(&self.board);
        let (leading, clock, me) = (Arc::clone(&board), Arc::clone(&self.clock), self.member.id);
        Alerts {
            store: Arc::clone(&self.store),
            health: self.health.0.clone(),
            accounts: Arc::new(move || adapters::sights(&board.read_all())),
            leads: Arc::new(move || leading.leads(me, clock.steady())),
            closed,
            config: self.config.subscribe(),
            clock: Arc::clone(&self.clock),
            courier,
        }
    }

    fn api_state(&self, courier: Arc<HttpCourier>) -> ApiState {
        ApiState {
            store: Arc::clone(&self.store),
            config: self.config.subscribe(),
            clock: Arc::clone(&self.clock),
            fleet: Arc::clone(&self.fleet),
            member: self.member.id,
            board: Arc::clone(&self.board),
            health: self.health.0.clone(),
            metrics: Arc::clone(&self.metrics),
            judge_callback: Arc::new(|url, client| {
                guard::judge_url(url, &client.callback_allow).map_err(|refusal| refusal.to_string())
            }),
            pinger: Arc::new(Callbacks {
                courier,
                clock: Arc::clone(&self.clock),
                config: self.config.subscribe(),
            }),
            events: Arc::new(FeishuEvents::new(
                self.config.subscribe(),
                self.accounts.clone(),
                Arc::clone(&self.store),
                Arc::clone(&self.clock),
            )),
            lines: Arc::clone(&self.lines),
            limits: api::Limits::default(),
        }
    }

    /// Our own addresses, which no callback may reach.
    fn own_addresses(&self) -> Vec<SocketAddr> {
        self.addresses()
            .iter()
            .filter_map(|address| address.strip_prefix("http://")?.parse().ok())
            .collect()
    }
}

/// Changes the settings of a running daemon.
#[derive(Clone)]
pub struct Reloader {
    config: watch::Sender<Arc<Config>>,
    accounts: Accounts,
}

impl Reloader {
    /// The settings as they are.
    #[must_use]
    pub fn current(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// From now on these settings hold, as far as they can without a restart; in the rest the
    /// daemon goes on as it was started.
    pub fn apply(&self, config: Config) {
        let config = config::reloaded(&self.current(), config);
        self.accounts.apply(&config);
        self.config.send_replace(Arc::new(config));
    }
}
