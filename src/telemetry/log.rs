//! Logs: `tracing` events as lines on stderr.

use std::{
    fmt::{self, Debug},
    io::{self, IsTerminal},
    sync::OnceLock,
};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    Registry,
    field::RecordFields,
    filter::{ParseError, Targets},
    fmt::{FormatFields, format::Writer},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat};

/// Why logs could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is neither a level nor a filter directive.
    #[error("log.level: {0}")]
    Level(#[from] ParseError),
    /// Logs were set up before.
    #[error("logs: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the events of this process to stderr, as `[log]` says. Text is coloured on a terminal only. JSON is one object
/// a line: `timestamp`, `level`, `target` and the event's fields. `spans` has the session and the upstream connection
/// that the event belongs to.
pub(crate) fn init(log: &Log) -> Result<(), Error> {
    let targets: Targets = log.level.parse()?;
    let (filter, handle) = reload::Layer::new(targets);
    let filtered = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match log.format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let lines = lines.fmt_fields(Quoted).with_target(false).with_ansi(colours);
            filtered.with(lines).try_init()?;
        }
        LogFormat::Json => {
            let lines = lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(true);
            filtered.with(lines).try_init()?;
        }
    }
    // This can't fail: nothing was set up before, or `try_init` would have failed.
    let _ = LEVEL.set(handle);
    Ok(())
}

/// The handle by which the level is changed.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Logs at `level` from now on: a level or a filter, as in `[log]`.
pub(crate) fn set_level(level: &str) -> Result<(), Error> {
    let targets: Targets = level.parse()?;
    if let Some(handle) = LEVEL.get() {
        // Fails only if logs have ended, which they never do.
        let _ = handle.reload(targets);
    }
    Ok(())
}

/// Writes fields as `name=value`. A value is in quotes unless it is one plain word, so nothing that a device or an
/// upstream sends can look like another field or another line.
#[derive(Debug)]
struct Quoted;

impl<'writer> FormatFields<'writer> for Quoted {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = FieldWriter {
            writer,
            is_first: true,
            written: Ok(()),
        };
        fields.record(&mut line);
        line.written
    }
}

struct FieldWriter<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    written: fmt::Result,
}

impl FieldWriter<'_> {
    fn write(&mut self, field: &Field, value: &str) -> fmt::Result {
        if field.name() == "message" {
            self.separate()?;
            return value.chars().try_for_each(|character| {
                if character.is_control() {
                    write!(self.writer, "{}", character.escape_default())
                } else {
                    self.writer.write_char(character)
                }
            });
        }
        self.begin(field)?;
        if is_plain(value) {
            self.writer.write_str(value)
        } else {
            write!(self.writer, "{value:?}")
        }
    }

    /// Writes a value that needs no quotes, such as a number.
    fn write_plain(&mut self, field: &Field, value: impl fmt::Display) {
        if self.written.is_ok() {
            self.written = self.begin(field).and_then(|()| write!(self.writer, "{value}"));
        }
    }

    fn begin(&mut self, field: &Field) -> fmt::Result {
        self.separate()?;
        if self.writer.has_ansi_escapes() {
            write!(self.writer, "\x1b[3m{}\x1b[0m\x1b[2m=\x1b[0m", field.name())
        } else {
            self.writer.write_str(field.name())?;
            self.writer.write_char('=')
        }
    }

    fn separate(&mut self) -> fmt::Result {
        if std::mem::take(&mut self.is_first) {
            Ok(())
        } else {
            self.writer.write_char(' ')
        }
    }
}

impl Visit for FieldWriter<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.written.is_ok() {
            self.written = self.write(field, value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write_plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write_plain(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Whether `value` needs no quotes: it is one word of printable ASCII without quotes, backslash and `=`.
fn is_plain(value: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\'' | b'\\' | b'=');
    !value.is_empty() && value.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a text log shows of an event.
    fn logged(event: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(Quoted)
            .with_target(false)
            .without_time()
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, event);
        let octets = lines.0.lock().unwrap().clone();
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn plain_words_stand_as_they_are() {
        let peer: std::net::SocketAddr = "[2001:db8::1]:4000".parse().unwrap();
        let line = logged(|| tracing::info!(%peer, login = "eva@example.org", octets = 7, is_whole = true, "session"));
        let expected = " INFO session peer=[2001:db8::1]:4000 login=eva@example.org octets=7 is_whole=true\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn nothing_passes_for_a_field_or_a_line() {
        for said in [
            "dev peer=8.8.8.8:1",
            "",
            "a\"b",
            "peer=8.8.8.8:1",
            "x\r\n INFO session peer=8.8.8.8:1",
            "\x1b[2J\u{202e}",
            "\\",
        ] {
            for line in [
                logged(|| tracing::info!(login = said, end = "quit", "session")),
                logged(|| tracing::info!(login = %said, end = "quit", "session")),
            ] {
                assert_eq!(line, format!(" INFO session login={said:?} end=quit\n"));
                assert_eq!(line.lines().count(), 1);
            }
        }
        let line = logged(|| tracing::info!("said {}", "a\nb\x1b[1m"));
        assert_eq!(line, " INFO said a\\nb\\u{1b}[1m\n");
    }
}
