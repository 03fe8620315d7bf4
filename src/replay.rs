//! The scheduler in virtual time, over a trace: for sizing a quota, and for measuring.
//!
//! The planned policy is the daemon's own [`Lane`](crate::polling::lane::Lane), quota and all. The
//! trace is known to [`upstream::Upstream`] alone, which tells about a task what a poll would.

pub mod clockwork;
pub mod policy;
pub mod report;
pub mod trace;
pub mod upstream;
