//! Admits a bounded number of what is costly, overall and for each client: so no client takes all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::problem::{Kind, Problem, Result};

/// Seconds after which some of what is inside will be over.
const RETRY_SECONDS: u32 = 5;

/// Counts who is inside.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    most: usize,
    most_of_one: usize,
    what: &'static str,
    advice: &'static str,
    counts: Mutex<BTreeMap<String, usize>>,
}

/// A place inside; dropping it leaves.
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
    client: String,
}

impl Gate {
    /// A gate for `most`, of which one client may be `most_of_one`. `what` there are too many of,
    /// in the plural; `advice` says what to do then.
    #[must_use]
    pub fn new(most: usize, most_of_one: usize, what: &'static str, advice: &'static str) -> Self {
        Self(Arc::new(Inside { most, most_of_one, what, advice, counts: Mutex::default() }))
    }

    /// Lets one in: 429 if this client has too many inside, 503 if all together have.
    pub fn enter(&self, client: &str) -> Result<Pass> {
        let Inside { most, most_of_one, what, advice, .. } = *self.0;
        let mut counts = self.counts();
        if counts.get(client).is_some_and(|count| *count >= most_of_one) {
            let detail = format!(
                "this client has {most_of_one} {what} under way, which is the most; {advice}"
            );
            return Err(Problem::new(Kind::TooManyRequests, detail).retry_after(RETRY_SECONDS));
        }
        if counts.values().sum::<usize>() >= most {
            return Err(Problem::overloaded(format!("too many {what} are under way; {advice}")));
        }
        *counts.entry(client.to_owned()).or_default() += 1;
        Ok(Pass { gate: self.clone(), client: client.to_owned() })
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_client_is_told_so_and_others_still_get_in() {
        let gate = Gate::new(3, 2, "long polls", "wait less");
        let first = gate.enter("a").unwrap();
        let _second = gate.enter("a").unwrap();
        assert_eq!(gate.enter("a").unwrap_err().kind, Kind::TooManyRequests);
        let _other = gate.enter("b").unwrap();
        assert_eq!(gate.enter("c").unwrap_err().kind, Kind::Overloaded);
        drop(first);
        assert!(gate.enter("a").is_ok());
    }
}
