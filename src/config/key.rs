//! What a key is. Each key is declared once, by `table!` in `keys/`. The declaration says everything that popgate knows
//! about the key.

use std::{collections::BTreeMap, marker::PhantomData};

use config::{Map, ValueKind};

use super::{Policy, Upstream, environment, nearest::quoted_list, unit::Unit};

/// A key of `gateway.toml`, or a table of keys.
#[derive(Debug)]
pub(crate) struct Key {
    pub(super) name: &'static str,
    /// The explanation for people, line by line. A test checks that no key lacks it.
    pub(super) doc: &'static [&'static str],
    pub(super) shape: Shape,
    /// The value that applies if the key is not given, written as in an environment variable.
    pub(super) default: Option<&'static str>,
    /// In words, the behaviour if the key is missing; empty if `default` says it.
    pub(super) otherwise: &'static str,
    /// A value to show if there is no default, written as in an environment variable.
    pub(super) example: &'static str,
    /// The lowest and the highest allowed number.
    pub(super) range: Option<(u64, u64)>,
    /// How to write a value, for an error about the key.
    pub(super) help: &'static str,
    /// Another key of the same table: if an account gives this key, the upstream's value of the other key no longer
    /// applies.
    pub(super) replaces: Option<&'static str>,
    /// How `check` describes the value.
    pub(super) says: Says,
    /// The first version of popgate that knows the key.
    pub(super) since: &'static str,
}

