//! The strict pass over `gateway.toml`: finds syntax errors, unknown keys, wrong types and values, each with its line.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{Location, Mistake},
    key::{Key, Kind, Raw, Shape},
    keys::Document,
    nearest::{nearest, suggest},
    reference,
    source::{KeySpans, Sources},
    unit::Unit,
};

/// Parts of names that secrets have, in the language of popgate and in that of other programs.
const LIKELY_SECRETS: [&str; 4] = ["pass", "secret", "key", "proxy"];

impl Sources {
    /// Checks that the text has the shape of a [`Document`]. Notes the place of each key, and each mistake. Returns
    /// `false` if a line could not be parsed: then a key that seems to be missing may be in that line.
    pub(super) fn read_strictly(&mut self) -> bool {
        let text = self.text.clone();
        let (table, errors) = DeTable::parse_recoverable(&text);
        if errors.is_empty() {
            self.hide_secrets(Document::SHAPE, table.get_ref());
            self.table(&Document::SHAPE, table.get_ref(), "");
            return true;
        }
        self.hide_likely_secrets();
        for error in &errors {
            let mistake = self.syntax_error(error.message(), error.span().unwrap_or(0..0));
            self.mistakes.push(mistake);
        }
        // The parser only guesses at a line that it cannot parse, and keys below a broken header seem to be in another
        // table.
        let mut lines = BTreeSet::new();
        self.mistakes.retain(|mistake| lines.insert(line_of(mistake)));
        let is_header = |number: &&usize| {
            self.text
                .lines()
                .nth(*number - 1)
                .is_some_and(|text| text.trim_start().starts_with('['))
        };
        let last = lines.iter().find(is_header).copied().unwrap_or(usize::MAX);
        let syntax = self.mistakes.len();
        self.hide_secrets(Document::SHAPE, table.get_ref());
        self.table(&Document::SHAPE, table.get_ref(), "");
        let others = self.mistakes.split_off(syntax);
        let reported = others.into_iter().filter(|other| {
            let line = line_of(other);
            line < last && !lines.contains(&line)
        });
        self.mistakes.extend(reported);
        false
    }

    /// Hides what may be a secret in a text that cannot be parsed. The places of secrets are unknown then, so each line
    /// that may have one is cut after the key.
    fn hide_likely_secrets(&mut self) {
        let names = reference::names();
        let secrets = names.iter().filter(|(_, is_secret)| **is_secret);
        let secrets: Vec<&str> = secrets.map(|(name, _)| *name).collect();
        let is_likely = |word: &str| {
            LIKELY_SECRETS.iter().any(|part| word.contains(part))
                || match names.get(word) {
                    Some(is_secret) => *is_secret,
                    // It may be mistyped.
                    None => nearest(word, secrets.iter().copied()).is_some(),
                }
        };
        let mut at = 0;
        // Whether a value that is likely a secret may go on in this line.
        let mut goes_on = false;
        for line in self.text.split_inclusive('\n') {
            let lower = line.to_ascii_lowercase();
            let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if lower.split(|c: char| !is_of_word(c)).any(is_likely) {
                // The end of a string over several lines is not known either.
                let open = line.contains("\"\"\"") || line.contains("'''");
                let end = if open { self.text.len() } else { at + line.len() };
                self.hidden.push(at + end_of_key(line)..end);
                goes_on = !line.trim_start().starts_with('#');
            } else if goes_on && !begins_an_entry(line, &names) {
                self.hidden.push(at..at + line.len());
            } else {
                goes_on = false;
            }
            at += line.len();
        }
    }

