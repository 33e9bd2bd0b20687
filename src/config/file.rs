//! The shape of `gateway.toml`: its tables and keys, before anything is verified.
//!
//! One declaration gives both the structs that serde fills and a [`Node`] tree of all keys, which the
//! strict pass and the environment walk.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

use super::Secret;

/// What a key holds, or a table's keys.
#[derive(Debug)]
pub(super) enum Node {
    /// A string.
    Text,
    /// A string that must not be shown.
    Secret,
    /// A number, 0 or more.
    Number,
    /// `true` or `false`.
    Flag,
    /// A list of strings; in the environment separated by commas.
    Texts,
    /// A string or a list of strings; in the environment separated by commas.
    TextOrTexts,
    /// A table with these keys.
    Table(&'static [(&'static str, Node)]),
    /// Tables by name: `[upstream.NAME]`.
    Named(&'static Node),
    /// An array of tables: `[[account]]`.
    List(&'static Node),
}

/// A type of the shape.
pub(super) trait Shape {
    /// Its keys.
    const NODE: Node;
}

impl Shape for Option<String> {
    const NODE: Node = Node::Text;
}
impl Shape for Option<Secret> {
    const NODE: Node = Node::Secret;
}
impl Shape for Option<u64> {
    const NODE: Node = Node::Number;
}
impl Shape for Option<bool> {
    const NODE: Node = Node::Flag;
}
impl Shape for Option<Vec<String>> {
    const NODE: Node = Node::Texts;
}
impl Shape for Option<TextOrTexts> {
    const NODE: Node = Node::TextOrTexts;
}
impl Shape for Option<Tls> {
    const NODE: Node = Tls::NODE;
}
impl Shape for Option<OAuth2> {
    const NODE: Node = OAuth2::NODE;
}
impl<T: Shape + 'static> Shape for BTreeMap<String, T> {
    const NODE: Node = Node::Named(&T::NODE);
}
impl<T: Shape + 'static> Shape for Vec<T> {
    const NODE: Node = Node::List(&T::NODE);
}

/// `"INBOX"` or `["INBOX", "Lists"]`.
#[derive(Debug)]
pub(super) struct TextOrTexts(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for TextOrTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
                Ok(vec![text.to_owned()])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(texts)
            }
        }

        deserializer.deserialize_any(Either).map(Self)
    }
}

macro_rules! shape {
    ($($(#[$doc:meta])* $name:ident { $($key:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name {
            $(pub(super) $key: $kind,)*
        }

        impl Shape for $name {
            const NODE: Node = Node::Table(&[$((stringify!($key), <$kind as Shape>::NODE)),*]);
        }
    )*}
}

