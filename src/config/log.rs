//! The keys of `[log]`.

use tracing_subscriber::filter::Targets;

use super::{
    key::{Kind, Raw, Value, Wrong},
    nearest::nearest,
    value,
    words::words,
};

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Text for people, or JSON for collectors.
    pub format: LogFormat,
    /// A level or a `tracing` filter directive.
    pub level: String,
}

impl Log {
    /// The log of a command that a person runs: text.
    pub(crate) fn for_people(level: &str) -> Self {
        Self {
            format: LogFormat::Text,
            level: level.to_owned(),
        }
    }
}

words! {
    /// How log lines look.
    pub enum LogFormat {
        /// One readable line for each event.
        Text = "text" | "plain" | "human",
        /// One JSON object for each event.
        Json = "json",
    }
}

/// A level, or a filter by modules, without spaces.
#[derive(Debug)]
pub(super) struct LogFilter(pub(super) String);

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Value for LogFilter {
    const KIND: Kind = Kind::Text;

    fn read(raw: &Raw<'_>) -> Result<Self, Wrong> {
        // `Targets` would take a space before the name of a module for a part of it.
        let directives: Vec<_> = value::text(raw)?.split(',').map(str::trim).collect();
        for directive in &directives {
            // `Targets` would take a mistyped level for the name of a module, and log everything of that module.
            let bare = !directive.contains(['=', '[']);
            if bare && !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(directive)) {
                let help = match nearest(directive, LEVELS) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => format!("one of {}, or a filter such as info,popgate=debug", LEVELS.join(", ")),
                };
                return Err(Wrong::new(format!("`{directive}` is not a valid level")).help(help));
            }
        }
        let level = directives.join(",");
        match level.parse::<Targets>() {
            Ok(_) => Ok(Self(level)),
            Err(_) => {
                // In MODULE=LEVEL, the mistake is most likely in the level.
                let levels = directives.iter().filter_map(|directive| directive.rsplit_once('='));
                let unknown = |level: &&str| !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
                let what = match levels.map(|(_, level)| level).find(unknown) {
                    Some(level) => format!("is not a valid filter: `{level}` is not a level"),
                    None => "is not a valid filter".to_owned(),
                };
                Err(Wrong::new(what))
            }
        }
    }
}
