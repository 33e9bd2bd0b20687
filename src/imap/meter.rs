//! Counts a connection in the metrics: that it exists, whether it is parked, and how long its server takes to answer.

use std::{sync::Arc, time::Duration};

use crate::telemetry::metrics::{self, CountedConnection};

/// Counts one connection that is logged in, until dropped.
#[derive(Debug)]
pub(super) struct Meter {
    upstream: Arc<str>,
    connection: CountedConnection,
}

/// The commands that the metric distinguishes. All others are `other`.
const COMMANDS: &[&str] = &[
    "CAPABILITY",
    "COMPRESS",
    "COPY",
    "CREATE",
    "ENABLE",
    "EXAMINE",
    "EXPUNGE",
    "FETCH",
    "ID",
    "LIST",
    "LOGOUT",
    "MOVE",
    "MYRIGHTS",
    "NAMESPACE",
    "NOOP",
    "SEARCH",
    "SELECT",
    "STATUS",
    "STORE",
    "SUBSCRIBE",
    "UNSELECT",
];

/// The name of `command`, without UID and arguments.
fn name(command: &str) -> &'static str {
    let mut words = command.split(' ').filter(|word| !word.eq_ignore_ascii_case("UID"));
    let word = words.next().unwrap_or_default();
    let known = COMMANDS.iter().find(|known| known.eq_ignore_ascii_case(word));
    known.copied().unwrap_or("other")
}

impl Meter {
    pub(super) fn new(upstream: Arc<str>) -> Self {
        let connection = metrics::metrics().connection(&upstream);
        Self { upstream, connection }
    }

    pub(super) fn set_parked(&mut self, is_parked: bool) {
        self.connection.set_parked(is_parked);
    }

    /// Notes how long the server took to answer `command` and what was sent along with it.
    pub(super) fn answered(&self, command: &str, took: Duration) {
        metrics::metrics().upstream_command(&self.upstream, name(command), took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_named_without_its_arguments() {
        for (command, expected) in [
            ("NOOP", "NOOP"),
            ("UID FETCH 1:* (FLAGS)", "FETCH"),
            ("uid store 4 +FLAGS (\\Seen)", "STORE"),
            ("SELECT \"INBOX\"", "SELECT"),
            ("XYZZY eva@example.org", "other"),
            ("", "other"),
        ] {
            assert_eq!(name(command), expected, "{command}");
        }
    }
}
