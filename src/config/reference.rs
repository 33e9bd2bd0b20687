//! The documentation of all keys: lists for people and programs, and `gateway.toml.example`.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{
    environment,
    key::{Key, Kind, Raw, Shape, with_raw},
    keys::Document,
    nearest::quoted_list,
};

struct KeyEntry {
    /// The path of the table, such as `upstream.NAME`.
    table: String,
    key: &'static Key,
    /// Whether accounts have a table with the same keys, which override these.
    by_account: bool,
}

impl KeyEntry {
    fn path(&self) -> String {
        format!("{}.{}", self.table, self.key.name)
    }

    fn kind(&self) -> Kind {
        self.key.kind().unwrap_or(Kind::Text)
    }

    /// The table's header as in the file: `[[listener]]`, `[limits]`.
    fn header(&self) -> String {
        match self.table.as_str() {
            table @ ("listener" | "account") => format!("[[{table}]]"),
            table => format!("[{table}]"),
        }
    }
}

/// All keys; each table is listed once.
fn entries() -> Vec<KeyEntry> {
    let mut entries = Vec::new();
    collect("", Document::SHAPE, &mut entries);
    entries
}

fn collect(path: &str, shape: Shape, entries: &mut Vec<KeyEntry>) {
    match shape {
        Shape::Named(inner) => collect(&format!("{path}.NAME"), *inner, entries),
        Shape::List(inner) | Shape::OneOrMany(inner) => collect(path, *inner, entries),
        Shape::Table(keys) => {
            let of_table = |entry: &&mut KeyEntry| keys.iter().any(|key| std::ptr::eq(key, entry.key));
            let mut known = entries.iter_mut().filter(of_table).peekable();
            if known.peek().is_some() {
                return known.for_each(|entry| entry.by_account = true);
            }
            let (tables, values): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.kind().is_none());
            entries.extend(values.into_iter().map(|key| KeyEntry {
                table: path.to_owned(),
                key,
                by_account: false,
            }));
            for table in tables {
                let dot = if path.is_empty() { "" } else { "." };
                collect(&format!("{path}{dot}{}", table.name), table.shape, entries);
            }
        }
        Shape::Value(..) => {}
    }
}

/// The first key with this name, in whatever table.
pub(super) fn named(name: &str) -> Option<&'static Key> {
    entries()
        .into_iter()
        .find(|entry| entry.key.name == name)
        .map(|entry| entry.key)
}

/// The names of all keys, each with whether it is a secret in any table.
pub(super) fn names() -> BTreeMap<&'static str, bool> {
    let mut names = BTreeMap::new();
    for entry in entries() {
        *names.entry(entry.key.name).or_default() |= entry.kind() == Kind::Secret;
    }
    names
}

/// Whether there may be several tables of this name.
pub(super) fn is_repeatable(table: &str) -> bool {
    let key = Document::SHAPE.find(table);
    key.is_some_and(|key| matches!(key.shape, Shape::List(_) | Shape::OneOrMany(_)))
}

/// The tables that have a key of this name, as headers.
pub(super) fn tables_with(name: &str) -> Vec<String> {
    let entries = entries();
    let tables = entries.iter().filter(|entry| entry.key.name == name);
    tables.map(KeyEntry::header).collect()
}

impl Key {
    /// The first sentence of the key's explanation.
    fn summary(&self) -> String {
        let text = self.text();
        match text.split_once(". ") {
            Some((first, _)) => first.to_owned(),
            None => text.trim_end_matches('.').to_owned(),
        }
    }

    fn text(&self) -> String {
        let lines: Vec<_> = self.doc.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    }

    /// Which values are possible, in words.
    fn values(&self) -> String {
        let range = |unit: &str| match self.range {
            Some((least, most)) => format!("{unit}, {least} to {most}"),
            None => unit.to_owned(),
        };
        match self.kind().unwrap_or(Kind::Text) {
            Kind::Text => "text".into(),
            Kind::File => "file".into(),
            Kind::Secret => "secret text".into(),
            Kind::Words(words) => quoted_list(words.iter().copied()),
            Kind::Address => "address and port".into(),
            Kind::Number(unit) => range(unit.name().unwrap_or("number")),
            Kind::Flag => "true, false".into(),
            Kind::Texts => "list of texts".into(),
            Kind::TextOrTexts => "text, or list of texts".into(),
        }
    }

