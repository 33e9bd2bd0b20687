//! Small types that every module of the crate may use.

mod clock;
mod files;
mod login;
mod mail;
mod peers;
mod random;
mod seal;
mod spoken;
mod uid;
mod uid_map;

pub use clock::now;
pub use files::read_file;
pub use login::canonical;
pub use mail::{MailboxName, MessageNumber, Octets};
pub use peers::{AddressLimiter, AddressPermit, network};
pub use random::{RandomUnavailable, random_octets};
pub use seal::Sealer;
pub use spoken::Spoken;
pub use uid::{Uid, UidRanges, UidValidity};
pub use uid_map::{UidMap, Uids};
