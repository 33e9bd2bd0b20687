//! The ground floor: small types that every room may use.

mod uid;

pub use uid::{Uid, UidRanges, UidValidity};
