//! Hints between daemons: NOTIFY and LISTEN, on a connection of their own.
//!
//! Only ever a hint. It is sent after the commit, apart from it, so that no transaction waits for
//! Postgres' notification queue; it may be lost, and a database may not know NOTIFY at all. What
//! was missed is read again: here after every connect, by [`Fleet::beat`] for held lanes, and by
//! whoever scans.
//!
//! [`Fleet::beat`]: crate::store::fleet::Fleet::beat

use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};
use uuid::Uuid;

use super::connect::Target;
use super::session::{Sessions, explain, on_session};
use super::{lanes, outbox};
use crate::store::{DESTINATIONS_STEP, Destination, Hint, Result, walk};
use crate::task::{Kind, LaneName};

/// Hints kept for a listener that falls behind; one that misses some looks at the rows again.
const HINTS_MAX: usize = 4096;
/// Hints waiting to be sent to the other daemons; more are dropped.
const OUTGOING_MAX: usize = 4096;
/// Bytes of a notification: Postgres takes less than 8,000.
const PAYLOAD_MAX: usize = 7_900;
/// The longest wait for a notification to be sent, or for a connection.
const SEND_MAX: Duration = Duration::from_secs(5);
/// How often the connection is tried while nothing is sent, and how long an answer may take: one
/// that is open on this side only is noticed within seconds.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_MAX: Duration = Duration::from_secs(2);
/// Waits between two tries to connect: from the first, doubled up to the last.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// The channel's name.
const CHANNEL: &str = "outcomed";

/// A hint on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Wire {
    Watch { account: String, kind: Kind },
    Outcome { id: String },
    Due { client: String, origin: String },
    Asked,
    Moves,
}

impl From<&Hint> for Wire {
    fn from(hint: &Hint) -> Self {
        match hint {
            Hint::Watch(lane) => Self::Watch { account: lane.account.clone(), kind: lane.kind },
            Hint::Outcome { registration_id } => Self::Outcome { id: registration_id.clone() },
            Hint::Due(to) => Self::Due { client: to.client.clone(), origin: to.origin.clone() },
            Hint::Asked => Self::Asked,
        }
    }
}

/// One notification.
#[derive(Serialize, Deserialize)]
struct Note {
    /// Whose: its sender knows already.
    from: Uuid,
    hints: Vec<Wire>,
}

/// Where hints go, and where they come from.
#[derive(Clone)]
struct Here {
    hints: broadcast::Sender<Hint>,
    moves: watch::Sender<u64>,
}

impl Here {
    fn tell(&self, wire: Wire) {
        let hint = match wire {
            Wire::Watch { account, kind } => Hint::Watch(LaneName { account, kind }),
            Wire::Outcome { id } => Hint::Outcome { registration_id: id },
            Wire::Due { client, origin } => Hint::Due(Destination { client, origin }),
            Wire::Asked => Hint::Asked,
            Wire::Moves => return self.moves.send_modify(|count| *count += 1),
        };
        // Nobody listening is fine: the rows are the truth.
        let _ = self.hints.send(hint);
    }
}

/// The hints of one daemon.
pub(super) struct Hints {
    here: Here,
    outgoing: mpsc::Sender<Wire>,
    task: JoinHandle<()>,
}

impl Hints {
    /// Returns once this daemon listens, so that it misses nothing after its first look at the
    /// rows; or once that has failed.
    pub(super) async fn start(target: Target, sessions: Sessions) -> Self {
        let here = Here { hints: broadcast::channel(HINTS_MAX).0, moves: watch::channel(0).0 };
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let (listens, listening) = oneshot::channel();
        let first = Some(listens);
        let me = Uuid::now_v7();
        let wire = OnTheWire { here: here.clone(), target, sessions, me, queue, first };
        let task = tokio::spawn(wire.run());
        let _ = tokio::time::timeout(SEND_MAX, listening).await;
        Self { here, outgoing, task }
    }

    /// Makes known, here and elsewhere, what was committed.
    pub(super) fn tell(&self, hints: Vec<Hint>) {
        for hint in hints {
            self.send(Wire::from(&hint));
            self.tell_here(hint);
        }
    }

    /// Makes it known to this daemon only.
    pub(super) fn tell_here(&self, hint: Hint) {
        let _ = self.here.hints.send(hint);
    }

    /// Tells the other daemons that members or owners changed.
    pub(super) fn tell_moves(&self) {
        self.send(Wire::Moves);
    }

    fn send(&self, wire: Wire) {
        // A full queue means that notifications are late by seconds: reading is faster then.
        let _ = self.outgoing.try_send(wire);
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.here.hints.subscribe()
    }

    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.here.moves.subscribe()
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct OnTheWire {
    here: Here,
    target: Target,
    sessions: Sessions,
    me: Uuid,
    queue: mpsc::Receiver<Wire>,
    /// Told of the first try's end.
    first: Option<oneshot::Sender<()>>,
}

impl OnTheWire {
    async fn run(mut self) {
        let mut wait = AGAIN_MIN;
        loop {
            match self.connected(&mut wait).await {
                Ok(()) => return,
                Err(why) => tracing::debug!(why, "no hints from other daemons for now"),
            }
            self.first = None;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
            // What waited meanwhile is old by now.
            while self.queue.try_recv().is_ok() {}
        }
    }

