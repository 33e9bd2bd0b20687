//! End to end: the real program, between devices and upstreams that are real or scripted octet by octet.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod support;

mod accounts;
mod as_they_are;
mod backup;
mod clients;
mod comfort;
mod commit;
mod confinement;
mod connecting;
mod crash;
mod doctor;
mod doors;
mod faults;
mod floods;
mod folding;
mod gone;
mod guesses;
mod hide;
mod index;
mod init;
mod login;
mod mechanisms;
mod memory;
mod mixed;
mod notices;
mod oauth2;
mod octets;
mod operations;
mod operator;
mod pages;
mod parked;
mod policies;
mod providers;
mod read_ahead;
mod reload;
mod retention;
mod servers;
mod sessions;
mod several;
mod shutdown;
mod spelling;
mod systemd;
mod transcripts;
mod uidl;
mod undelivered;
mod views;
