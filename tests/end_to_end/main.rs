//! End to end: the real program, between devices and upstreams that are real or scripted octet by octet.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod support;

mod accounts;
mod as_they_are;
mod clients;
mod comfort;
mod commit;
mod connecting;
mod crash;
mod faults;
mod gone;
mod guesses;
mod hide;
mod index;
mod login;
mod mechanisms;
mod memory;
mod oauth2;
mod octets;
mod parked;
mod policies;
mod providers;
mod read_ahead;
mod retention;
mod servers;
mod sessions;
mod shutdown;
mod transcripts;
mod uidl;
mod undelivered;
mod views;