shape! {
    /// The whole file.
    Document {
        state: State,
        log: Log,
        limits: Limits,
        web: Web,
        tls: Option<Tls>,
        listener: Vec<Listener>,
        upstream: BTreeMap<String, Upstream>,
        account: Vec<Account>,
    }
    /// `[state]`
    State {
        dir: Option<String>,
        key: Option<Secret>,
        key_file: Option<String>,
    }
    /// `[web]`
    Web {
        address: Option<String>,
        public_url: Option<String>,
        admin_password: Option<Secret>,
        admin_password_file: Option<String>,
    }
    /// `[log]`
    Log {
        format: Option<String>,
        level: Option<String>,
    }
    /// `[limits]`
    Limits {
        sessions: Option<u64>,
        sessions_per_address: Option<u64>,
        login_seconds: Option<u64>,
        idle_seconds: Option<u64>,
        upstream_seconds: Option<u64>,
        bad_commands: Option<u64>,
        read_ahead_bytes: Option<u64>,
        parked_seconds: Option<u64>,
        drain_seconds: Option<u64>,
    }
    /// `[tls]`
    Tls {
        certificate: Option<String>,
        key: Option<String>,
    }
    /// `[[listener]]`
    Listener {
        address: Option<String>,
        tls: Option<String>,
        require_tls: Option<bool>,
        allow: Option<Vec<String>>,
    }
    /// `[upstream.NAME]`
    Upstream {
        preset: Option<String>,
        host: Option<String>,
        port: Option<u64>,
        tls: Option<String>,
        ca_file: Option<String>,
        fingerprint: Option<String>,
        auth: Option<String>,
        proxy: Option<Secret>,
        pipelining: Option<bool>,
        logins: Option<Vec<String>>,
        connections_per_user: Option<u64>,
        oauth2: Option<OAuth2>,
        maildrop: Maildrop,
    }
    /// `[upstream.NAME.oauth2]`
    OAuth2 {
        grant: Option<String>,
        tenant: Option<String>,
        client_id: Option<String>,
        client_secret: Option<Secret>,
        client_secret_file: Option<String>,
        client_authentication: Option<String>,
        private_key_file: Option<String>,
        certificate_file: Option<String>,
        certificate_form: Option<String>,
        key_id: Option<String>,
        device_url: Option<String>,
        authorize_url: Option<String>,
        token_url: Option<String>,
        revoke_url: Option<String>,
        redirect_url: Option<String>,
        issuer: Option<String>,
        scopes: Option<Vec<String>>,
        ca_file: Option<String>,
    }
    /// `[upstream.NAME.maildrop]` and `maildrop = { … }` of an account
    Maildrop {
        folder: Option<TextOrTexts>,
        folder_separator: Option<String>,
        on_retrieve: Option<String>,
        on_delete: Option<String>,
        trash_folder: Option<String>,
        delete_after_retrieve: Option<bool>,
        retain_days: Option<u64>,
        unseen_only: Option<bool>,
        within_days: Option<u64>,
        newest: Option<u64>,
        max_octets: Option<u64>,
        oversize: Option<String>,
        order: Option<String>,
        uidl: Option<String>,
        uidl_import: Option<String>,
    }
    /// `[[account]]`
    Account {
        login: Option<String>,
        password: Option<Secret>,
        password_file: Option<String>,
        password_hash: Option<Secret>,
        passwords_file: Option<String>,
        upstream: Option<String>,
        user: Option<String>,
        upstream_password: Option<Secret>,
        upstream_password_file: Option<String>,
        signed_in_as: Option<String>,
        maildrop: Maildrop,
    }
}

#[cfg(test)]
impl Node {
    /// Every key below, as `(table, key)` with `NAME` for names: `("upstream.NAME", "host")`.
    fn keys(&self, path: &str, found: &mut Vec<(String, String)>) {
        match self {
            Self::Table(keys) => {
                for (key, node) in *keys {
                    match node {
                        Self::Table(_) | Self::Named(_) | Self::List(_) => {
                            node.keys(&format!("{path}{}{key}", if path.is_empty() { "" } else { "." }), found)
                        }
                        _ => found.push((path.to_owned(), (*key).to_owned())),
                    }
                }
            }
            Self::Named(node) => node.keys(&format!("{path}.NAME"), found),
            Self::List(node) => node.keys(path, found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that the example bears, commented out or not, by table.
    fn example_keys() -> Vec<(String, String)> {
        let mut table = String::new();
        let mut found = Vec::new();
        for line in include_str!("../../gateway.toml.example").lines() {
            let line = line.strip_prefix('#').unwrap_or(line);
            if let Some(header) = line.strip_prefix('[') {
                table = header.trim_start_matches('[').split(']').next().unwrap().to_owned();
                // Whatever the upstream is called.
                if let Some(rest) = table.strip_prefix("upstream.") {
                    let key = rest.split_once('.').map(|(_, key)| format!(".{key}"));
                    table = format!("upstream.NAME{}", key.unwrap_or_default());
                }
            } else if !line.starts_with(' ')
                && let Some((key, value)) = line.split_once(" = ")
            {
                match value.strip_prefix("{ ") {
                    None => found.push((table.clone(), key.to_owned())),
                    Some(inline) => {
                        for pair in inline.split(", ") {
                            let inner = pair.split_once(" = ").unwrap().0;
                            found.push((format!("{table}.{key}"), inner.to_owned()));
                        }
                    }
                }
            }
        }
        found
    }

    #[test]
    fn example_bears_every_key() {
        let mut keys = Vec::new();
        Document::NODE.keys("", &mut keys);
        assert!(
            keys.contains(&("upstream.NAME.maildrop".into(), "on_delete".into())),
            "{keys:?}"
        );
        // An account's keys are those of the upstream, where they are explained.
        for (table, _) in &mut keys {
            if table == "account.maildrop" {
                *table = "upstream.NAME.maildrop".into();
            }
        }
        let example = example_keys();
        let missing: Vec<_> = keys.iter().filter(|key| !example.contains(key)).collect();
        assert!(missing.is_empty(), "gateway.toml.example lacks {missing:?}");
    }
}
