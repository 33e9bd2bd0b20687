//! Keys from the environment: `POPGATE__LIMITS__SESSIONS=50` is `limits.sessions = 50`.
//!
//! Parts are separated by two underscores and may be in any case. Entries of arrays are counted from 0
//! (`POPGATE__ACCOUNT__0__LOGIN`): the number of an entry in the file changes that entry, the next number appends one.
//! In the name of an upstream `_` stands for `-` too. Lists are separated by commas.

use std::ffi::OsString;

use config::Value;

use super::{
    error::{Location, Mistake},
    key::{Key, Kind, Shape, with_raw},
    keys::Document,
    nearest::suggest,
    source::Sources,
    strict::valid_name,
    unit::Unit,
};

/// The prefix of all variables, in any case. (Kubernetes itself sets variables such as `POPGATE_PORT`.)
const PREFIX: &str = "POPGATE__";

/// Names and values of variables: those of the process, or those of a test.
pub(super) type Variables = Vec<(OsString, OsString)>;

/// The variables of `environment` that begin with [`PREFIX`].
pub(super) fn ours(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Variables {
    let mut ours: Variables = environment
        .into_iter()
        .filter(|(name, _)| {
            let name = name.as_encoded_bytes();
            name.len() >= PREFIX.len() && name[..PREFIX.len()].eq_ignore_ascii_case(PREFIX.as_bytes())
        })
        .collect();
    ours.sort_by_cached_key(|(name, _)| order(&name.to_string_lossy()));
    ours
}

/// Sorts the entries of an array by their numbers, …__2__KEY before …__10__KEY: an entry can be appended only after
/// those before it.
fn order(name: &str) -> Vec<(Option<usize>, String)> {
    let parts = name.split("__");
    parts
        .map(|part| (part.parse().ok(), part.to_ascii_uppercase()))
        .collect()
}

impl Sources {
    /// Resolves each variable to a key path and a typed value. Notes the keys that variables give, and the mistakes in
    /// them.
    pub(super) fn read_environment(&mut self, variables: Variables) -> Vec<(String, Value)> {
        let mut values = Vec::new();
        for (name, value) in variables {
            match self.read_variable(&name.to_string_lossy(), value) {
                Ok(read) => values.push(read),
                Err(mistake) => self.note(mistake),
            }
        }
        values
    }

    fn read_variable(&mut self, name: &str, value: OsString) -> Result<(String, Value), Mistake> {
        let (path, key) = self.resolve(name)?;
        let value = value
            .into_string()
            .map_err(|_| problem(name, "not UTF-8", "give such octets in a file".to_owned()))?;
        let kind = key.kind().unwrap_or(Kind::Text);
        let value = parse(kind, &value).map_err(|expected| problem(name, expected, None))?;
        if let Some(other) = self.variables.insert(path.clone(), name.to_owned()) {
            return Err(problem(name, format!("gives the same key as {other}"), None));
        }
        match with_raw(&value, |raw| key.check(raw).err()) {
            None => Ok((path, value)),
            Some(wrong) => Err(Mistake {
                key: Some(path),
                ..problem(name, wrong.what, wrong.help)
            }),
        }
    }

    fn resolve(&self, name: &str) -> Result<(String, &'static Key), Mistake> {
        let mut shape = Document::SHAPE;
        let mut path = String::new();
        let mut key = None;
        for part in name[PREFIX.len()..].split("__") {
            let part = part.to_ascii_lowercase();
            if let Shape::OneOrMany(table) = shape {
                let is_number = part.parse::<usize>().is_ok();
                if is_number && self.has_keys(&format!("{path}.")) {
                    let help = format!("leave `{part}` out, or write [[{path}]] instead of [{path}]");
                    return Err(problem(
                        name,
                        format!("there is one [{path}], which has no number"),
                        help,
                    ));
                }
                if !is_number && self.has_keys(&format!("{path}[")) {
                    let what = format!("there are several [[{path}]]");
                    return Err(problem(name, what, "number them, counted from 0".to_owned()));
                }
                shape = if is_number { Shape::List(table) } else { *table };
            }
            match shape {
                Shape::Table(keys) => {
                    let Some(found) = keys.iter().find(|key| key.name == part) else {
                        let help = suggest(&part, keys.iter().map(|key| key.name));
                        return Err(problem(
                            name,
                            format!("unknown key: nothing is called `{part}` here"),
                            help,
                        ));
                    };
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(found.name);
                    shape = found.shape;
                    key = Some(found);
                }
                Shape::Named(next) => {
                    valid_name(&part).map_err(|what| problem(name, what, None))?;
                    path = format!("{path}.{}", self.existing_name(&path, &part).unwrap_or(&part));
                    shape = *next;
                }
                Shape::List(next) => {
                    let entries = (0..)
                        .take_while(|index| self.has_entry(&format!("{path}[{index}]")))
                        .count();
                    match part.parse::<usize>() {
                        Ok(index) if index <= entries => path = format!("{path}[{index}]"),
                        _ => {
                            let what = format!("`{part}` is not an entry of [[{path}]]");
                            let help = format!("entries are counted from 0; the next new one is {entries}");
                            return Err(problem(name, what, help));
                        }
                    }
                    shape = *next;
                }
                Shape::Value(..) | Shape::OneOrMany(_) => {
                    return Err(problem(name, format!("unknown key: `{path}` has no parts"), None));
                }
            }
        }
        match (shape, key) {
            (Shape::Value(..), Some(key)) => Ok((path, key)),
            (Shape::Table(keys), _) => {
                let known: Vec<_> = keys.iter().map(|key| key.name).collect();
                Err(problem(
                    name,
                    "names a table, not a key",
                    format!("append `__` and one of {}", known.join(", ")),
                ))
            }
            _ => Err(problem(name, "names tables, not a key", None)),
        }
    }

    /// The name in the file, below `path`, that `part` of a variable stands for.
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
        self.spans
            .keys()
            .filter_map(|key| key.strip_prefix(path)?.strip_prefix('.'))
            .find(|name| same(name))
    }

    /// Whether the file or a variable has a key whose path begins with `start`.
    fn has_keys(&self, start: &str) -> bool {
        self.spans
            .keys()
            .chain(self.variables.keys())
            .any(|key| key.starts_with(start))
    }

    fn has_entry(&self, path: &str) -> bool {
        let below = |key: &String| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.spans.contains_key(path) || self.variables.keys().any(below)
    }
}

/// Parses the text of a variable as a value of `kind`. A string stays a string ("007" does not become a number).
pub(super) fn parse(kind: Kind, text: &str) -> Result<Value, &'static str> {
    match kind {
        Kind::Number(_) => match text.trim().parse::<i64>() {
            Ok(number) if number >= 0 => Ok(number.into()),
            // The text may have a unit. If it has, it is checked later.
            _ if kind != Kind::Number(Unit::One) => Ok(text.into()),
            _ => Err("expected a number, 0 or more, in digits"),
        },
        Kind::Flag => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err("expected true or false"),
        },
        Kind::Texts | Kind::TextOrTexts => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(str::to_owned).collect::<Vec<String>>().into())
        }
        Kind::Text | Kind::File | Kind::Secret | Kind::Words(_) | Kind::Address => Ok(text.into()),
    }
}

fn problem(variable: &str, what: impl Into<String>, help: impl Into<Option<String>>) -> Mistake {
    Mistake {
        location: Location::Variable(variable.to_owned()),
        key: None,
        what: what.into(),
        help: help.into(),
    }
}