    /// The value that applies if the key is not given, in words; empty if there is none.
    fn without(&self) -> String {
        match (self.otherwise, self.default) {
            ("", Some(value)) => self.toml(value),
            (otherwise, _) => otherwise.to_owned(),
        }
    }

    /// Writes `value`, which has the form of an environment variable, in TOML.
    fn toml(&self, value: &str) -> String {
        let list = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| toml_string(text)).collect();
            format!("[{}]", texts.join(", "))
        };
        let kind = self.kind().unwrap_or(Kind::Text);
        let read = environment::parse(kind, value).ok();
        let shown = read.and_then(|read| {
            with_raw(&read, |raw| {
                Some(match (raw, kind) {
                    (Raw::Text(text), _) => toml_string(text),
                    (Raw::Texts(texts), Kind::TextOrTexts) if texts.len() == 1 => toml_string(texts[0]),
                    (Raw::Texts(texts), _) => list(texts),
                    (Raw::Number(number), _) => number.to_string(),
                    (Raw::Flag(flag), _) => flag.to_string(),
                })
            })
        });
        shown.unwrap_or_default()
    }
}

/// `text` as a string of TOML, with its quotation marks.
pub(crate) fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Joins the texts of all tables: `head` makes the text of a table's header, `line` that of each key. An empty line
/// separates tables.
fn by_table(head: impl Fn(&str) -> String, line: impl Fn(&KeyEntry) -> String) -> String {
    let entries = entries();
    let tables = entries.chunk_by(|one, other| one.table == other.table);
    let texts = tables.map(|table| head(&table[0].header()) + &table.iter().map(&line).collect::<String>());
    texts.collect::<Vec<_>>().join("\n")
}

/// All keys as text, each with its values, default and meaning.
pub fn keys_as_text() -> String {
    let line = |entry: &KeyEntry| {
        let without = match entry.key.without().as_str() {
            "" => "no default".to_owned(),
            without => format!("default: {without}"),
        };
        let override_ = if entry.by_account {
            "; an account may differ"
        } else {
            ""
        };
        format!(
            "  {} ({}; {without}{override_})\n      {}\n",
            entry.key.name,
            entry.key.values(),
            entry.key.text()
        )
    };
    by_table(|header| format!("{header}\n"), line)
}

/// All keys as JSON, for programs.
pub fn keys_as_json() -> Json {
    let key = |entry: &KeyEntry| {
        let kind = entry.kind();
        let key = entry.key;
        let words = match kind {
            Kind::Words(words) => json!(words),
            _ => Json::Null,
        };
        json!({
            "key": entry.path(),
            "variable": format!("POPGATE__{}", entry.path().replace('.', "__").to_ascii_uppercase()),
            "type": match kind {
                Kind::Text | Kind::File | Kind::Secret | Kind::Words(_) | Kind::Address => "text",
                Kind::Number(_) => "number",
                Kind::Flag => "flag",
                Kind::Texts => "texts",
                Kind::TextOrTexts => "text or texts",
            },
            "unit": match kind {
                Kind::Number(unit) => unit.name(),
                _ => None,
            },
            "words": words,
            "least": key.range.map(|(least, _)| least),
            "most": key.range.map(|(_, most)| most),
            "default": key.default.map(|value| key.toml(value)),
            "otherwise": (!key.otherwise.is_empty()).then_some(key.otherwise),
            "example": (!key.example.is_empty()).then(|| key.toml(key.example)),
            "secret": kind == Kind::Secret,
            "account": entry.by_account,
            "since": key.since,
            "doc": key.text(),
        })
    };
    entries().iter().map(key).collect()
}

