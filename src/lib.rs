//! popgate: a POP3 server whose maildrops live on an upstream IMAP account.
//!
//! The modules, in the order in which mail flows: a device talks to [`pop3`], which asks [`accounts`] whose login it is
//! and opens a [`maildrop`]. The maildrop talks to the upstream over [`imap`]. [`oauth`] manages access tokens for
//! upstreams that take no passwords. `proofs` remembers which secrets were right, and `challenge` computes the
//! responses of challenge-response logins. [`state`] stores what must outlive a session. `quotas` holds the counts that
//! gateways with the same state have in common. `notify` tells people when they must act. `sign_in` completes a sign-in
//! that began at a terminal or on the page of `web`. `doctor` tries a login step by step.
//!
//! `gateway` builds these parts from a [`config`]. [`cli`] is the command line, and `admin` carries its commands to a
//! running gateway. `systemd` talks to the service manager that may have started the process. `sandbox` gives up the
//! rights that the process does not need. `memory` returns free memory to the system after a burst of sessions.
//! `telemetry` has the log and the metrics. [`demo`] is a small IMAP server with sample mail. [`types`] are small types
//! that all modules use.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod accounts;
mod admin;
mod challenge;
pub mod cli;
pub mod config;
pub mod demo;
mod doctor;
#[cfg(test)]
mod free_port;
mod gateway;
mod health;
mod http;
pub mod imap;
#[cfg(unix)]
mod local_socket;
pub mod maildrop;
mod memory;
mod notify;
pub mod oauth;
pub mod pop3;
mod proofs;
mod quotas;
mod sandbox;
mod sign_in;
pub mod state;
mod systemd;
mod telemetry;
mod tls;
pub mod types;
mod web;
