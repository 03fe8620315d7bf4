//! What is true at the moment of a scrape, as against what has been counted since the start.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{BuildLabels, LaneLabels, StateLabel, WindowLabels};
use crate::clock::Steady;
use crate::observability::process::Process;
use crate::polling::board::LaneStatus;
use crate::polling::plan::figures::Figures;
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

type Real = Gauge<f64, AtomicU64>;
/// A figure's name, its help, and where it stands.
type Told<T> = (&'static str, &'static str, fn(&Figures) -> T);

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
        let failing = Family::<LaneLabels, Gauge>::default();
        let polls = Family::<WindowLabels, Gauge>::default();
        let quota = Family::<WindowLabels, Gauge>::default();
        for (lane, status) in &self.lanes {
            let labels = LaneLabels::from(lane);
            watched.get_or_create(&labels).set(whole(status.watched));
            suspended.get_or_create(&labels).set(i64::from(status.suspended.is_some()));
            failing.get_or_create(&labels).set(i64::from(status.failing.is_some()));
            let LaneLabels { account, kind } = labels;
            let window = |window| WindowLabels { account: account.clone(), kind, window };
            polls.get_or_create(&window("1s")).set(i64::from(status.polls_last_second));
            polls.get_or_create(&window("60s")).set(i64::from(status.polls_last_minute));
            quota.get_or_create(&window("1s")).set(i64::from(status.quota.per_second));
            quota.get_or_create(&window("60s")).set(i64::from(status.quota.per_minute));
        }
        registry.register("lane_watched_tasks", "Tasks a lane watches", watched);
        registry.register("lane_suspended", "1 while a person must act on the account", suspended);
        registry.register("lane_failing", "1 while Feishu gives no usable answer", failing);
        registry.register("lane_window_polls", "Polls sent in the last second or minute", polls);
        registry.register("lane_quota_polls", "Polls that the quota allows in a window", quota);
        self.figures_into(registry);
        let age = |status: &LaneStatus| Some(self.now.since(status.alive_at).as_secs_f64());
        registry.register_with_unit(
            "lane_loop_age",
            "How long ago the lane's loop last came round",
            Unit::Seconds,
            self.of_lanes(age),
        );
    }

    /// What a lane's schedule amounts to; nothing for a lane that knows too little yet.
    fn figures_into(&self, registry: &mut Registry) {
        let times: [Told<Option<Duration>>; 4] = [
            (
                "lane_expected_detection_delay",
                "How long after a new task settles it is expected to be seen",
                |figures| Some(figures.expected_delay),
            ),
            (
                "lane_mean_detection_delay",
                "How long after they settled the latest tasks were seen, on average",
                |figures| figures.mean_delay,
            ),
            (
                "lane_least_detection_delay",
                "The bound: the least mean delay that any schedule could have at this load",
                |figures| Some(figures.bound),
            ),
            (
                "lane_poll_price",
                "What one poll must save at present, in expected waiting",
                |figures| Some(figures.price),
            ),
        ];
        for (name, help, read) in times {
            let gauges =
                self.of_lanes(|status| Some(read(status.figures.as_ref()?)?.as_secs_f64()));
            registry.register_with_unit(name, help, Unit::Seconds, gauges);
        }
        let numbers: [Told<f64>; 3] = [
            (
                "lane_bound_ratio",
                "The mean delay, or the expected one, divided by the bound",
                |figures| figures.ratio_to_bound,
            ),
            ("lane_polls_per_task", "Polls that a new task can expect", |f| f.polls_per_task),
            ("lane_tasks_per_minute", "New tasks a minute", |f| f.tasks_per_minute),
        ];
        for (name, help, read) in numbers {
            registry.register(
                name,
                help,
                self.of_lanes(|status| status.figures.as_ref().map(read)),
            );
        }
    }

    fn of_lanes(&self, read: impl Fn(&LaneStatus) -> Option<f64>) -> Family<LaneLabels, Real> {
        let gauges = Family::<LaneLabels, Real>::default();
        for (lane, status) in &self.lanes {
            if let Some(value) = read(status) {
                gauges.get_or_create(&lane.into()).set(value);
            }
        }
        gauges
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
