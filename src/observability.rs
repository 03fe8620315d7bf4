//! The one mapping from what happened to log lines and metrics.

pub mod metrics;

pub use metrics::Metrics;
