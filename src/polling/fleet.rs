//! This daemon among the others: beats, claims the lanes that are to be its own, and runs a worker
//! on each for as long as it holds it.
//!
//! ```text
//!   fleet ◀──beat, claim, release── shell ◀──what to do── Tenure (pure)
//!                                     │ ▲
//!                   seat: until, stop │ │ ended
//!                                     ▼ │
//!                                   workers
//! ```

mod effects;
pub(super) mod proof;
pub(super) mod seat;
mod tenure;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::effects::Event;
use self::seat::{NEVER, Seat, Term};
use self::tenure::{FOR_EVER, Step, Tenure};
use super::Context;
use super::board::Standing;
use super::worker::Worker;
use crate::clock::{Reading, Steady};
use crate::store::Hint;
use crate::store::fleet::Claimed;
use crate::task::LaneName;

/// How long giving everything up may take once the workers have ended; what is not given up by
/// then expires.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// How often wall and steady clock are compared: what a suspend, a pause or a clock that was set may
/// hold up what was due, besides a heartbeat.
const COMPARE_EVERY: Duration = Duration::from_millis(500);
/// What was slept beyond a wait that counts as a suspend, which tokio's timers do not count.
const SLEPT_MIN: Duration = Duration::from_secs(1);

/// Runs every lane that is to be this daemon's until shutdown, and returns once each has written
/// down what it must not forget and is given up.
pub(super) async fn run(context: Context) {
    let now = context.clock.steady();
    let mut shell = Shell {
        tenure: Tenure::new(context.member.id, now),
        workers: JoinSet::new(),
        seats: BTreeMap::new(),
        effects: FuturesUnordered::new(),
        compared_at: now,
        context,
    };
    shell.work().await;
    shell.leave().await;
}

/// What the shell keeps of a worker.
struct Desk {
    /// The lane's row.
    lane: i64,
    changed: Arc<Notify>,
    stop: CancellationToken,
    until: watch::Sender<Steady>,
}

struct Shell {
    context: Context,
    tenure: Tenure,
    workers: JoinSet<LaneName>,
    seats: BTreeMap<LaneName, Desk>,
    effects: FuturesUnordered<BoxFuture<'static, Event>>,
    compared_at: Steady,
}

