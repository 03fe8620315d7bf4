//! Admits a bounded number of long polls, overall and for each client.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::problem::{Kind, Problem, Result};

/// Seconds after which some of a client's long polls will have ended.
const WAITERS_RETRY_SECONDS: u32 = 5;

/// Counts who waits.
#[derive(Debug)]
pub struct Gate {
    most: usize,
    most_of_one: usize,
    inside: Mutex<BTreeMap<String, usize>>,
}

/// A place inside; dropping it leaves.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    client: String,
}

impl Gate {
    /// A gate for `most` waiters, of which one client may be `most_of_one`.
    #[must_use]
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, inside: Mutex::default() }
    }

    /// Lets one in: 429 if this client has too many inside, 503 if all together have.
    pub fn enter(&self, client: &str) -> Result<Pass<'_>> {
        let mut inside = self.lock();
        if inside.get(client).is_some_and(|count| *count >= self.most_of_one) {
            let detail = format!(
                "this client has {} long polls open, which is the most; wait on \
                 GET /v1/outcomes, where one long poll covers every registration",
                self.most_of_one
            );
            return Err(
                Problem::new(Kind::TooManyRequests, detail).retry_after(WAITERS_RETRY_SECONDS)
            );
        }
        if inside.values().sum::<usize>() >= self.most {
            return Err(Problem::overloaded("too many long polls are open; ask without `wait`"));
        }
        *inside.entry(client.to_owned()).or_default() += 1;
        Ok(Pass { gate: self, client: client.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut inside = self.gate.lock();
        if let Some(count) = inside.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_client_is_told_so_and_others_still_get_in() {
        let gate = Gate::new(3, 2);
        let first = gate.enter("a").unwrap();
        let _second = gate.enter("a").unwrap();
        assert_eq!(gate.enter("a").unwrap_err().kind, Kind::TooManyRequests);
        let _other = gate.enter("b").unwrap();
        assert_eq!(gate.enter("c").unwrap_err().kind, Kind::Overloaded);
        drop(first);
        assert!(gate.enter("a").is_ok());
    }
}
