//! The one mapping from what happened to log lines and metrics.

pub mod line;
pub mod lines;
pub mod logging;
pub mod metrics;
pub mod process;

pub use lines::Lines;
pub use logging::{LogError, LogHandle, init};
pub use metrics::{Metrics, Snapshot};