    /// Passes hints on until the connection breaks, or nobody has any more to send.
    async fn connected(&mut self, wait: &mut Duration) -> std::result::Result<(), String> {
        let (client, mut driver) = in_time(SEND_MAX, self.listen()).await?;
        *wait = AGAIN_MIN;
        match self.first.take() {
            Some(first) => drop(first.send(())),
            None => self.read_again().await,
        }
        let send = in_time(SEND_MAX, client.prepare("SELECT pg_notify($1, $2)")).await?;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                _ = &mut driver.0 => return Err("the connection has ended".into()),
                count = self.queue.recv_many(&mut batch, OUTGOING_MAX) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(PROBE_EVERY) => {
                    in_time(PROBE_MAX, client.batch_execute("SELECT 1")).await?;
                }
            }
            for payload in payloads(self.me, batch) {
                let sending = async { client.execute(&send, &[&CHANNEL, &payload]).await };
                in_time(SEND_MAX, sending).await?;
            }
        }
    }

    /// A connection that listens, and the task that reads it.
    async fn listen(&self) -> std::result::Result<(Client, AbortOnDrop), tokio_postgres::Error> {
        let (client, mut connection) = self.target.config.connect(self.target.tls.clone()).await?;
        let (here, me) = (self.here.clone(), self.me);
        let driver = AbortOnDrop(tokio::spawn(async move {
            let mut messages = futures_util::stream::poll_fn(|cx| connection.poll_message(cx));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(note) = message {
                    receive(&here, me, note.payload());
                }
            }
        }));
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        Ok((client, driver))
    }

    /// What may have been missed: every lane with tasks, every destination with deliveries. Of more
    /// than a listener can take it misses some, and scans.
    async fn read_again(&self) {
        match self.look().await {
            Ok(hints) => {
                for hint in hints {
                    let _ = self.here.hints.send(hint);
                }
            }
            Err(error) => tracing::debug!(%error, "cannot read what may have been missed"),
        }
        self.here.tell(Wire::Moves);
    }

    async fn look(&self) -> Result<Vec<Hint>> {
        let lanes = on_session!(self.sessions, |db| lanes::lanes(&db))?;
        let due = walk(HINTS_MAX, |after| async move {
            let limit = DESTINATIONS_STEP;
            on_session!(self.sessions, |db| outbox::destinations(&db, None, &after, limit))
        })
        .await?;
        let due = due.into_iter().map(|(to, _)| Hint::Due(to));
        Ok(lanes.into_iter().map(Hint::Watch).chain(due).chain([Hint::Asked]).collect())
    }
}

async fn in_time<T>(
    max: Duration,
    asked: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
) -> std::result::Result<T, String> {
    match tokio::time::timeout(max, asked).await {
        Ok(answer) => answer.map_err(|error| explain(&error)),
        Err(_) => Err(format!("no answer in {} s", max.as_secs())),
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn receive(here: &Here, me: Uuid, payload: &str) {
    // Anybody may notify: what is not ours to read is not read.
    let Ok(note) = serde_json::from_str::<Note>(payload) else { return };
    if note.from != me {
        note.hints.into_iter().for_each(|wire| here.tell(wire));
    }
}

/// Hints as few notifications, each once.
fn payloads(from: Uuid, mut hints: Vec<Wire>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    hints.retain(|wire| serde_json::to_string(wire).is_ok_and(|text| seen.insert(text)));
    let mut payloads = Vec::new();
    let mut piles = vec![hints];
    while let Some(mut pile) = piles.pop() {
        let text = serde_json::to_string(&Note { from, hints: pile.clone() }).unwrap_or_default();
        if text.len() <= PAYLOAD_MAX {
            payloads.push(text);
        } else if pile.len() > 1 {
            let rest = pile.split_off(pile.len() / 2);
            piles.push(rest);
            piles.push(pile);
        }
    }
    payloads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_fill_notifications_that_postgres_takes_and_repeat_nothing() {
        let due = |n: usize| Wire::Due {
            client: "ats".into(),
            origin: format!("https://{n:0>200}.example:443"),
        };
        let hints: Vec<Wire> = (0..300).chain(0..300).map(due).collect();
        let payloads = payloads(Uuid::nil(), hints);
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        assert!(payloads.len() < 30, "{} notifications", payloads.len());
        let notes: Vec<Note> =
            payloads.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let told: Vec<Wire> = notes.into_iter().flat_map(|note| note.hints).collect();
        assert_eq!(told, (0..300).map(due).collect::<Vec<_>>());
    }

    #[test]
    fn a_daemon_ignores_its_own_notifications_and_those_of_strangers() {
        let here = Here { hints: broadcast::channel(9).0, moves: watch::channel(0).0 };
        let mut hints = here.hints.subscribe();
        let (me, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let outcome = |id: &str| vec![Wire::Outcome { id: id.into() }];
        receive(&here, me, &payloads(me, outcome("reg_1"))[0]);
        receive(&here, me, "hello");
        receive(&here, me, &payloads(other, outcome("reg_2"))[0]);
        let Hint::Outcome { registration_id } = hints.try_recv().unwrap() else { panic!() };
        assert_eq!(registration_id, "reg_2");
        assert!(hints.try_recv().is_err());
    }
}
