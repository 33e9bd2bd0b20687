//! FRONT END: POP3 (RFC 1939, 2449, 2595, 3206, 5034, 6856). Which mail there is, and what becomes of it, is decided in
//! `maildrop`.
//!
//! In the order in which a connection meets them: [`listener`] accepts it, [`proxy`] reads whose connection it is,
//! [`permits`] and [`newcomers`] count it, and [`session`] leads it through [`authorization`] and [`transaction`].
//! These read a [`command`] and write a [`reply`], [`capabilities`], a [`scan`] listing or a [`multiline`] message, in
//! which [`fold`] parts long lines for some devices. Once a session has begun, only [`connection`] touches the socket:
//! it sends and receives by [`stream`], and takes lines from an [`input`] buffer.

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
