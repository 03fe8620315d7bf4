//! `outcomed serve`: the daemon, from its configuration to its drain.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Exit;
use crate::app::{App, Reloader};
use crate::clock::{Clock, SystemClock};
use crate::config::secret::Secret;
use crate::config::{self, Loaded, Overrides, Sources, restart_needed};
use crate::observability::{self, LogHandle, Metrics};
use crate::service::{Notifier, Passed, passed_sockets};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration [default: /etc/outcomed/config.toml or ./config.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The API's address, e.g. `127.0.0.1:8474` or `unix:/run/outcomed/api.sock`
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The store, e.g. sqlite:outcomed.db
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// What is logged, e.g. `debug` or `info,outcomed::polling=debug`
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How a log line looks: auto, text, json or journald
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Args {
    fn sources(&self) -> Sources {
        let overrides = Overrides {
            listen: self.listen.clone(),
            store: self.store.clone(),
            log_level: self.log_level.clone(),
            log_format: self.log_format.clone(),
        };
        Sources::of_process(self.config.clone(), overrides)
    }
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    // Before any thread exists: it takes the variables that announced the sockets away.
    let passed = passed_sockets();
    let loaded = match config::load(args.sources()) {
        Ok(loaded) => loaded,
        Err(errors) => return super::fail(&errors.to_string(), Exit::BadConfig),
    };
    let log = match observability::init(&loaded.config.log) {
        Ok(log) => log,
        Err(error) => return super::fail(&error.to_string(), Exit::BadConfig),
    };
    let passed = match passed {
        Ok(passed) => passed,
        Err(error) => return super::fail(&error.to_string(), Exit::Failure),
    };
    super::block_on(serve(args, loaded, log, passed))
}

async fn serve(args: Args, loaded: Loaded, log: LogHandle, passed: Vec<Passed>) -> Exit {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let (notifier, credentials) = (Notifier::from_env(), loaded.credentials);
    let (mut stop, mut hup) = match signals() {
        Ok(signals) => signals,
        Err(error) => {
            return super::fail(&format!("cannot listen for signals: {error}"), Exit::Failure);
        }
    };
    // Whatever it waits for: nothing has been announced or changed by then.
    let built = tokio::select! {
        built = App::build(loaded.config, passed, notifier.clone()) => built,
        () = stop.recv() => {
            notifier.stopping();
            tracing::info!("told to stop before it was ready: stopped");
            return Exit::Success;
        }
    };
    let app = match built {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return Exit::Failure;
        }
    };
    let reloader = app.reloader();
    let metrics = app.metrics();
    let current = reloader.current();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = app.addresses().join(" "),
        store = %current.store,
        accounts = current.accounts.len(),
        clients = current.clients.len(),
        "ready"
    );
    let shutdown = CancellationToken::new();
    let mut running = tokio::spawn(app.run(shutdown.clone()));
    notifier.ready("ready");
    loop {
        tokio::select! {
            _ = &mut running => {
                tracing::error!("the daemon ended by itself");
                return Exit::Failure;
            }
            () = stop.recv() => break,
            _ = hup.recv() => {
                notifier.reloading();
                reload(&args, &reloader, &log, &metrics, &credentials);
                notifier.ready("reloaded");
            }
        }
    }
    notifier.stopping();
    tracing::info!("stopping: draining what is under way; a second signal ends it at once");
    shutdown.cancel();
    tokio::select! {
        _ = running => {}
        () = stop.recv() => tracing::warn!("told twice: leaving what is under way"),
    }
    tracing::info!("stopped");
    Exit::Success
}

/// Reads the settings again. A bad file changes nothing and says why.
fn reload(
    args: &Args,
    reloader: &Reloader,
    log: &LogHandle,
    metrics: &Arc<Metrics>,
    credentials: &BTreeMap<String, Secret>,
) {
    let now = SystemClock::new().wall();
    let loaded = match config::load(args.sources()) {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in errors.iter() {
                tracing::error!("configuration: {}", error.one_line());
            }
            tracing::error!("nothing is changed: the configuration has errors");
            return metrics.reloaded(false, now);
        }
    };
    for key in restart_needed(&reloader.current(), &loaded.config) {
        tracing::warn!(
            key,
            "{key} is not what this daemon was started with: a change of it needs a restart, and \
             until then the old value stays"
        );
    }
    // systemd 252 makes them once, for the start; a later one may renew them, and then they differ.
    let same = loaded.credentials.iter().filter(|(name, now)| credentials.get(*name) == Some(now));
    let same: Vec<&str> = same.map(|(name, _)| name.as_str()).collect();
    if !same.is_empty() {
        tracing::info!(
            credentials = same.join(", "),
            "these credentials are as they were at the start: systemd hands a changed file over \
             only at a start, so after changing one, restart"
        );
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Err(error) = log.reload(&loaded.config.log) {
        tracing::error!(%error, "nothing is changed");
        return metrics.reloaded(false, now);
    }
    reloader.apply(loaded.config);
    metrics.reloaded(true, now);
    tracing::info!("configuration reloaded");
}

/// SIGTERM or SIGINT.
struct Stop(Signal, Signal);

impl Stop {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

fn signals() -> std::io::Result<(Stop, Signal)> {
    let stop = Stop(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok((stop, signal(SignalKind::hangup())?))
}
