//! What the store in memory holds.

use std::collections::BTreeMap;

use outcomed::outcome::{Observed, Outcome, Report};
use outcomed::store::{Attempt, Ending, NewRegistration, Redelivery, Registered};
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
    pub(crate) redeliveries: BTreeMap<String, Redelivery>,
}

impl Rows {
    pub(crate) fn register(&mut self, new: NewRegistration) -> Registered {
        let same = self.registrations.values().find(|row| {
            row.client == new.client
                && row.task == new.task
                && row.callback.url == new.callback_url
                && row.state != State::Cancelled
        });
        if let Some(existing) = same {
            return Registered::Existing(existing.clone());
        }
        let known = self.registrations.values().find(|row| row.task == new.task);
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