impl Shell {
    /// In this order: what happened, then what to do about it, then wait.
    async fn work(&mut self) {
        let mut hints = self.context.store.hints();
        let mut moves = self.context.fleet.moves();
        let shutdown = self.context.shutdown.clone();
        while !shutdown.is_cancelled() {
            self.compare_clocks();
            let until = self.take_steps();
            self.show();
            let wait = until.since(self.context.clock.steady()).min(COMPARE_EVERY);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                Some(event) = self.effects.next() => self.happened(event),
                Some(Ok(lane)) = self.workers.join_next() => self.ended(&lane),
                Ok(()) = moves.changed() => self.tenure.moved(),
                hint = hints.recv() => match hint {
                    Ok(Hint::Watch(lane)) => self.changed(lane),
                    Ok(Hint::Outcome { .. } | Hint::Due(_) | Hint::Asked) => {}
                    Err(RecvError::Lagged(_)) => self.missed(),
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Lets the workers end, gives every lane up, and goes.
    async fn leave(&mut self) {
        self.tenure.stop();
        loop {
            let until = self.take_steps();
            if self.workers.is_empty() {
                break;
            }
            let wait = until.since(self.context.clock.steady());
            tokio::select! {
                biased;
                Some(event) = self.effects.next() => self.happened(event),
                Some(Ok(lane)) = self.workers.join_next() => self.ended(&lane),
                () = tokio::time::sleep(wait) => {}
            }
        }
        let farewell = async {
            while !self.tenure.is_over() {
                self.take_steps();
                match self.effects.next().await {
                    Some(event) => self.happened(event),
                    None => break,
                }
            }
            self.effects.clear();
            self.context.fleet.leave(&self.context.member).await
        };
        match tokio::time::timeout(FAREWELL_MAX, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "could not leave: the others wait a moment"),
            Err(_) => tracing::warn!("could not leave in time: the others wait a moment"),
        }
    }

    /// Performs steps until there is none, and says until when.
    fn take_steps(&mut self) -> Steady {
        let context = &self.context;
        let fleet = || Arc::clone(&context.fleet);
        loop {
            let reading = context.clock.read();
            let now = reading.steady;
            match self.tenure.next(now) {
                Step::Beat => {
                    let held = self.tenure.held();
                    let member = context.member.clone();
                    let lapsed = now >= self.tenure.until();
                    self.effects.push(effects::beat(fleet(), member, held, lapsed, reading));
                }
                Step::Claim(lane) => {
                    let member = context.member.clone();
                    self.effects.push(effects::claim(fleet(), member, lane, now));
                }
                Step::Release(lane, lease) => {
                    self.effects.push(effects::release(
                        fleet(),
                        Arc::clone(&context.follower),
                        lane,
                        lease,
                    ));
                }
                Step::Stop(lane) => {
                    if let Some(desk) = self.seats.get(&lane) {
                        desk.stop.cancel();
                    }
                }
                Step::Abandon(lane) => {
                    if let Some(desk) = self.seats.get(&lane) {
                        tracing::warn!(%lane, "the lane belongs to another daemon now");
                        tokio::spawn(context.follower.given_up(desk.lane));
                        desk.until.send_replace(NEVER);
                        desk.stop.cancel();
                    }
                }
                Step::Wait { until } => return until,
            }
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Beaten { asked, heard: Ok((roster, busy)) } => {
                let proved = self.tenure.beaten(asked.steady, roster, busy);
                self.renew();
                self.prove(proved.then_some(asked));
            }
            Event::Beaten { heard: Err(error), .. } => {
                tracing::warn!(%error, "the store does not hear this daemon; trying again");
                self.tenure.not_beaten(self.context.clock.steady());
            }
            Event::Claimed { lane, asked, got: Ok(Some(claimed)) } => {
                if claimed.took_over {
                    self.context.metrics.fleet.took_over();
                    tracing::info!(%lane, "took over the lane of a daemon that is gone");
                }
                let lease = claimed.lane.lease;
                if self.tenure.claimed(&lane, lease, asked, claimed.lasts) {
                    self.employ(lane, claimed);
                }
            }
            Event::Claimed { lane, got, .. } => {
                if let Err(error) = got {
                    tracing::warn!(%lane, %error, "cannot claim the lane; trying again");
                }
                self.tenure.not_claimed(&lane);
            }
            Event::Released { lane, done: Ok(()) } => self.tenure.released(&lane),
            Event::Released { lane, done: Err(error) } => {
                tracing::warn!(%lane, %error, "cannot give the lane up; trying again");
                self.tenure.not_released(&lane);
            }
        }
    }

    /// Starts a worker on a lane.
    fn employ(&mut self, lane: LaneName, claimed: Claimed) {
        let changed = Arc::new(Notify::new());
        let stop = self.context.shutdown.child_token();
        let until = watch::Sender::new(self.tenure.until());
        let row = claimed.lane.lease.lane;
        self.context.follower.claimed(row);
        let term = Term { until: until.subscribe(), board: Arc::clone(&self.context.board) };
        let seat = Seat { claimed, stop: stop.clone(), term };
        let desk = Desk { lane: row, changed: Arc::clone(&changed), stop, until };
        self.seats.insert(lane.clone(), desk);
        let context = self.context.clone();
        self.workers.spawn(async move {
            let work = Worker::run(context, lane.clone(), seat, changed);
            // A bug in one lane is that lane's: it is claimed anew.
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                tracing::error!(%lane, "the lane's worker has died; starting another");
            }
            lane
        });
    }

    fn ended(&mut self, lane: &LaneName) {
        self.seats.remove(lane);
        self.tenure.ended(lane);
    }

    /// Clocks that have parted prove nothing any more; after a suspend every lane looks at the time.
    fn compare_clocks(&mut self) {
        let now = self.context.clock.read();
        let proof = &self.context.board.proof;
        if now.steady < self.tenure.until() && !proof.stands(now) && self.tenure.doubt(now.steady) {
            tracing::warn!(
                "wall and steady clock have parted (a pause, or the wall clock was set): \
                            asking the store before anything is done with a lease"
            );
        }
        let slept = now.steady.since(std::mem::replace(&mut self.compared_at, now.steady));
        if slept > COMPARE_EVERY + SLEPT_MIN {
            self.missed();
        }
    }

    /// A heartbeat was answered. Lanes that are lost are told so first: their workers run beside us.
    fn prove(&self, asked: Option<Reading>) {
        for (_, desk) in self.seats.iter().filter(|(lane, _)| !self.tenure.holds(lane)) {
            desk.until.send_replace(NEVER);
        }
        match asked {
            _ if self.tenure.until() == FOR_EVER => self.context.board.proof.waive(),
            Some(asked) => self.context.board.proof.renew(asked),
            None => {}
        }
    }

    /// Every lease that is not lost lasts longer now. Those that are must not, even for the moment
    /// until their workers are told: a worker runs beside us.
    fn renew(&self) {
        let until = self.tenure.until();
        for (_, desk) in self.seats.iter().filter(|(lane, _)| self.tenure.holds(lane)) {
            desk.until.send_if_modified(|seen| {
                let longer = *seen != NEVER && *seen != until;
                if longer {
                    *seen = until;
                }
                longer
            });
        }
    }

    fn changed(&mut self, lane: LaneName) {
        match self.seats.get(&lane) {
            Some(desk) => desk.changed.notify_one(),
            None => self.tenure.busy(lane),
        }
    }

    fn missed(&mut self) {
        self.seats.values().for_each(|desk| desk.changed.notify_one());
        self.tenure.moved();
    }

    fn show(&self) {
        let (members, until) = (self.tenure.members(), self.tenure.until());
        self.context.metrics.fleet.show(members.len(), self.seats.len());
        self.context.board.stand(|standing: &mut Standing| {
            if standing.members != members {
                standing.members = members.to_vec();
            }
            (standing.held, standing.until) = (self.seats.len(), until);
        });
    }
}
