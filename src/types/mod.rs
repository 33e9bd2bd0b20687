//! The ground floor: small types that every room may use.

mod login;
mod peers;
mod random;
mod uid;

pub use login::canonical;
pub use peers::{Place, Places, network};
pub use random::RandomUnavailable;
pub use uid::{Uid, UidRanges, UidValidity};
