//! popgate: a POP3 server whose maildrops live on an upstream IMAP account.
//!
//! The modules in the order mail flows: a device speaks to [`pop3`], which asks [`accounts`] who the device is and
//! opens a [`maildrop`]; that translates to [`imap`], the upstream, for which [`oauth`] has tokens if it takes no
//! password. [`proofs`] remembers which secrets were right; `challenge` computes what a secret answers. [`state`]
//! outlives a session. [`notify`] tells people when they must act. [`sign_in`] ends a sign-in, which begins at a terminal or on the page of [`web`]. [`doctor`]
//! tries a login step by step. [`gateway`] puts the parts together from a [`config`]; [`cli`] is what a person types,
//! [`admin`] how that reaches a gateway that runs already, [`systemd`] who may have started it, and [`sandbox`] what the
//! process may do from then on. [`types`] are small types that all of them use.

pub mod accounts;
pub mod admin;
mod challenge;
pub mod cli;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod gateway;
pub mod health;
mod http;
pub mod imap;
#[cfg(unix)]
mod local_socket;
pub mod maildrop;
pub mod notify;
pub mod oauth;
pub mod pop3;
pub mod proofs;
pub mod sandbox;
pub mod sign_in;
pub mod state;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod types;
pub mod web;
