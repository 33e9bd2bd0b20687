//! Keys from the environment: `POPGATE__LIMITS__SESSIONS=50` is `limits.sessions = 50`.
//!
//! Parts are separated by two underscores and may be written in any case. Entries of arrays are counted from 0
//! (`POPGATE__ACCOUNT__0__LOGIN`): a number that the file has changes that entry, the next one appends. In the name
//! of an upstream `_` stands for `-` too. Lists are separated by commas.

use std::ffi::OsString;

use config::Value;

use super::{
    error::{Error, Place},
    file::{Document, Node, Shape},
    nearest::suggest,
    source::Sources,
    strict::valid_name,
};

/// What all variables start with, in any case. (Kubernetes sets `POPGATE_PORT` and the like by itself.)
const PREFIX: &str = "POPGATE__";

/// The environment, or what a test takes for it.
pub(super) type Variables = Vec<(OsString, OsString)>;

/// The variables of `environment` that are meant for us.
pub(super) fn ours(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Variables {
    let mut ours: Variables = environment
        .into_iter()
        .filter(|(name, _)| {
            let name = name.as_encoded_bytes();
            name.len() >= PREFIX.len() && name[..PREFIX.len()].eq_ignore_ascii_case(PREFIX.as_bytes())
        })
        .collect();
    // So that …__2__… comes before …__10__…, and an append after the one before it.
    ours.sort_by_key(|(name, _)| (name.len(), name.to_ascii_uppercase()));
    ours
}

impl Sources {
    /// Resolves variables to key paths and typed values, and notes which keys they give.
    pub(super) fn read_environment(&mut self, variables: Variables) -> Result<Vec<(String, Value)>, Error> {
        variables
            .into_iter()
            .map(|(name, value)| {
                let name = name.to_string_lossy().into_owned();
                let (path, node) = self.resolve(&name)?;
                let value = value
                    .into_string()
                    .map_err(|_| problem(&name, "not UTF-8", "give such octets in a file".to_owned()))?;
                let value = parse(node, value).map_err(|expected| problem(&name, expected, None))?;
                if let Some(other) = self.variables.insert(path.clone(), name.clone()) {
                    return Err(problem(&name, format!("gives the same key as {other}"), None));
                }
                Ok((path, value))
            })
            .collect()
    }

    fn resolve(&self, name: &str) -> Result<(String, &'static Node), Error> {
        let mut node: &'static Node = &Document::NODE;
        let mut path = String::new();
        for part in name[PREFIX.len()..].split("__") {
            let part = part.to_ascii_lowercase();
            match node {
                Node::Table(keys) => {
                    let Some((key, next)) = keys.iter().find(|(key, _)| *key == part) else {
                        let help = suggest(&part, keys.iter().map(|(key, _)| *key));
                        return Err(problem(
                            name,
                            format!("unknown key: nothing is called `{part}` here"),
                            help,
                        ));
                    };
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                    node = next;
                }
                Node::Named(next) => {
                    valid_name(&part).map_err(|what| problem(name, what, None))?;
                    path = format!("{path}.{}", self.existing_name(&path, &part).unwrap_or(&part));
                    node = next;
                }
                Node::List(next) => {
                    let entries = (0..)
                        .take_while(|index| self.has_entry(&format!("{path}[{index}]")))
                        .count();
                    match part.parse::<usize>() {
                        Ok(index) if index <= entries => path = format!("{path}[{index}]"),
                        _ => {
                            let what = format!("`{part}` is no entry of [[{path}]]");
                            let help = format!("entries are counted from 0; the next new one is {entries}");
                            return Err(problem(name, what, help));
                        }
                    }
                    node = next;
                }
                _ => return Err(problem(name, format!("unknown key: `{path}` has no parts"), None)),
            }
        }
        match node {
            Node::Table(keys) => {
                let known: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
                Err(problem(
                    name,
                    "names a table, not a key",
                    format!("append `__` and one of {}", known.join(", ")),
                ))
            }
            Node::Named(_) | Node::List(_) => Err(problem(name, "names tables, not a key", None)),
            _ => Ok((path, node)),
        }
    }

    /// The name that the file writes where a variable says `part` below `path`.
    fn existing_name(&self, path: &str, part: &str) -> Option<&str> {
        let same = |name: &str| {
            name.len() == part.len()
                && name.bytes().zip(part.bytes()).all(|(a, b)| {
                    let fold = |octet: u8| {
                        if octet == b'-' {
                            b'_'
                        } else {
                            octet.to_ascii_lowercase()
                        }
                    };
                    fold(a) == fold(b)
                })
        };
        self.marks
            .keys()
            .filter_map(|mark| mark.strip_prefix(path)?.strip_prefix('.'))
            .find(|name| same(name))
    }

    fn has_entry(&self, path: &str) -> bool {
        let below = |key: &String| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.marks.contains_key(path) || self.variables.keys().any(below)
    }
}

/// A variable's text as the type that its key has; a string stays what it is ("007" is no number).
fn parse(node: &Node, text: String) -> Result<Value, &'static str> {
    match node {
        Node::Number => match text.trim().parse::<i64>() {
            Ok(number) if number >= 0 => Ok(number.into()),
            _ => Err("expected a number, 0 or more, in digits"),
        },
        Node::Flag => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err("expected true or false"),
        },
        Node::Texts | Node::TextOrTexts => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(str::to_owned).collect::<Vec<String>>().into())
        }
        _ => Ok(text.into()),
    }
}

fn problem(variable: &str, what: impl Into<String>, help: impl Into<Option<String>>) -> Error {
    Error {
        place: Place::Variable(variable.to_owned()),
        key: None,
        what: what.into(),
        help: help.into(),
    }
}
