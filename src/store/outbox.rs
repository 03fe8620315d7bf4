//! What delivery asks of the store: what is due, and what became of each attempt.

use std::fmt;

use async_trait::async_trait;

use super::{Attempt, RedeliveryStep, Result};
use crate::clock::Timestamp;

/// What delivery asks of the store.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// One bounded step of a walk over every destination with unfinished deliveries, by origin and
    /// client, and when its earliest is due: looks at no more than `limit` after that place. One
    /// whose deliveries are on several lanes may come on two pages.
    async fn destinations(&self, after: &DestinationPlace, limit: u32) -> Result<DestinationPage>;

    /// A destination's deliveries due at `now`, the longest due first, at most `limit`.
    async fn due(&self, to: &Destination, now: Timestamp, limit: u32) -> Result<Vec<Delivery>>;

    /// The due deliveries that [a person asked for](super::Registry::redeliver) and that have not
    /// been attempted since, the longest due first, at most `limit` of each client.
    async fn asked(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>>;

    /// Moves the due time of deliveries whose attempts are under way to when those are over, so
    /// that nobody else attempts them before. Their attempts are recorded as ever; a row that
    /// changed stays as it is.
    async fn reschedule(&self, under_way: &[Delivery], at: Timestamp) -> Result<()>;

    /// Writes down an attempt and what follows from it. `false`: the registration was cancelled,
    /// or sent again, meanwhile; the attempt is kept in the log and changes nothing else.
    async fn record_attempt(
        &self,
        delivery: &Delivery,
        attempt: Attempt,
        next: Next,
    ) -> Result<bool>;

    /// Puts a delivery off because no attempt could be made (nothing to sign it with): none is
    /// counted or logged, `error` becomes its last error. A row that changed meanwhile stays.
    async fn postpone(&self, delivery: &Delivery, until: Timestamp, error: &str) -> Result<()>;

    /// One bounded step: while this callback URL [is gone](Next::Gone), ends at most `limit` of the
    /// client's deliveries that wait for it, as undeliverable ([`CALLBACK_GONE`]). Returns how many
    /// it ended.
    async fn end_gone(
        &self,
        client: &str,
        callback_url: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<u32>;

    /// A callback URL that was gone has accepted something (a ping): outcomes are told there again.
    async fn callback_accepts(&self, client: &str, callback_url: &str) -> Result<()>;

    /// One step of the running bulk redelivery that has waited longest for one, those of the owners
    /// that are passed by left out: looks at its next registrations, at most
    /// [`super::STEP_LOOKED_AT_MAX`], in the order in which they ended, makes the first `limit` that
    /// fit due as [`super::Registry::redeliver`] does, and remembers its place, in one commit. So each
    /// is made due once, whatever crashes. `None`: none is running.
    async fn step_redelivery(
        &self,
        passed_by: &[String],
        limit: u32,
        now: Timestamp,
    ) -> Result<Option<RedeliveryStep>>;
}

/// Where deliveries go: one client's callbacks at one origin. What one destination does holds up
/// no other.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The client.
    pub client: String,
    /// `scheme://host:port`
    pub origin: String,
}

impl Destination {
    /// That client's at that origin.
    #[must_use]
    pub fn new(client: impl Into<String>, origin: impl Into<String>) -> Self {
        Self { client: client.into(), origin: origin.into() }
    }
}

/// Destinations in one step of a walk: some milliseconds.
pub const DESTINATIONS_STEP: u32 = 1_000;

/// A place in the order of a walk over destinations; by default before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationPlace {
    pub(crate) to: Destination,
    pub(crate) lane: i64,
}

impl Default for DestinationPlace {
    fn default() -> Self {
        Self { to: Destination::default(), lane: i64::MIN }
    }
}

impl DestinationPlace {
    /// After everything of this destination.
    #[must_use]
    pub fn after(to: &Destination) -> Self {
        Self { to: to.clone(), lane: i64::MAX }
    }
}

/// A page of a walk over destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationPage {
    /// Those found, by origin and client, and when the earliest of each is due.
    pub found: Vec<(Destination, Timestamp)>,
    /// Where the next step goes on; `None`: there are no more.
    pub next: Option<DestinationPlace>,
}

/// Walks over destinations step by step until at least `most` are found or there are no more.
pub async fn walk<F: Future<Output = Result<DestinationPage>>>(
    most: usize,
    step: impl Fn(DestinationPlace) -> F,
) -> Result<Vec<(Destination, Timestamp)>> {
    let (mut all, mut next) = (Vec::new(), Some(DestinationPlace::default()));
    while let Some(after) = next.filter(|_| all.len() < most) {
        let page = step(after).await?;
        for found in page.found {
            add(&mut all, found);
        }
        next = page.next;
    }
    Ok(all)
}

/// Adds what was found to what comes before it in the order of a walk.
pub(super) fn add(all: &mut Vec<(Destination, Timestamp)>, (to, at): (Destination, Timestamp)) {
    match all.last_mut() {
        Some((last, earliest)) if *last == to => *earliest = at.min(*earliest),
        _ => all.push((to, at)),
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of client {}", self.origin, self.client)
    }
}

/// A due delivery: everything one attempt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The registration to tell.
    pub registration_id: String,
    /// Whose secrets sign it.
    pub client: String,
    /// Where to.
    pub callback_url: String,
    /// Its `scheme://host:port`.
    pub callback_origin: String,
    /// The row of the task's lane.
    pub lane: i64,
    /// The body, fixed when the outcome was stored.
    pub body: Vec<u8>,
    /// Attempts so far, over all redeliveries.
    pub attempts: u32,
    /// Attempts since the delivery, or the last redelivery, began: the place in the schedule.
    pub round: u32,
    /// When the first of those began, or the earliest by a clock that was set back since: time that
    /// has not passed yet must not count as none for as long as the clock was ahead.
    pub first_attempt_at: Option<Timestamp>,
    /// How often a person has asked for it since it was last attempted. Whoever asks while an
    /// attempt is under way is not answered by that one.
    pub asked: u32,
    /// When it was due.
    pub due_at: Timestamp,
}

impl Delivery {
    /// Where it goes.
    #[must_use]
    pub fn destination(&self) -> Destination {
        Destination::new(&self.client, &self.callback_origin)
    }
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It arrived.
    Delivered,
    /// Try again then.
    RetryAt(Timestamp),
    /// Nothing more to try.
    Undeliverable,
    /// Nothing more to try, and the client's callback URL is gone (410), since the attempt's end:
    /// outcomes of its other registrations are stored as undeliverable ([`CALLBACK_GONE`]), until
    /// the client registers it anew, has something sent again there, or it accepts something.
    Gone,
}

/// The last error of a delivery that ended, unsent, because its callback URL is gone.
pub const CALLBACK_GONE: &str = "callback_gone";
