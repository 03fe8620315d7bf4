use std::collections::{BTreeMap, BTreeSet};

use super::super::*;

pub(super) const SECOND: i64 = 1_000;

#[derive(Clone)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) path: &'static str,
    pub(super) due_at: i64,
    pub(super) asked: bool,
}

pub(super) fn to(origin: &str) -> Destination {
    Destination::new("ats", origin)
}

/// A store of due rows and receivers that answer after a while, in virtual time.
pub(super) struct World {
    pub(super) dispatch: Dispatch,
    pub(super) now: i64,
    pub(super) rows: BTreeMap<Destination, Vec<Row>>,
    /// (ends at, where, id)
    pub(super) under_way: Vec<(i64, Destination, String)>,
    /// origin → (how long an attempt takes, what it says)
    pub(super) receivers: BTreeMap<String, (i64, Pulse)>,
    /// These clients' callbacks fail, wherever.
    pub(super) failing: BTreeSet<&'static str>,
    /// (at, origin, id), in order
    pub(super) attempts: Vec<(i64, String, String)>,
    pub(super) finished: Vec<(i64, String, String)>,
    pub(super) scans: usize,
    pub(super) fetched_rows_max: usize,
    pub(super) store_is_up: bool,
}

impl World {
    pub(super) fn new() -> Self {
        let cool_down = CoolDown::within(&[Duration::from_secs(5); 100]);
        Self {
            dispatch: Dispatch::new(Limits { per_origin: 16, cool_down }),
            now: 1_000_000,
            rows: BTreeMap::new(),
            under_way: Vec::new(),
            failing: BTreeSet::new(),
            receivers: BTreeMap::new(),
            attempts: Vec::new(),
            finished: Vec::new(),
            scans: 0,
            fetched_rows_max: 0,
            store_is_up: true,
        }
    }

    pub(super) fn now(&self) -> Now {
        // The two scales differ, so that mixing them up shows.
        Now { wall: Timestamp(self.now), steady: Steady(self.now - 777_777) }
    }

    pub(super) fn receiver(&mut self, origin: &str, takes: i64, pulse: Pulse) {
        self.receivers.insert(origin.to_owned(), (takes, pulse));
    }

    pub(super) fn add(&mut self, origin: &str, client: &'static str, count: usize, due_at: i64) {
        self.add_at(origin, client, "/", count, due_at);
    }

    pub(super) fn add_at(
        &mut self,
        origin: &str,
        client: &'static str,
        path: &'static str,
        count: usize,
        due_at: i64,
    ) {
        let rows = self.rows.entry(Destination::new(client, origin)).or_default();
        for _ in 0..count {
            let id = format!("reg_{client}_{}", rows.len());
            rows.push(Row { id, path, due_at, asked: false });
        }
        rows.sort_by_key(|row| row.due_at);
    }

    pub(super) fn hint(&mut self, origin: &str) {
        let now = self.now();
        self.dispatch.due(&to(origin), now);
    }

    /// A person has the first row there sent again.
    pub(super) fn ask(&mut self, to: &Destination) {
        let now = self.now;
        let row = &mut self.rows.get_mut(to).unwrap()[0];
        (row.asked, row.due_at) = (true, now);
        self.dispatch.asked();
    }

    pub(super) fn delivery(to: &Destination, row: &Row) -> Delivery {
        Delivery {
            registration_id: row.id.clone(),
            client: to.client.clone(),
            callback_url: format!("{}{}", to.origin, row.path),
            callback_origin: to.origin.clone(),
            lane: 1,
            body: Vec::new(),
            attempts: 0,
            round: 0,
            first_attempt_at: None,
            asked: 0,
            due_at: Timestamp(row.due_at),
        }
    }

    pub(super) fn due(&self, to: &Destination, limit: u32) -> Vec<Delivery> {
        let rows = self.rows.get(to).into_iter().flatten();
        let due = rows.filter(|row| row.due_at <= self.now).take(limit as usize);
        due.map(|row| Self::delivery(to, row)).collect()
    }

