//! What an operator sees of a running gateway: log lines, [`mod@metrics`], how each session ended ([`Outcome`]), the
//! sessions that run now ([`sessions()`]), the last success and failure of each login ([`polls()`]), and the parts that
//! do not work ([`troubles()`]). On request, an operator also sees what both sides of a session send ([`mod@trace`]).
//!
//! A process runs one gateway, so the log, the metrics and the list of sessions exist once in a process.

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
