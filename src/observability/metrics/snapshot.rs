//! What is true at the moment of a scrape, as against what has been counted since the start.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{BuildLabels, LaneLabels, StateLabel, WindowLabels};
use crate::clock::Steady;
use crate::observability::process::Process;
use crate::polling::board::LaneStatus;
use crate::task::{LaneName, State};

/// What is true at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What every lane is doing: `Board::read`.
    pub lanes: Vec<(LaneName, LaneStatus)>,
    /// Registrations by state: `Registry::counts`. A state that is missing counts nothing.
    pub counts: Vec<(State, u64)>,
    /// Callback origins by state: `ok`, `unproven`, `held`.
    pub origins: Vec<(&'static str, u64)>,
    /// What the kernel says about this process: [`Process::read`].
    pub process: Option<Process>,
    /// When this is so; the lanes' age is measured from it.
    pub now: Steady,
}

type Seconds = Gauge<f64, AtomicU64>;

impl Snapshot {
    /// The gauges, ready to encode: ours, and the conventional `process_` ones.
    pub(super) fn registries(&self) -> [Registry; 2] {
        let mut ours = Registry::with_prefix("outcomed");
        let build = Info::new(BuildLabels { version: env!("CARGO_PKG_VERSION") });
        ours.register("build", "What is running", build);
        let states = Family::<StateLabel, Gauge>::default();
        for state in State::ALL {
            let count = self.counts.iter().find(|(counted, _)| *counted == state);
            let gauge = states.get_or_create_owned(&StateLabel { state: state.name() });
            gauge.set(whole(count.map_or(0, |(_, count)| *count)));
        }
        ours.register("registrations", "Registrations kept, by state", states);
        let origins = Family::<StateLabel, Gauge>::default();
        for (state, count) in &self.origins {
            origins.get_or_create_owned(&StateLabel { state }).set(whole(*count));
        }
        ours.register(
            "delivery_origins",
            "Callback origins remembered, by state; held ones get single probes",
            origins,
        );
        self.lanes_into(&mut ours);
        let mut process = Registry::with_prefix("process");
        if let Some(found) = self.process {
            let gauge = Gauge::<i64>::default();
            gauge.set(whole(found.open_fds));
            process.register("open_fds", "Open file descriptors", gauge);
            let gauge = Gauge::<i64>::default();
            gauge.set(whole(found.resident_bytes));
            process.register_with_unit("resident_memory", "Resident memory", Unit::Bytes, gauge);
        }
        [ours, process]
    }

    fn lanes_into(&self, registry: &mut Registry) {
        let watched = Family::<LaneLabels, Gauge>::default();
        let suspended = Family::<LaneLabels, Gauge>::default();
        let polls = Family::<WindowLabels, Gauge>::default();
        let quota = Family::<WindowLabels, Gauge>::default();
        let expected = Family::<LaneLabels, Seconds>::default();
        let age = Family::<LaneLabels, Seconds>::default();
        for (lane, status) in &self.lanes {
            let labels = LaneLabels::from(lane);
            watched.get_or_create(&labels).set(whole(status.watched));
            suspended.get_or_create(&labels).set(i64::from(status.suspended.is_some()));
            age.get_or_create(&labels).set(self.now.since(status.alive_at).as_secs_f64());
            if let Some(delay) = status.expected_delay {
                expected.get_or_create(&labels).set(delay.as_secs_f64());
            }
            let LaneLabels { account, kind } = labels;
            let window = |window| WindowLabels { account: account.clone(), kind, window };
            polls.get_or_create(&window("1s")).set(i64::from(status.polls_last_second));
            polls.get_or_create(&window("60s")).set(i64::from(status.polls_last_minute));
            quota.get_or_create(&window("1s")).set(i64::from(status.quota.per_second));
            quota.get_or_create(&window("60s")).set(i64::from(status.quota.per_minute));
        }
        registry.register("lane_watched_tasks", "Tasks a lane watches", watched);
        registry.register("lane_suspended", "1 while a person must act on the account", suspended);
        registry.register("lane_window_polls", "Polls sent in the last second or minute", polls);
        registry.register("lane_quota_polls", "Polls that the quota allows in a window", quota);
        registry.register_with_unit(
            "lane_expected_detection_delay",
            "How long after a task settles it is expected to be seen",
            Unit::Seconds,
            expected,
        );
        registry.register_with_unit(
            "lane_loop_age",
            "How long ago the lane's loop last came round",
            Unit::Seconds,
            age,
        );
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
