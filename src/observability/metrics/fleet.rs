//! What is counted of the fleet.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is counted of the fleet, as this daemon sees it.
#[derive(Debug, Default)]
pub struct Fleet {
    members: Gauge,
    held: Gauge,
    takeovers: Counter,
    refused: Counter,
}

impl Fleet {
    pub(super) fn name(&self, registry: &mut Registry) {
        registry.register(
            "fleet_members",
            "Daemons on this store that were alive when this one last looked",
            self.members.clone(),
        );
        registry.register("fleet_lanes_held", "Lanes that this daemon polls", self.held.clone());
        registry.register(
            "fleet_takeovers",
            "Lanes that this daemon took over from one that had gone without a word",
            self.takeovers.clone(),
        );
        registry.register(
            "fleet_refused_writes",
            "Writes to a lane that were refused because it had become another daemon's",
            self.refused.clone(),
        );
    }

    /// So many are alive, and so many lanes held.
    pub fn show(&self, members: usize, held: usize) {
        self.members.set(i64::try_from(members).unwrap_or(i64::MAX));
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// A lane was taken over.
    pub fn took_over(&self) {
        self.takeovers.inc();
    }

    /// A write was refused.
    pub fn refused(&self) {
        self.refused.inc();
    }
}
