//! What an operator sees of a running gateway: probes, metrics, the page, and the log's one line for each session.

mod alerts;
mod browser;
mod metrics;
mod outcomes;
mod probes;
mod prometheus;
mod refusals;
mod spans;
