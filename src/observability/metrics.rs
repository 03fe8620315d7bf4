//! What is counted. One method for each thing that happens, so that the names live here only.

use std::time::Duration;

use crate::outcome::Outcome;
use crate::task::LaneName;

/// The daemon's counters, a value: several daemons in one test process do not share them.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// One poll ended: `result` is `pending`, `settled`, `not_found`, `quota`, `token`, `account`,
    /// or a transient class.
    pub fn poll(&self, _lane: &LaneName, _result: &'static str, _took: Duration) {}

    /// A task's outcome is stored, `delay_max` after it was last seen pending.
    pub fn settled(&self, _lane: &LaneName, _outcome: &Outcome, _delay_max: Duration) {}

    /// One token call ended: `ok`, `refused` or `failed`.
    pub fn token_call(&self, _account: &str, _result: &'static str) {}

    /// One delivery attempt ended with `verdict`.
    pub fn attempt(&self, _verdict: &'static str, _status: Option<u16>, _took: Duration) {}

    /// A callback accepted an outcome, `delay` after it was stored.
    pub fn delivered(&self, _delay: Duration) {}

    /// A registration request was answered: `new`, `existing` or `refused`.
    pub fn registered(&self, _result: &'static str) {}

    /// One API request was answered.
    pub fn request(&self, _route: &str, _method: &str, _status: u16, _took: Duration) {}

    /// One commit of the store's writer.
    pub fn commit(&self, _writes: usize, _took: Duration) {}

    /// Everything, in the `OpenMetrics` text format.
    #[must_use]
    pub fn render(&self) -> String {
        String::new()
    }
}
