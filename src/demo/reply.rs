//! What a session answers to one command.

use std::fmt::{self, Write as _};

use bytes::{Bytes, BytesMut};

/// Text and message octets in order. Message octets are shared with the store, not copied.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pieces: Vec<Bytes>,
    text: BytesMut,
}

impl Reply {
    pub(super) fn text(&mut self, text: fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.text.write_fmt(text);
    }

    /// Adds a line and its CRLF.
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        self.text(line);
        self.text.extend_from_slice(b"\r\n");
    }

    /// Adds a literal (RFC 3501 §4.3).
    pub(super) fn literal(&mut self, octets: Bytes) {
        self.line(format_args!("{{{}}}", octets.len()));
        self.pieces.push(self.text.split().freeze());
        self.pieces.push(octets);
    }

    pub(super) fn into_pieces(mut self) -> Vec<Bytes> {
        self.pieces.push(self.text.freeze());
        self.pieces
    }
}

/// Why a command was not done; the text may begin with a response code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandError {
    /// The client's mistake: syntax, or the wrong state.
    Bad(&'static str),
    /// A valid command that this server can't do.
    No(&'static str),
}

/// The text of a tagged OK, which may begin with a response code; or why the command was not done.
pub(super) type Done = Result<String, CommandError>;

/// The command is done, and its tagged OK says `text`.
pub(super) fn done(text: impl Into<String>) -> Done {
    Ok(text.into())
}
