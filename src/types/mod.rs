//! The ground floor: small types that every room may use.

mod random;
mod uid;

pub use random::RandomUnavailable;
pub use uid::{Uid, UidRanges, UidValidity};