/// How `popgate check` describes a key. The functions use the verified values, and return `None` if there is nothing to
/// say.
#[derive(Debug, Clone, Copy)]
pub(super) enum Says {
    Nothing,
    /// Which messages a login sees: "newest 5".
    Seen(fn(&Policy) -> Option<String>),
    /// What happens to messages: "a delete removes for good".
    Clause(fn(&Policy) -> Option<String>),
    /// How popgate reaches an upstream: "tls: implicit".
    Reached(fn(&Upstream) -> Option<String>),
}

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// A value of a kind, and the function that checks it.
    Value(Kind, fn(&Raw<'_>) -> Result<(), Wrong>),
    Table(&'static [Key]),
    /// Tables by name: `[upstream.NAME]`.
    Named(&'static Shape),
    /// An array of tables: `[[account]]`.
    List(&'static Shape),
    /// A table, or an array of them: `[tls]` or `[[tls]]`.
    OneOrMany(&'static Shape),
}

/// What a value looks like in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// The name of a file or directory.
    File,
    /// A string that must not be shown.
    Secret,
    /// One of these words.
    Words(&'static [&'static str]),
    /// An address and a port.
    Address,
    /// A number, 0 or more.
    Number(Unit),
    /// `true` or `false`.
    Flag,
    /// A list of strings; in the environment separated by commas.
    Texts,
    /// A string or a list of strings; in the environment separated by commas.
    TextOrTexts,
}

/// A value as it was written in the file or the environment.
#[derive(Debug)]
pub(super) enum Raw<'a> {
    Text(&'a str),
    Number(u64),
    Flag(bool),
    Texts(Vec<&'a str>),
}

/// What is wrong with a value, and how to mend it. Without `help` the key's own `help` is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) help: Option<String>,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: None,
        }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

/// A type for the values of keys.
pub(super) trait Value: Sized {
    const KIND: Kind;

    /// Fails if `raw` has another kind or is not valid.
    fn read(raw: &Raw<'_>) -> Result<Self, Wrong>;
}

/// A type for the fields of tables: a [`Value`] with a default, an `Option` of one, or tables.
pub(super) trait Field: Sized {
    const SHAPE: Shape;

    /// Reads a value that was merged from the file and the environment. A wrong value has been reported already, and
    /// counts as missing.
    fn take(value: Option<config::Value>, key: &Key) -> Self;
}

impl<T: Value> Field for Option<T> {
    const SHAPE: Shape = Shape::Value(T::KIND, |raw| T::read(raw).map(drop));

    fn take(value: Option<config::Value>, key: &Key) -> Self {
        with_raw(&value?, |raw| key.check(raw).and_then(|()| T::read(raw)).ok())
    }
}

impl<T: Value> Field for T {
    const SHAPE: Shape = <Option<T> as Field>::SHAPE;

    fn take(value: Option<config::Value>, key: &Key) -> Self {
        <Option<T> as Field>::take(value, key)
            .or_else(|| {
                with_raw(&environment::parse(T::KIND, key.default?).ok()?, |raw| {
                    T::read(raw).ok()
                })
            })
            .expect("a test reads the default of every key")
    }
}

/// A table of keys. `table!` implements this.
pub(super) trait Table: Sized {
    const KEYS: &'static [Key];

    fn take(values: Map<String, config::Value>) -> Self;
}

impl<T: Table> Field for BTreeMap<String, T> {
    const SHAPE: Shape = Shape::Named(&Shape::Table(T::KEYS));

    fn take(value: Option<config::Value>, _: &Key) -> Self {
        let tables = value.and_then(|value| value.into_table().ok()).unwrap_or_default();
        tables
            .into_iter()
            .filter_map(|(name, table)| Some((name, T::take(table.into_table().ok()?))))
            .collect()
    }
}

impl<T: Table> Field for Vec<T> {
    const SHAPE: Shape = Shape::List(&Shape::Table(T::KEYS));

    fn take(value: Option<config::Value>, _: &Key) -> Self {
        let tables = value.and_then(|value| value.into_array().ok()).unwrap_or_default();
        tables
            .into_iter()
            .map(|table| T::take(table.into_table().unwrap_or_default()))
            .collect()
    }
}

/// A table, or an array of them.
#[derive(Debug)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// Each table with the path of its keys. `name` is the name of the table or array.
    pub(super) fn by_path(self, name: &str) -> Vec<(String, T)> {
        match self {
            Self::One(table) => vec![(name.to_owned(), table)],
            Self::Many(tables) => {
                let tables = tables.into_iter().enumerate();
                tables
                    .map(|(index, table)| (format!("{name}[{index}]"), table))
                    .collect()
            }
        }
    }
}

impl<T: Table> Field for OneOrMany<T> {
    const SHAPE: Shape = Shape::OneOrMany(&Shape::Table(T::KEYS));

    fn take(value: Option<config::Value>, key: &Key) -> Self {
        match value.map(|value| value.kind) {
            Some(ValueKind::Table(values)) => Self::One(T::take(values)),
            Some(kind @ ValueKind::Array(_)) => Self::Many(Field::take(Some(config::Value::new(None, kind)), key)),
            _ => Self::Many(Vec::new()),
        }
    }
}

/// A table whose keys override those of another one, as an account's maildrop overrides its upstream's.
#[derive(Debug)]
pub(super) struct Layer<T> {
    values: Map<String, config::Value>,
    table: PhantomData<T>,
}

impl<T: Table> Field for Layer<T> {
    const SHAPE: Shape = Shape::Table(T::KEYS);

    fn take(value: Option<config::Value>, _: &Key) -> Self {
        Self {
            values: value.and_then(|value| value.into_table().ok()).unwrap_or_default(),
            table: PhantomData,
        }
    }
}

impl<T: Table> Layer<T> {
    /// A layer of keys with these values, which must be strings.
    pub(super) fn of<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let values = values.into_iter().map(|(name, text)| (name.to_owned(), text.into()));
        Self {
            values: values.collect(),
            table: PhantomData,
        }
    }

    /// The keys of both layers. A key of this layer takes the place of the same key of `below`, and of the key that it
    /// `replaces`.
    pub(super) fn over(&self, below: &Self) -> Self {
        let mut values = below.values.clone();
        for key in T::KEYS {
            // `false` only repeats the default, so it replaces nothing.
            if let Some(other) = key.replaces
                && self
                    .values
                    .get(key.name)
                    .is_some_and(|value| !matches!(value.kind, ValueKind::Boolean(false)))
            {
                values.remove(other);
            }
        }
        values.extend(self.values.clone());
        Self {
            values,
            table: PhantomData,
        }
    }

    pub(super) fn read(&self) -> T {
        T::take(self.values.clone())
    }

    /// Whether this layer itself gives the key `name`.
    pub(super) fn gives(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

/// Returns what `read` makes of `value`; `None` if no key can have such a value, such as a negative number.
pub(super) fn with_raw<T>(value: &config::Value, read: impl FnOnce(&Raw<'_>) -> Option<T>) -> Option<T> {
    let raw = match &value.kind {
        ValueKind::String(text) => Raw::Text(text),
        ValueKind::I64(number) => Raw::Number(u64::try_from(*number).ok()?),
        ValueKind::Boolean(flag) => Raw::Flag(*flag),
        ValueKind::Array(items) => {
            let texts = items.iter().map(|item| match &item.kind {
                ValueKind::String(text) => Some(text.as_str()),
                _ => None,
            });
            Raw::Texts(texts.collect::<Option<_>>()?)
        }
        _ => return None,
    };
    read(&raw)
}

impl Key {
    pub(super) const fn new(name: &'static str, doc: &'static [&'static str], shape: Shape) -> Self {
        Self {
            name,
            doc,
            shape,
            default: None,
            otherwise: "",
            example: "",
            range: None,
            help: "",
            replaces: None,
            says: Says::Nothing,
            since: "0.1.0",
        }
    }

    pub(super) const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    pub(super) const fn otherwise(mut self, words: &'static str) -> Self {
        self.otherwise = words;
        self
    }

    pub(super) const fn example(mut self, value: &'static str) -> Self {
        self.example = value;
        self
    }

    pub(super) const fn within(mut self, least: u64, most: u64) -> Self {
        self.range = Some((least, most));
        self
    }

    pub(super) const fn help(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }

    pub(super) const fn replaces(mut self, key: &'static str) -> Self {
        self.replaces = Some(key);
        self
    }

    pub(super) const fn says(mut self, says: Says) -> Self {
        self.says = says;
        self
    }

    /// Checks the range, and what the type of the value demands. An error without `help` gets that of the key.
    pub(super) fn check(&self, raw: &Raw<'_>) -> Result<(), Wrong> {
        let Shape::Value(kind, read) = self.shape else {
            return Ok(());
        };
        if let (Kind::Number(unit), Some((least, most))) = (kind, self.range) {
            let number = unit.read(raw)?;
            if !(least..=most).contains(&number) {
                let wrong = Wrong::new(format!("{number} is out of range"));
                return Err(wrong.help(format!("from {least} to {most}")));
            }
        }
        read(raw).map_err(|wrong| Wrong {
            help: wrong.help.or((!self.help.is_empty()).then(|| self.help.to_owned())),
            ..wrong
        })
    }

    /// The kind of value that the key has; `None` if it is a table.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.shape {
            Shape::Value(kind, _) => Some(kind),
            _ => None,
        }
    }
}

impl Shape {
    /// The key at `path`, such as `account[0].login`.
    pub(super) fn find(&self, path: &str) -> Option<&'static Key> {
        let mut shape = *self;
        let mut found = None;
        for part in path.split('.') {
            shape = match shape {
                Shape::Named(inner) => *inner,
                Shape::Table(keys) => {
                    let name = part.split('[').next().unwrap_or(part);
                    let key = keys.iter().find(|key| key.name == name)?;
                    found = Some(key);
                    match key.shape {
                        Shape::List(inner) | Shape::OneOrMany(inner) => *inner,
                        shape => shape,
                    }
                }
                _ => return None,
            };
        }
        found
    }
}

impl Kind {
    /// What the strict pass expects, and how to write that.
    pub(super) fn expected(self) -> (&'static str, String) {
        match self {
            Self::Text | Self::File | Self::Secret => ("a string", "put it in double quotes".into()),
            Self::Words(words) => ("a string", format!("one of {}", quoted_list(words.iter().copied()))),
            Self::Address => ("a string", "an address and a port, such as \"0.0.0.0:110\"".into()),
            Self::Number(Unit::One) => ("a number", "write it in digits, without quotes".into()),
            Self::Number(unit) => ("a number", format!("write {}", unit.usage())),
            Self::Flag => ("true or false", "write true or false, without quotes".into()),
            Self::Texts => ("a list of strings", "write it as [\"…\", \"…\"]".into()),
            Self::TextOrTexts => (
                "a string or a list of strings",
                "write it as \"…\" or [\"…\", \"…\"]".into(),
            ),
        }
    }
}

/// Declares tables. Each becomes a struct with a field for every key, and a list of its [`Key`]s. With a `default`, the
/// type of a field is the type of its value, else an `Option` of it.
macro_rules! table {
    ($($(#[doc = $about:expr])* $name:ident {
        $($(#[doc = $doc:expr])* $key:ident: $kind:ty [$($option:ident($($argument:expr),*)),*];)*
    })*) => {$(
        $(#[doc = $about])*
        #[derive(Debug)]
        pub(in crate::config) struct $name {
            $($(#[doc = $doc])* pub(in crate::config) $key: $kind,)*
        }

        impl $crate::config::key::Table for $name {
            const KEYS: &'static [$crate::config::key::Key] = &[$(
                $crate::config::key::Key::new(
                    stringify!($key),
                    &[$($doc),*],
                    <$kind as $crate::config::key::Field>::SHAPE,
                )$(.$option($($argument),*))*
            ),*];

            fn take(mut values: config::Map<String, config::Value>) -> Self {
                let mut keys = Self::KEYS.iter();
                Self {
                    $($key: $crate::config::key::Field::take(
                        values.remove(stringify!($key)),
                        keys.next().expect("there are as many keys as fields"),
                    ),)*
                }
            }
        }

        impl $crate::config::key::Field for $name {
            const SHAPE: $crate::config::key::Shape =
                $crate::config::key::Shape::Table(<Self as $crate::config::key::Table>::KEYS);

            fn take(value: Option<config::Value>, _: &$crate::config::key::Key) -> Self {
                let values = value.and_then(|value| value.into_table().ok()).unwrap_or_default();
                $crate::config::key::Table::take(values)
            }
        }

        /// A table that may be absent.
        impl $crate::config::key::Field for Option<$name> {
            const SHAPE: $crate::config::key::Shape = <$name as $crate::config::key::Field>::SHAPE;

            fn take(value: Option<config::Value>, key: &$crate::config::key::Key) -> Self {
                value.map(|value| $crate::config::key::Field::take(Some(value), key))
            }
        }
    )*};
}

pub(super) use table;
