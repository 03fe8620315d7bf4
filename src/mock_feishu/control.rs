//! The control surface: what tests and the demo do to the stand-in while it runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::auth::OWN_TENANT;
use super::event::Event;
use super::fault::{Fault, Standing};
use super::journal::{Api, Journal};
use super::options::App;
use super::tasks::{Ending, Life, Task};
use super::upstream::Upstream;
use crate::clock::{Clock, Steady};

/// What the sockets and the controls share.
pub(super) struct Shared {
    upstream: Mutex<Upstream>,
    clock: Arc<dyn Clock>,
    changes: watch::Sender<u64>,
    pushes: mpsc::UnboundedSender<(App, Event)>,
    pub(super) latency: Duration,
}

impl Shared {
    pub(super) fn new(
        upstream: Upstream,
        clock: Arc<dyn Clock>,
        pushes: mpsc::UnboundedSender<(App, Event)>,
    ) -> Self {
        let latency = upstream.options.latency;
        let changes = watch::Sender::new(0);
        Self { upstream: Mutex::new(upstream), clock, changes, pushes, latency }
    }

    /// Changes the state, and wakes whoever waits for a change.
    pub(super) fn change<T>(&self, act: impl FnOnce(&mut Upstream, Steady) -> T) -> T {
        let result = act(&mut self.lock(), self.clock.steady());
        self.changes.send_modify(|changes| *changes += 1);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Upstream> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the tickets that somebody asked for to the pusher.
    pub(super) fn push_due_tickets(&self) {
        let mut upstream = self.lock();
        for app_id in std::mem::take(&mut upstream.auth.due_tickets) {
            let ticket = upstream.auth.new_ticket(&app_id);
            let app = upstream.auth.app(&app_id).map(|state| state.app.clone());
            if let (Some(ticket), Some(app)) = (ticket, app) {
                let _ = self.pushes.send((app, Event::Ticket { app_id, ticket }));
            }
        }
    }
}

/// Steers a running stand-in. Cheap to clone.
#[derive(Clone)]
pub struct Control(pub(super) Arc<Shared>);

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

impl Control {
    /// Creates a task that every app may see; returns its id.
    pub fn create_task(&self, website_id: &str, life: Life) -> String {
        self.0.change(|upstream, now| upstream.create(now, (None, website_id), None, life))
    }

    /// Creates a task whose life is drawn as the create call draws it.
    pub fn draw_task(&self, website_id: &str) -> String {
        self.0.change(|upstream, now| {
            let life = upstream.draw_life();
            upstream.create(now, (None, website_id), None, life)
        })
    }

    /// Creates a task under an id of the caller's choice.
    pub fn create_task_named(&self, website_id: &str, task_id: &str, life: Life) {
        self.0.change(|upstream, now| {
            upstream.create(now, (Some(task_id.into()), website_id), None, life)
        });
    }

    /// The next task that the create call makes has this life; several queue up.
    pub fn script_next_task(&self, life: Life) {
        self.0.change(|upstream, _| upstream.scripted_lives.push_back(life));
    }

    /// Ends a task now; false if there is no such task.
    pub fn settle(&self, task_id: &str, ending: Ending) -> bool {
        self.0.change(|upstream, now| {
            upstream.tasks.get_mut(task_id).is_some_and(|task| {
                task.life.settles_after = Some(now.since(task.created));
                task.life.ending = ending;
                true
            })
        })
    }

    /// Deletes a task, as Feishu does with those that time out; false if there is none.
    pub fn delete_task(&self, task_id: &str) -> bool {
        self.0.change(|upstream, _| upstream.tasks.remove(task_id).is_some())
    }

    /// What is known of a task.
    #[must_use]
    pub fn task(&self, task_id: &str) -> Option<Task> {
        self.0.lock().tasks.get(task_id).cloned()
    }

    /// How many tasks there are, deleted ones aside.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.0.lock().tasks.len()
    }

    /// Withdraws every token of an app; logging in again gives a new one.
    pub fn kill_tokens(&self, app_id: &str) {
        self.0.change(|upstream, _| {
            if let Some(state) = upstream.auth.app_mut(app_id) {
                state.kill_tokens();
            }
        });
    }

    /// Refuses every token of an app while logging in keeps returning the same one, which real
    /// Feishu can do for as long as 30 minutes of its life are left.
    pub fn refuse_tokens(&self, app_id: &str, refuse: bool) {
        self.0.change(|upstream, _| {
            if let Some(state) = upstream.auth.app_mut(app_id) {
                state.stubborn = refuse;
            }
        });
    }

    /// Suspends an app's hire API, or lifts it; false if there is no such app.
    pub fn set_standing(&self, app_id: &str, standing: Standing) -> bool {
        self.0.change(|upstream, _| upstream.set_standing(app_id, standing))
    }

    /// The next `times` calls of `api` that pass the token check meet this fault, and cost no
    /// quota unless it is a slow body. For [`Api::Auth`] every call counts.
    pub fn inject(&self, api: Api, times: usize, fault: &Fault) {
        self.0.change(|upstream, _| {
            let queue = upstream.faults.entry(api).or_default();
            queue.extend(std::iter::repeat_n(fault.clone(), times));
        });
    }

    /// A stranger with a self-built app's credentials makes `calls` calls now; returns how many
    /// got through.
    pub fn stranger(&self, app_id: &str, api: Api, calls: usize) -> usize {
        self.0.change(|upstream, now| {
            let caller = (app_id.into(), OWN_TENANT.into());
            let mut call = || upstream.spend(now, api, &caller);
            (0..calls).filter(|_| call()).count()
        })
    }

    /// Pushes a fresh ticket to a store app's event URL.
    pub fn push_ticket(&self, app_id: &str) {
        self.0.change(|upstream, _| upstream.auth.due_tickets.push(app_id.into()));
        self.0.push_due_tickets();
    }

    /// Asks a store app's event URL to prove itself.
    pub fn push_url_check(&self, app_id: &str, challenge: &str) {
        let upstream = self.0.lock();
        if let Some(state) = upstream.auth.app(app_id) {
            let event = Event::UrlCheck { challenge: challenge.into() };
            let _ = self.0.pushes.send((state.app.clone(), event));
        }
    }

    /// Reads the journal.
    pub fn journal<T>(&self, read: impl FnOnce(&Journal) -> T) -> T {
        read(&self.0.lock().journal)
    }

    /// Waits until the journal satisfies `enough`. Give it a deadline of your own.
    pub async fn until(&self, enough: impl Fn(&Journal) -> bool) {
        let mut changes = self.0.changes.subscribe();
        while !self.journal(&enough) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Now, on the scale of the journal's times.
    #[must_use]
    pub fn now(&self) -> Steady {
        self.0.clock.steady()
    }
}