    /// Hides each value of `table` that may be a secret. This comes before all checks: a mistake copies its whole line
    /// at once, and a secret may come later in that line.
    fn hide_secrets(&mut self, shape: Shape, table: &DeTable<'_>) {
        let keys = match shape {
            Shape::Table(keys) | Shape::Named(&Shape::Table(keys)) => keys,
            // A table in the place of a value: none of its keys is known.
            _ => &[],
        };
        for (name, value) in table.iter() {
            let span = name.span();
            let name: &str = name.get_ref();
            match (shape, keys.iter().find(|key| key.name == name)) {
                (Shape::Named(inner), _) if value.get_ref().is_table() => self.hide_secrets_in(*inner, value),
                (_, Some(key)) => self.hide_secrets_in(key.shape, value),
                // A mistyped key may have a secret value, too.
                (_, None) if value.span().start >= span.end => self.hidden.push(value.span()),
                // The name stands in a header or a dotted key, so the values come later.
                (_, None) => self.hide_secrets_in(Shape::Table(&[]), value),
            }
        }
    }

    fn hide_secrets_in(&mut self, shape: Shape, value: &Spanned<DeValue<'_>>) {
        match (shape, value.get_ref()) {
            (Shape::Value(Kind::Secret, _), _) => self.hidden.push(value.span()),
            // A table in the place of a list, or a list in the place of a table, may have secrets all the same.
            (Shape::List(inner) | Shape::OneOrMany(inner), _) => self.hide_secrets_in(*inner, value),
            (_, DeValue::Array(items)) => {
                for item in items.iter() {
                    self.hide_secrets_in(shape, item);
                }
            }
            (_, DeValue::Table(table)) => self.hide_secrets(shape, table),
            _ => {}
        }
    }

    fn key(&mut self, key: &Key, value: &Spanned<DeValue<'_>>, path: &str) {
        let Shape::Value(kind, _) = key.shape else {
            return self.walk(&key.shape, value, path);
        };
        let checked = match value.get_ref() {
            DeValue::String(text) if !matches!(kind, Kind::Flag | Kind::Texts | Kind::Number(Unit::One)) => {
                key.check(&Raw::Text(text))
            }
            DeValue::Boolean(flag) if kind == Kind::Flag => key.check(&Raw::Flag(*flag)),
            DeValue::Integer(number) if matches!(kind, Kind::Number(_)) => {
                let number = match (number.radix(), number.as_str().parse::<i64>()) {
                    (10, Ok(number)) => u64::try_from(number).ok(),
                    (10, Err(_)) if !number.as_str().starts_with('-') => {
                        return self.wrong(path, "this number is too large", None);
                    }
                    _ => None,
                };
                match number {
                    Some(number) => key.check(&Raw::Number(number)),
                    None => return self.wrong(path, "expected a decimal number, 0 or more", None),
                }
            }
            DeValue::Array(items) if matches!(kind, Kind::Texts | Kind::TextOrTexts) => {
                match items.iter().find(|item| !item.get_ref().is_str()) {
                    None => key.check(&Raw::Texts(
                        items.iter().filter_map(|item| item.get_ref().as_str()).collect(),
                    )),
                    Some(item) => {
                        let mistake = Mistake {
                            location: self.line(&item.span()),
                            key: Some(path.to_owned()),
                            what: format!("expected strings in the list, found {}", found(item.get_ref())),
                            help: None,
                        };
                        return self.note(mistake);
                    }
                }
            }
            other => {
                let (expected, usual) = kind.expected();
                let help = match (other, kind) {
                    (DeValue::Integer(port), Kind::Address) => format!("write \"0.0.0.0:{}\"", port.as_str()),
                    (DeValue::Float(_), Kind::Number(unit)) => format!("write {}", unit.usage()),
                    (DeValue::String(text), Kind::Texts) => format!("write [\"{text}\"]"),
                    _ => usual,
                };
                return self.wrong(path, format!("expected {expected}, found {}", found(other)), Some(help));
            }
        };
        if let Err(wrong) = checked {
            self.wrong(path, wrong.what, wrong.help);
        }
    }

