//! The strict pass over `gateway.toml`: syntax, unknown keys and wrong types, each with its line.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::Error,
    file::{Document, Node, Shape},
    nearest::suggest,
    source::{Mark, Sources},
};

impl Sources {
    /// Checks that the text has the shape of a [`Document`] and notes where each key stands.
    pub(super) fn read_strictly(&mut self) -> Result<(), Error> {
        let text = std::mem::take(&mut self.text);
        let parsed = DeTable::parse(&text);
        self.text = text.clone();
        match parsed {
            Ok(table) => self.table(&Document::NODE, table.get_ref(), ""),
            Err(error) => Err(self.syntax_error(error.message(), error.span().unwrap_or(0..0))),
        }
    }

    fn syntax_error(&mut self, message: &str, span: Range<usize>) -> Error {
        // Without a parsed tree nobody knows where secrets stand: a line that may hold one is cut at its `=`.
        let mut at = 0;
        for line in self.text.split_inclusive('\n') {
            if line.to_ascii_lowercase().contains("pass")
                && let Some(equals) = line.find('=')
            {
                // The end of a string of several lines is not known either.
                let open = line.contains("\"\"\"") || line.contains("'''");
                let end = if open { self.text.len() } else { at + line.len() };
                self.hidden.push(at + equals + 1..end);
            }
            at += line.len();
        }
        Error {
            place: self.line(&span),
            key: None,
            what: message.to_owned(),
            help: None,
        }
    }

    fn walk(&mut self, node: &Node, value: &Spanned<DeValue<'_>>, path: &str) -> Result<(), Error> {
        if matches!(node, Node::Secret) {
            self.hidden.push(value.span());
        }
        match (node, value.get_ref()) {
            (Node::Text | Node::Secret | Node::TextOrTexts, DeValue::String(_)) | (Node::Flag, DeValue::Boolean(_)) => {
                Ok(())
            }
            (Node::Number, DeValue::Integer(number)) if number.radix() != 10 || number.as_str().starts_with('-') => {
                Err(self.error(path, "expected a decimal number, 0 or more", None))
            }
            (Node::Number, DeValue::Integer(number)) if number.as_str().parse::<i64>().is_err() => {
                Err(self.error(path, "this number is too large", None))
            }
            (Node::Number, DeValue::Integer(_)) => Ok(()),
            (Node::Texts | Node::TextOrTexts, DeValue::Array(items)) => {
                match items.iter().find(|item| !item.get_ref().is_str()) {
                    None => Ok(()),
                    Some(item) => Err(Error {
                        place: self.line(&item.span()),
                        key: Some(path.to_owned()),
                        what: format!("expected strings in the list, found {}", kind(item.get_ref())),
                        help: None,
                    }),
                }
            }
            (Node::Table(_) | Node::Named(_), DeValue::Table(table)) => self.table(node, table, path),
            (Node::List(node), DeValue::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.mark(&path, item.span(), item.span());
                    self.walk(node, item, &path)?;
                }
                Ok(())
            }
            (node, value) => {
                let (expected, help) = expectation(node, path);
                Err(self.error(path, format!("expected {expected}, found {}", kind(value)), help))
            }
        }
    }

    fn table(&mut self, node: &Node, table: &DeTable<'_>, path: &str) -> Result<(), Error> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let child = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            self.mark(&child, key.span(), value.span());
            match node {
                Node::Table(keys) => match keys.iter().find(|(known, _)| *known == name) {
                    Some((_, node)) => self.walk(node, value, &child)?,
                    None => {
                        // A mistyped key may hold a secret all the same.
                        if value.span().start >= key.span().end {
                            self.hidden.push(value.span());
                        }
                        return Err(Error {
                            place: self.line(&key.span()),
                            key: Some(child.clone()),
                            what: "unknown key".into(),
                            help: Some(suggest(name, keys.iter().map(|(known, _)| *known))),
                        });
                    }
                },
                Node::Named(node) => {
                    if let Err(what) = valid_name(name) {
                        return Err(Error {
                            place: self.line(&key.span()),
                            key: Some(child.clone()),
                            what,
                            help: None,
                        });
                    }
                    self.walk(node, value, &child)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn mark(&mut self, path: &str, key: Range<usize>, value: Range<usize>) {
        self.marks.insert(path.to_owned(), Mark { key, value });
    }
}

/// Names stand in variables and logs: letters, digits, `-` and single `_` (two separate the parts of a variable).
pub(super) fn valid_name(name: &str) -> Result<(), String> {
    let plain = name
        .bytes()
        .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
    if plain && !name.is_empty() && !name.contains("__") {
        Ok(())
    } else {
        Err("a name here is made of letters, digits, `-` and single `_`".into())
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn expectation(node: &Node, path: &str) -> (&'static str, Option<String>) {
    match node {
        Node::Text | Node::Secret => ("a string", Some("put it in double quotes".into())),
        Node::Number => ("a number", Some("write it in digits, without quotes".into())),
        Node::Flag => ("true or false", Some("without quotes".into())),
        Node::Texts => ("a list of strings", Some("write it as [\"…\", \"…\"]".into())),
        Node::TextOrTexts => (
            "a string or a list of strings",
            Some("write it as \"…\" or [\"…\", \"…\"]".into()),
        ),
        Node::Table(_) => ("a table", Some(format!("write it as [{path}] with its keys below"))),
        Node::Named(_) => ("tables with names", Some(format!("write each as [{path}.NAME]"))),
        Node::List(_) => ("an array of tables", Some(format!("write each as [[{path}]]"))),
    }
}
