//! The IMAP client (RFC 3501): everything from a host name to a selected mailbox.
//!
//! From the octets up: [`frame`] cuts what a server sends into lines and literals, [`wire`] adds the socket and the
//! time limits, [`reader`] turns responses into events (it alone dispatches them; [`fetch`], [`response`] and [`news`]
//! parse), and [`link`] sends commands and receives events. Above these, [`Connector`] connects to a host and logs in
//! ([`async_imap`] alone uses the crate of that name), [`Mailbox`] lists, fetches, files and removes messages, and
//! [`Pool`] keeps connections for a login's next session. The module `maildrop` decides what a device sees of a
//! mailbox, and what is removed.

mod advice;
mod approach;
mod async_imap;
mod backoff;
mod bodies;
mod capability;
mod command;
mod connect;
mod date;
pub mod deflate;
mod dial;
mod digest;
mod error;
pub mod fetch;
mod folders;
pub mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod io;
mod link;
mod listing;
mod login;
mod mailbox;
mod meter;
mod namespace;
mod news;
mod pause;
mod pool;
mod proxy;
mod quirks;
pub mod reader;
mod response;
mod sasl;
#[cfg(test)]
pub(crate) mod scene;
mod scram;
mod select;
mod slots;
mod token;
mod unreachable;
mod update;
mod utf7;
mod wire;

pub use advice::{FailedConnection, advice};
pub use approach::{Approach, Transport};
pub use bodies::{BodyStart, Item};
pub use capability::Capabilities;
pub use command::UidSet;
pub use connect::{Connection, Connector, Greeted, UpstreamLogin};
pub use digest::Digest;
pub use error::Error;
pub use fetch::Section;
pub use folders::{Folder, FolderStatus, Rights};
pub use listing::{Listed, Wanted};
pub use mailbox::{Changes, Mailbox, Selected};
pub use namespace::Namespace;
pub use pool::{NoSlot, Parkable, Pool, Slot, UserKey, farewell, hang_up};
pub use reader::CommandId;
pub use select::{Resync, Selection};
pub use slots::TrustLevel;
pub use unreachable::{NoWay, Unreachable};
pub use update::{NotMoved, Refused};
