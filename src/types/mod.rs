//! Small types that every module of the crate may use.

mod authority;
mod clock;
mod files;
mod hex;
mod login;
mod mail;
mod peers;
mod random;
mod seal;
mod spoken;
mod uid;
mod uid_map;

pub use authority::host_and_port;
pub use clock::now;
pub use files::read_file;
pub use hex::hex;
pub use login::canonical;
pub use mail::{MailboxName, MessageNumber, Octets};
pub use peers::{AddressLimiter, AddressPermit, network};
pub use random::{RandomUnavailable, random_octets};
pub use seal::Sealer;
pub use spoken::Spoken;
pub use uid::{Uid, UidRanges, UidValidity};
pub use uid_map::{UidMap, Uids};