    fn walk(&mut self, shape: &Shape, value: &Spanned<DeValue<'_>>, path: &str) {
        match (shape, value.get_ref()) {
            (Shape::OneOrMany(inner), DeValue::Array(_)) => self.walk(&Shape::List(inner), value, path),
            (Shape::OneOrMany(inner), _) => self.walk(inner, value, path),
            (Shape::Table(_) | Shape::Named(_), DeValue::Table(table)) => self.table(shape, table, path),
            (Shape::List(shape), DeValue::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.note_spans(&path, item.span(), item.span());
                    self.walk(shape, item, &path);
                }
            }
            (shape, value) => {
                let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
                let (expected, help) = match shape {
                    Shape::Named(_) => (
                        "tables with names",
                        format!("write each as [{path}.NAME], such as [{path}.home]"),
                    ),
                    Shape::List(_) => ("an array of tables", format!("write it as [[{path}]]")),
                    // The name is missing, and one of the table's keys is in its place.
                    Shape::Table(keys) if keys.iter().any(|key| path.ends_with(&format!(".{}", key.name))) => {
                        ("a table", format!("give the {parent} a name: [{parent}.home]"))
                    }
                    _ => ("a table", format!("write it as [{path}] with its keys below")),
                };
                self.wrong(path, format!("expected {expected}, found {}", found(value)), Some(help));
            }
        }
    }

    fn table(&mut self, shape: &Shape, table: &DeTable<'_>, path: &str) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (name, value) in entries {
            let span = name.span();
            let name = name.get_ref().as_ref();
            let child = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            self.note_spans(&child, span.clone(), value.span());
            match shape {
                Shape::Table(keys) => match keys.iter().find(|key| key.name == name) {
                    Some(key) => self.key(key, value, &child),
                    None => self.unknown(name, &span, keys, &child),
                },
                Shape::Named(shape) => match valid_name(name) {
                    Ok(()) => {
                        self.walk(shape, value, &child);
                        // If the name of a table is missing, its other keys have the same mistake.
                        if !value.get_ref().is_table() && self.is_wrong(&child) {
                            return;
                        }
                    }
                    Err(what) => self.note(Mistake {
                        location: self.line(&span),
                        key: Some(child),
                        what,
                        help: None,
                    }),
                },
                _ => {}
            }
        }
    }

    fn unknown(&mut self, name: &str, span: &Range<usize>, keys: &[Key], path: &str) {
        let names = keys.iter().map(|key| key.name);
        let elsewhere = reference::tables_with(name);
        let help = match nearest(name, names.clone()) {
            Some(intended) => {
                self.intended
                    .insert(format!("{}{intended}", path.strip_suffix(name).unwrap_or_default()));
                suggest(name, names)
            }
            None if elsewhere.is_empty() => suggest(name, names),
            None => format!("it is a key of {}", elsewhere.join(", ")),
        };
        self.note(Mistake {
            location: self.line(span),
            key: Some(path.to_owned()),
            what: "unknown key".into(),
            help: Some(help),
        });
    }

    fn note_spans(&mut self, path: &str, key: Range<usize>, value: Range<usize>) {
        self.spans.insert(path.to_owned(), KeySpans { key, value });
    }
}

/// Whether a line is empty, or begins a comment, a table or the entry of a key, so that no value goes on in it.
fn begins_an_entry(line: &str, names: &BTreeMap<&'static str, bool>) -> bool {
    let line = line.trim();
    line.is_empty()
        || line.starts_with(['#', '['])
        || line
            .split_once('=')
            .is_some_and(|(name, _)| names.contains_key(name.trim_end()))
}

/// The end of the first word in a line that may lack its `=`, and of what separates that word from a value.
fn end_of_key(line: &str) -> usize {
    let rest = line.trim_start();
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | ':'));
    let (key, value) = rest.split_at(end.unwrap_or(rest.len()));
    let separated = value.trim_start().strip_prefix(['=', ':']);
    line.len() - separated.map_or(rest.len() - key.len(), str::len)
}

fn line_of(mistake: &Mistake) -> usize {
    match &mistake.location {
        Location::Line(line) => line.number,
        _ => 0,
    }
}

/// Checks a name. Names occur in variables and logs, so they consist of letters, digits, `-` and single `_` (two
/// separate the parts of a variable).
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

fn found(value: &DeValue<'_>) -> &'static str {
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