/// All keys as Markdown, for docs/src/configuration.md.
pub fn keys_as_markdown() -> String {
    let line = |entry: &KeyEntry| {
        let without = match (entry.key.otherwise, entry.key.without()) {
            (_, without) if without.is_empty() => String::new(),
            ("", value) => format!("`{value}`"),
            (_, words) => words,
        };
        let cells = [
            format!("`{}`", entry.key.name),
            entry.key.values().replace('"', "`"),
            without,
            entry.key.summary(),
        ];
        format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
    };
    by_table(
        |header| format!("| `{header}` | values | default | |\n|---|---|---|---|\n"),
        line,
    )
}

/// `gateway.toml.example`: an outline that is filled with the keys.
///
/// A line `@TABLE.KEY` of the outline is replaced by the key's explanation and the key with its default or example,
/// commented out. With `!` after the `@`, the key is not commented out. With ` = VALUE` the key gets this value.
/// `@TABLE.*` is replaced by all keys of the table that no other line names, so a new key gets into the example by
/// itself.
pub fn example() -> String {
    let outline = include_str!("gateway.toml.outline");
    let entries = entries();
    let directive = |line: &'static str| line.strip_prefix('@').map(|line| line.trim_start_matches('!'));
    let named: Vec<_> = outline
        .lines()
        .filter_map(|line| Some(directive(line)?.split(" = ").next().unwrap_or_default()))
        .collect();
    let mut text = String::new();
    for line in outline.lines() {
        let Some(rest) = directive(line) else {
            text += line;
            text.push('\n');
            continue;
        };
        let (path, value) = match rest.split_once(" = ") {
            Some((path, value)) => (path, Some(value)),
            None => (rest, None),
        };
        let is_selected = |entry: &&KeyEntry| match path.strip_suffix(".*") {
            Some(table) => entry.table == table && !named.contains(&entry.path().as_str()),
            None => entry.path() == path,
        };
        for KeyEntry { key, .. } in entries.iter().filter(is_selected) {
            for line in key.doc {
                text += &format!("#{line}\n");
            }
            let comment = if line.starts_with("@!") { "" } else { "#" };
            let default = key.default.filter(|value| !value.is_empty()).unwrap_or(key.example);
            let value = value.map_or_else(|| key.toml(default), str::to_owned);
            text += &format!("{comment}{} = {value}\n", key.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_examples_are_valid() {
        for entry in entries() {
            let key = entry.key;
            for value in [key.default.unwrap_or_default(), key.example] {
                let of_list = matches!(entry.kind(), Kind::Texts);
                if value.is_empty() && (!of_list || key.default.is_none()) {
                    continue;
                }
                let read =
                    environment::parse(entry.kind(), value).unwrap_or_else(|error| panic!("{}: {error}", entry.path()));
                let checked = with_raw(&read, |raw| Some(key.check(raw)));
                assert_eq!(checked, Some(Ok(())), "{}: {value:?}", entry.path());
            }
        }
    }

    #[test]
    fn each_key_is_explained_and_has_a_value_to_show() {
        for entry in entries() {
            let key = entry.key;
            assert!(!key.doc.is_empty(), "{}", entry.path());
            assert!(
                key.default.is_some_and(|value| !value.is_empty()) || !key.example.is_empty(),
                "{}",
                entry.path()
            );
            let longest = key.doc.iter().map(|line| line.chars().count() + 1).max();
            assert!(longest <= Some(121), "{}: {longest:?}", entry.path());
        }
    }

    #[test]
    fn the_example_shows_each_key() {
        let example = example();
        for entry in entries() {
            let shown = example.lines().any(|line| {
                line.trim_start_matches('#')
                    .starts_with(&format!("{} = ", entry.key.name))
            });
            assert!(shown, "{}", entry.path());
            let explained = example.contains(&format!("#{}", entry.key.doc[0]));
            assert!(explained, "{}", entry.path());
        }
    }

    #[test]
    fn only_the_keys_of_maildrops_are_overridden() {
        let overridden: Vec<_> = entries().into_iter().filter(|entry| entry.by_account).collect();
        assert!(
            overridden
                .iter()
                .any(|entry| entry.path() == "upstream.NAME.maildrop.on_delete")
        );
        assert!(overridden.iter().all(|entry| entry.table == "upstream.NAME.maildrop"));
    }
}
