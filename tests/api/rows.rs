//! What the store in memory holds.

use std::collections::BTreeMap;

use outcomed::outcome::{Class, Observed, Outcome, Report};
use outcomed::store::rewatch::RUNNING_MAX;
use outcomed::store::{
    Attempt, Ending, NewRegistration, NewRewatch, Redelivery, RedeliveryState, Registered, Rewatch,
};
use outcomed::task::{Callback, DeliveryState, Registration, State, TaskRef};
use serde_json::value::RawValue;

#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) registrations: BTreeMap<String, Registration>,
    pub(crate) attempts: BTreeMap<String, Vec<Attempt>>,
    /// Registration ids in the order in which their outcomes were stored.
    pub(crate) order: Vec<String>,
    pub(crate) tasks: Vec<TaskRef>,
    pub(crate) pings: u32,
    /// Callbacks that were said to accept: client and URL.
    pub(crate) accepted: Vec<String>,
    pub(crate) redeliveries: BTreeMap<String, Redelivery>,
    pub(crate) rewatches: BTreeMap<String, Rewatch>,
}

fn unresolved(row: &Registration) -> bool {
    row.outcome.as_ref().is_some_and(|report| report.outcome == Class::Unresolved)
}

impl Rows {
    pub(crate) fn register(&mut self, new: NewRegistration) -> Registered {
        let same = self.registrations.values().find(|row| {
            row.client == new.client
                && row.task == new.task
                && row.callback.url == new.callback_url
                && row.state != State::Cancelled
                && !unresolved(row)
        });
        if let Some(existing) = same {
            return Registered::Existing(existing.clone());
        }
        let known =
            self.registrations.values().find(|row| row.task == new.task && !unresolved(row));
        let known = known.and_then(|row| row.outcome.clone());
        let registration = Registration {
            id: new.id.clone(),
            client: new.client,
            task: new.task.clone(),
            callback: Callback { url: new.callback_url },
            metadata: RawValue::from_string(new.metadata).unwrap(),
            state: if known.is_some() { State::Delivering } else { State::Watching },
            created_at: new.created_at,
            give_up_at: new.give_up_at,
            delivery: DeliveryState {
                next_attempt_at: known.as_ref().map(|_| new.created_at),
                ..DeliveryState::default()
            },
            watch: known.is_none().then(outcomed::watching::Watching::default),
            outcome: known,
        };
        if registration.outcome.is_some() {
            self.order.push(new.id.clone());
        } else if !self.tasks.contains(&new.task) {
            self.tasks.push(new.task);
        }
        self.registrations.insert(new.id, registration.clone());
        Registered::New(registration)
    }

    pub(crate) fn begin_rewatch(&mut self, new: NewRewatch) -> Option<Rewatch> {
        let mine = self.rewatches.values().filter(|it| it.owner == new.owner);
        if mine.count() >= RUNNING_MAX as usize {
            return None;
        }
        let fits = |row: &&Registration| {
            unresolved(row) && new.filter.client.as_ref().is_none_or(|it| *it == row.client)
        };
        let begun = Rewatch {
            matched: self.registrations.values().filter(fits).count() as u64,
            id: new.id.clone(),
            owner: new.owner,
            filter: new.filter,
            state: RedeliveryState::Running,
            created_at: new.created_at,
            finished_at: None,
            done: 0,
        };
        self.rewatches.insert(new.id, begun.clone());
        Some(begun)
    }

    pub(crate) fn settle(
        &mut self,
        task: &TaskRef,
        ending: &Ending,
        outcome: &Outcome,
    ) -> Vec<String> {
        let mut told = Vec::new();
        for row in self.registrations.values_mut() {
            if row.task != *task || row.state != State::Watching {
                continue;
            }
            let observed = Observed {
                registered_at: row.created_at,
                last_pending_at: ending.progress.last_pending_at,
                settled_at: ending.at,
                polls: ending.progress.polls,
                log_id: ending.log_id.clone(),
            };
            row.outcome = Some(Report::new(task.clone(), outcome.clone(), observed));
            row.state = State::Delivering;
            row.delivery.next_attempt_at = Some(ending.at);
            self.order.push(row.id.clone());
            told.push(row.id.clone());
        }
        told
    }
}
