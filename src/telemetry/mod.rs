//! What an operator sees of a running gateway: log lines, [`mod@metrics`], how each session ended ([`Outcome`]), which
//! sessions there are ([`sessions()`]), how each login fared last ([`polls()`]), and what does not work
//! ([`troubles()`]). On request, an operator also sees what both sides of a session say ([`mod@trace`]).
//!
//! One process is one gateway: the metrics and the list of sessions exist once in a process, as the log does.

mod log;
mod log_limiter;
pub(crate) mod metrics;
mod outcome;
mod polls;
mod presence;
pub(crate) mod trace;
mod troubles;

pub(crate) use self::{
    log::{Error, init, set_level},
    log_limiter::LogLimiter,
    metrics::metrics,
    outcome::Outcome,
    polls::{Poll, polls},
    presence::{ActiveSession, Presence, activity, sessions},
    troubles::troubles,
};
