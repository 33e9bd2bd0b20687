//! Where each key of the configuration comes from: a place in the file, or an environment variable.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::PathBuf,
};

use super::error::{Location, Mistake, SourceLine};

/// The text of the file, the places of its keys, and the keys that the environment has given.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) file: PathBuf,
    pub(super) text: String,
    /// Key path (`account[0].login`) → its place in the file.
    pub(super) spans: BTreeMap<String, KeySpans>,
    /// Key path → the variable that gave it.
    pub(super) variables: BTreeMap<String, String>,
    /// Parts of the text that no error may show.
    pub(super) hidden: Vec<Range<usize>>,
    pub(super) mistakes: Vec<Mistake>,
    /// The paths of keys that are probably missing only because another key was mistyped.
    pub(super) intended: BTreeSet<String>,
}

/// Octet ranges of a key and its value.
#[derive(Debug, Clone)]
pub(super) struct KeySpans {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Sources {
    /// Notes a mistake about the value of `path`; if the key is absent, about the table that lacks it.
    pub(super) fn wrong(&mut self, path: &str, what: impl Into<String>, help: Option<String>) {
        let location = if let Some(variable) = self.variables.get(path) {
            Location::Variable(variable.clone())
        } else if let Some(spans) = self.spans.get(path) {
            self.line(&spans.value)
        } else {
            self.nearest_table(path)
        };
        self.note(Mistake {
            location,
            key: Some(path.to_owned()),
            what: what.into(),
            help,
        });
    }

    /// Notes a mistake, unless the same key has one already: the second would follow from the first.
    pub(super) fn note(&mut self, mistake: Mistake) {
        match &mistake.key {
            Some(key) if self.is_wrong(key) => {}
            _ => self.mistakes.push(mistake),
        }
    }

    /// Whether a mistake about the value of `path` was noted.
    pub(super) fn is_wrong(&self, path: &str) -> bool {
        self.mistakes.iter().any(|mistake| mistake.key.as_deref() == Some(path))
    }

    fn nearest_table(&self, path: &str) -> Location {
        let mut table = path;
        while let Some(end) = table.rfind(['.', '[']) {
            table = &table[..end];
            if let Some(spans) = self.spans.get(table) {
                return self.line(&spans.key);
            }
            // Only environment variables have given this table.
            if let Some((_, variable)) = self
                .variables
                .iter()
                .find(|(key, _)| key.strip_prefix(table).is_some_and(|rest| rest.starts_with(['.', '['])))
            {
                return Location::Variable(variable.clone());
            }
        }
        Location::File(self.file.clone())
    }

    /// The nearest start of a character at or before `at`, and not beyond the end of the text.
    pub(super) fn boundary(&self, at: usize) -> usize {
        let mut known = (0..=at.min(self.text.len())).rev();
        known.find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }

    /// The start of the line that contains `at`.
    pub(super) fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |at| at + 1)
    }

    /// The hidden parts that overlap `range`.
    pub(super) fn hidden_in(&self, range: Range<usize>) -> impl Iterator<Item = &Range<usize>> {
        let overlaps = move |hidden: &&Range<usize>| hidden.start < range.end && hidden.end > range.start;
        self.hidden.iter().filter(overlaps)
    }

    /// A line of the file with `span` underlined. Hidden parts are cut off.
    pub(super) fn line(&self, span: &Range<usize>) -> Location {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end);
        let line_start = self.line_start(start);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let number = line_number(&self.text.as_bytes()[..start]);

        let hidden = self.hidden_in(line_start..line_end);
        let shown_end = hidden.map(|hidden| hidden.start.max(line_start)).min();
        let mut text = self.text[line_start..shown_end.unwrap_or(line_end)]
            .trim_end_matches('\r')
            .to_owned();
        if shown_end.is_some() {
            text.push('…');
        }
        let text = text.replace('\t', " ");
        let length = text.chars().count();
        let column = self.text[line_start..start]
            .chars()
            .count()
            .min(length.saturating_sub(1));
        let width = self.text[start..end.clamp(start, line_end)].trim_end().chars().count();
        Location::Line(Box::new(SourceLine {
            file: self.file.clone(),
            number,
            width: width.min(length - column),
            text,
            column,
        }))
    }
}

/// The number of the line, from 1, in which the octets `before` end.
pub(super) fn line_number(before: &[u8]) -> usize {
    before.iter().filter(|octet| **octet == b'\n').count() + 1
}
