//! Explains lines that are not TOML, in plain words.

use std::ops::Range;

use super::{
    error::Mistake,
    key::{Key, Kind},
    reference,
    source::Sources,
    strict::valid_name,
    unit::Unit,
};

/// A line that could not be parsed.
struct UnparsedLine<'a> {
    /// The text before `=`.
    name: &'a str,
    /// The text after `=`.
    value: &'a str,
    /// Whether the value may be shown: nothing in the line is suspected to be a secret.
    is_shown: bool,
    text: &'a str,
}

impl Sources {
    /// Puts the parser's message about `span` into words for people.
    pub(super) fn syntax_error(&self, message: &str, span: Range<usize>) -> Mistake {
        let start = self.line_start(self.boundary(span.start));
        let text = self.text[start..].lines().next().unwrap_or_default();
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let end = start + text.len();
        let line = UnparsedLine {
            name: name.trim(),
            value: value.trim(),
            is_shown: self.hidden_in(start..end).next().is_none(),
            text: text.trim(),
        };
        let (what, help) = line.explain(message).unwrap_or((message.to_owned(), String::new()));
        Mistake {
            location: self.line(&span),
            key: None,
            what,
            help: (!help.is_empty()).then_some(help),
        }
    }
}

impl UnparsedLine<'_> {
    /// What is wrong and how to mend it; `None` if the parser's own words are the best.
    fn explain(&self, message: &str) -> Option<(String, String)> {
        let said = |what: &str, help: String| Some((what.to_owned(), help));
        let is = |start: &str| message.starts_with(start);
        if is("missing escaped value") || is("invalid escape") || is("too few unicode") {
            let help = if self.is_shown {
                format!(
                    "use 'single quotes' or a double backslash: {} = {}",
                    self.name,
                    self.value.replace('"', "'")
                )
            } else {
                "use 'single quotes' or a double backslash".to_owned()
            };
            return said("in double quotes a backslash begins an escape such as \\n", help);
        }
        if is("invalid basic string") || is("invalid literal string") {
            let help = "end the text with the quotation mark that it begins with, in the same line";
            return said("the quotation mark at the end is missing", help.into());
        }
        if is("unclosed table") || is("unclosed array table") {
            let bracket = if is("unclosed table") { "]" } else { "]]" };
            return Some((message.to_owned(), format!("end the name of the table with {bracket}")));
        }
        if is("duplicate key") {
            let table = self.text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            let help = match table.filter(|table| reference::is_repeatable(table)) {
                Some(table) => format!("if there are several, write [[{table}]] each time"),
                None => "it is given above already: put all into one place".into(),
            };
            return Some((message.to_owned(), help));
        }
        if is("unexpected leading zero") {
            let help = "leave the zero out, or write the value in double quotes if it is text";
            return said("a number begins with a zero", help.into());
        }
        if is("key with no value") {
            return Some(match self.text.split_once(':') {
                _ if self.text.starts_with("//") => ("this is not a key".into(), "a comment begins with #".into()),
                // A colon that does not follow a name may be a part of a secret.
                Some((name, _)) if valid_name(name.trim()).is_ok() => {
                    ("`=` is missing".into(), format!("write {} = …", name.trim()))
                }
                _ => ("`=` is missing".into(), "write KEY = VALUE".into()),
            });
        }
        if is("unexpected key or value") && self.value.ends_with([',', ';']) {
            return said(
                "there is something after the value",
                "a line needs no mark at its end: leave the comma or semicolon out".into(),
            );
        }
        (is("string values must be quoted") || is("invalid float") || is("invalid integer") || is("invalid datetime"))
            .then(|| self.bare())
    }

    /// Explains a value that is not a string, number, flag or list.
    fn bare(&self) -> (String, String) {
        let key = reference::named(self.name);
        let kind = key.and_then(Key::kind).unwrap_or(Kind::Text);
        let value = match self.value {
            "" => return ("the value is missing".into(), kind.expected().1),
            value if self.is_shown && kind != Kind::Secret => value.split('#').next().unwrap_or(value).trim_end(),
            _ => "…",
        };
        let name = self.name;
        if value.contains(['“', '”', '„', '’', '‘']) {
            let straight = value.trim_matches(|c: char| "“”„’‘".contains(c));
            let what = "curly quotation marks are not valid here";
            return (what.into(), format!("write {name} = \"{straight}\""));
        }
        match kind {
            Kind::Flag => (
                "expected true or false".into(),
                format!("write {name} = true or {name} = false"),
            ),
            Kind::Number(Unit::One) => ("expected a number".into(), kind.expected().1),
            Kind::Number(_) => (
                "a number with a unit must be in double quotes".into(),
                format!("write {name} = \"{value}\""),
            ),
            Kind::Texts => {
                let items = value.trim_matches(['[', ']']).split(',');
                let items: Vec<_> = items
                    .map(|item| format!("\"{}\"", item.trim().trim_matches('"')))
                    .collect();
                let help = format!("write {name} = [{}]", items.join(", "));
                ("text must be in double quotes".into(), help)
            }
            _ => (
                "text must be in double quotes".into(),
                format!("write {name} = \"{value}\""),
            ),
        }
    }
}
