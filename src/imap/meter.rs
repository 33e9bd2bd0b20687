//! What metrics tell of a connection: that it exists, whether it waits, and how long its server takes to answer.

use std::{sync::Arc, time::Duration};

use crate::telemetry::metrics::{self, Counted};

/// The meter of one connection that is logged in.
#[derive(Debug)]
pub struct Meter {
    upstream: Arc<str>,
    connection: Counted,
}

/// Commands that a metric tells apart.
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
    /// For a connection to `upstream`.
    pub fn new(upstream: Arc<str>) -> Self {
        let connection = metrics::metrics().connection(&upstream);
        Self { upstream, connection }
    }

    /// The connection waits for its login's next session, or does so no longer.
    pub fn set_parked(&mut self, is_parked: bool) {
        self.connection.set_parked(is_parked);
    }

    /// The server has answered `command`, and what was sent along with it.
    pub fn answered(&self, command: &str, took: Duration) {
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