    pub(super) fn asked(&self, limit: u32) -> Vec<Delivery> {
        let of = |(to, rows): (&Destination, &Vec<Row>)| {
            let rows = rows.iter().filter(|row| row.asked && row.due_at <= self.now);
            rows.take(limit as usize).map(|row| Self::delivery(to, row)).collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(of).collect()
    }

    /// Runs to `until`, performing every step.
    pub(super) fn run(&mut self, until: i64) {
        loop {
            let wait = self.steps();
            let ends = self.under_way.iter().map(|(at, _, _)| *at).min();
            let wakes = wait.map(|until| until.0 + 777_777);
            let next = [ends, wakes].into_iter().flatten().min().unwrap_or(i64::MAX);
            if next > until {
                self.now = until;
                return;
            }
            assert!(next >= self.now, "time goes forward");
            self.now = next;
            self.end_attempts();
        }
    }

    pub(super) fn steps(&mut self) -> Option<Steady> {
        for _ in 0..100_000 {
            let now = self.now();
            match self.dispatch.next(now) {
                Step::Wait { until } => return until,
                Step::Scan { after } if self.store_is_up => {
                    self.scans += usize::from(after == DestinationPlace::default());
                    let page = self.destinations(&after);
                    self.dispatch.scanned(page, now);
                }
                Step::Scan { .. } => self.dispatch.scan_failed(now),
                Step::Fetch { to, limit } if self.store_is_up => {
                    let rows = self.due(&to, limit);
                    self.fetched_rows_max = self.fetched_rows_max.max(rows.len());
                    self.dispatch.fetched(&to, rows, limit, now);
                }
                Step::Fetch { to, .. } => self.dispatch.fetch_failed(&to, now),
                Step::FetchAsked { limit } => self.dispatch.fetched_asked(self.asked(limit)),
                Step::Attempt { to, delivery } => {
                    let takes = self.receivers[&to.origin].0;
                    let id = delivery.registration_id;
                    let twice = self.under_way.iter().any(|(_, o, i)| *o == to && *i == id);
                    assert!(!twice, "{id} is attempted twice at once");
                    self.attempts.push((self.now, to.origin.clone(), id.clone()));
                    self.under_way.push((self.now + takes, to, id));
                }
            }
        }
        panic!("it never waits");
    }

    /// Pages of three, in the order of this world's map.
    fn destinations(&self, after: &DestinationPlace) -> DestinationPage {
        let earliest = |rows: &Vec<Row>| rows.iter().map(|row| Timestamp(row.due_at)).min();
        let rest = self.rows.iter().filter(|(to, _)| **to > after.to);
        let mut found: Vec<_> =
            rest.filter_map(|(to, rows)| Some((to.clone(), earliest(rows)?))).collect();
        let more = found.len() > 3;
        found.truncate(3);
        let next = found.last().filter(|_| more).map(|(to, _)| DestinationPlace::after(to));
        DestinationPage { found, next }
    }

    /// A success finishes a row; a failure makes it due again in five seconds.
    pub(super) fn end_attempts(&mut self) {
        let (over, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, _, _)| *at <= self.now);
        self.under_way = rest;
        for (_, to, id) in over {
            let ill = self.failing.contains(to.client.as_str())
                || self.rows[&to].iter().any(|row| row.id == id && row.path == "/ill");
            let pulse = if ill { Pulse::Failing } else { self.receivers[&to.origin].1 };
            let rows = self.rows.get_mut(&to).unwrap();
            let ended = if pulse == Pulse::Alive {
                rows.retain(|row| row.id != id);
                self.finished.push((self.now, to.origin.clone(), id.clone()));
                Ended::Finished
            } else {
                let at = self.now + 5 * SECOND;
                for row in rows.iter_mut().filter(|row| row.id == id) {
                    (row.due_at, row.asked) = (at, false);
                }
                rows.sort_by_key(|row| row.due_at);
                Ended::DueAgain(Timestamp(at))
            };
            let now = self.now();
            self.dispatch.ended(&to, &id, pulse, ended, now);
        }
    }

    pub(super) fn under_way_to(&self, origin: &str) -> usize {
        self.under_way.iter().filter(|(_, other, _)| other.origin == origin).count()
    }
}
