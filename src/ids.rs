//! Ids of registrations: `reg_` and a UUID v7, strictly increasing within this process.

use std::sync::{Mutex, PoisonError};

use uuid::Uuid;
use uuid::timestamp::Timestamp as UuidTime;
use uuid::timestamp::context::ContextV7;

use crate::clock::Timestamp;

/// Gives ids.
#[derive(Debug, Default)]
pub struct Ids(Mutex<ContextV7>);

impl Ids {
    /// The next id. Later ones sort after earlier ones even if the wall clock is stepped back.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> String {
        let context = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = u64::try_from(now.0.div_euclid(1000)).unwrap_or(0);
        let nanos = u32::try_from(now.0.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
        let time = UuidTime::from_unix(&*context, seconds, nanos);
        format!("reg_{}", Uuid::new_v7(time).simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_even_when_the_clock_does_not() {
        let ids = Ids::default();
        let times = [5_000, 5_000, 5_000, 4_000, 3_999, 9_000, 9_000];
        let given: Vec<String> = times.iter().map(|now| ids.next(Timestamp(*now))).collect();
        assert!(given.windows(2).all(|pair| pair[0] < pair[1]), "{given:?}");
        assert!(given.iter().all(|id| id.len() == 36 && id.starts_with("reg_")));
    }

    #[test]
    fn an_id_tells_its_time() {
        let id = Ids::default().next(Timestamp(1_763_805_600_123));
        let uuid: Uuid = id["reg_".len()..].parse().unwrap();
        let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
        assert_eq!((seconds, nanos / 1_000_000), (1_763_805_600, 123));
    }
}
