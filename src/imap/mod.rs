//! UPSTREAM: one authenticated, selected IMAP mailbox (RFC 3501); the only folder that names async_imap.
//!
//! [`Connector`] reaches a host and logs in, [`Mailbox`] lists, fetches and removes. Under both lies
//! [`wire::Wire`], which frames what the server sends, inflated where it is compressed. async-imap holds the conversation until
//! the login is done (greeting, capabilities, STARTTLS, SASL); from SELECT on commands go out in flights of our own, and what
//! streams (listings, bodies) is read from the wire directly.

mod backoff;
mod bodies;
mod capability;
mod connect;
mod date;
mod deflate;
mod digest;
mod error;
pub mod fetch;
mod flight;
mod folders;
mod login;
mod mailbox;
mod pool;
mod response;
#[allow(dead_code)] // until `login` drives it
mod sasl;
#[allow(dead_code)] // likewise
mod scram;
mod share;
mod uid;
mod update;
mod utf7;
mod wire;

pub use bodies::{BodyStart, Item};
pub use capability::Capabilities;
pub use connect::{Connection, Connector};
pub use digest::Digest;
pub use error::Error;
pub use flight::{Listed, Wanted};
pub use folders::{Folder, FolderStatus};
pub use mailbox::{Mailbox, News, Resync, Selected};
pub use pool::{NoSlot, Parkable, Pool, Slot, UserKey, farewell, hang_up};
pub use share::Standing;
pub use uid::{Uid, UidSet, UidValidity};
