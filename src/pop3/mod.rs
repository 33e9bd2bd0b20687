//! FRONT END: POP3 (RFC 1939, 2449, 2595, 3206, 5034, 6856). The module `maildrop` decides which mail there is, and
//! what happens to it.
//!
//! The parts, in the order in which a connection passes through them: [`listener`] accepts the connection, [`proxy`]
//! reads the device's address from a PROXY header, [`permits`] and [`newcomers`] limit how many connections there are,
//! and [`session`] runs [`authorization`], then [`transaction`]. These two read a [`command`] and write a [`reply`],
//! [`capabilities`], a [`scan`] listing or a [`multiline`] message, whose long lines [`fold`] splits for some devices.
//! Once a session has begun, only [`connection`] touches the socket: it sends and receives through [`stream`], and
//! takes lines from an [`input`] buffer.

mod alteration;
mod authorization;
mod capabilities;
pub mod command;
mod connection;
mod fold;
#[cfg(fuzzing)]
pub mod fuzzing;
mod header;
mod input;
mod language;
pub mod listener;
pub mod multiline;
mod newcomers;
mod permits;
mod proxy;
mod reply;
mod sasl;
mod scan;
mod scram;
mod session;
mod stream;
mod summary;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;

pub use listener::{Listener, Settings};
pub use session::Service;
