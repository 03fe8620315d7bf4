//! Validated settings. [`load`] reads them in layers; everything else here is plain values.

pub mod model;
pub mod secret;

pub use model::*;
