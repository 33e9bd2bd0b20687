//! What the names of a user's folders begin with on a server (RFC 2342), and how a configured name is translated.
//!
//! A configuration writes folders with `/` between their levels and without any prefix: `Archive/2024`. A server may
//! call that folder `INBOX.Archive.2024`. A name in the server's own form is accepted too.

use std::sync::Arc;

use dashmap::DashMap;

use super::token;

/// The most users whose namespaces are remembered. If there are more, all are forgotten and asked for again.
const REMEMBERED: usize = 10_000;

/// The known namespaces of one upstream's users, and the user for whom they are looked up here.
#[derive(Debug, Clone)]
pub(super) struct Namespaces {
    all: Arc<DashMap<String, Arc<Namespace>>>,
    user: String,
}

impl Namespaces {
    pub(super) fn new(all: Arc<DashMap<String, Arc<Namespace>>>, user: &str) -> Self {
        Self {
            all,
            user: user.to_owned(),
        }
    }

    pub(super) fn known(&self) -> Option<Arc<Namespace>> {
        self.all.get(&self.user).map(|known| known.clone())
    }

    /// Remembers this user's namespace. If [`REMEMBERED`] users are known, forgets them first.
    pub(super) fn remember(&self, namespace: Namespace) -> Arc<Namespace> {
        if self.all.len() >= REMEMBERED {
            self.all.clear();
        }
        let namespace = Arc::new(namespace);
        self.all.insert(self.user.clone(), namespace.clone());
        namespace
    }
}

/// The namespaces of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// What the names of the user's own folders begin with, except INBOX: `INBOX.`, for example, or nothing. UTF-8.
    prefix: String,
    /// What stands between the levels of a name; `None` if there are no levels.
    separator: Option<char>,
    /// Prefixes of other users' and shared folders.
    others: Vec<String>,
    /// Whether this was guessed from the names of the folders, since the server has not said it.
    is_guess: bool,
}

impl Namespace {
    /// Parses `NAMESPACE (("INBOX." ".")) NIL (("shared." "."))`; `decode` makes the names UTF-8. `None` if it is
    /// something else.
    pub(super) fn parse(response: &[u8], decode: impl Fn(&[u8]) -> String) -> Option<Self> {
        let (_, mut rest) = token::word(response);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            // Personal namespaces must be there; the others may be missing.
            match namespaces(&mut rest) {
                Some(kind) => kinds.push(kind),
                None if kinds.is_empty() => return None,
                None => break,
            }
        }
        let mut kinds = kinds.into_iter();
        let personal = kinds.next()?;
        let others = kinds.flatten().map(|(prefix, _)| decode(&prefix));
        let others = others.filter(|prefix| !prefix.is_empty()).collect();
        let (prefix, separator) = personal.into_iter().next()?;
        Some(Self {
            prefix: decode(&prefix),
            separator,
            others,
            is_guess: false,
        })
    }

    /// Guesses the namespace of a server without NAMESPACE from the separator and the names of all folders: if INBOX is
    /// one of them and all others lie below it, INBOX with the separator is the prefix.
    pub(super) fn of_folders<'a>(separator: Option<char>, names: impl Iterator<Item = &'a str>) -> Self {
        let (inbox, others): (Vec<&str>, Vec<&str>) = names.partition(|name| name.eq_ignore_ascii_case("INBOX"));
        let below = separator.map(|separator| format!("INBOX{separator}"));
        let are_below = |below: &String| others.iter().all(|name| starts_with(name, below));
        let has_both = !inbox.is_empty() && !others.is_empty();
        Self {
            prefix: below.filter(|below| has_both && are_below(below)).unwrap_or_default(),
            separator,
            others: Vec::new(),
            is_guess: true,
        }
    }

    /// The same namespace with INBOX as its prefix. `None` if the server itself has said that there is no prefix, if
    /// there is one already, or if there is no separator.
    pub(super) fn below_inbox(&self) -> Option<Self> {
        let separator = self.separator.filter(|_| self.is_guess && self.prefix.is_empty())?;
        Some(Self {
            prefix: format!("INBOX{separator}"),
            ..self.clone()
        })
    }

    /// What the names of the user's own folders begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The server's name of the folder that the configuration calls `name`.
    pub fn on_server(&self, name: &str) -> String {
        if name.eq_ignore_ascii_case("INBOX") {
            return name.to_owned();
        }
        let name = match self.separator {
            Some(separator) if separator != '/' => name.replace('/', &separator.to_string()),
            _ => name.to_owned(),
        };
        let is_whole = starts_with(&name, &self.prefix) || self.others.iter().any(|other| starts_with(&name, other));
        if is_whole {
            name
        } else {
            format!("{}{name}", self.prefix)
        }
    }

    /// The server's name of one of the user's own folders, without the prefix.
    pub fn without_prefix<'a>(&self, name: &'a str) -> &'a str {
        if starts_with(name, &self.prefix) {
            &name[self.prefix.len()..]
        } else {
            name
        }
    }
}

/// Whether `name` begins with `prefix`; INBOX counts in any case (RFC 3501 §5.1).
fn starts_with(name: &str, prefix: &str) -> bool {
    match name.as_bytes().get(..prefix.len()) {
        Some(head) if head == prefix.as_bytes() => true,
        Some(head) => {
            prefix.get(..5).is_some_and(|inbox| inbox.eq_ignore_ascii_case("INBOX"))
                && head[..5].eq_ignore_ascii_case(b"INBOX")
                && head[5..] == prefix.as_bytes()[5..]
        }
        None => false,
    }
}

/// Takes `NIL` or a list of namespaces from the start of `rest`.
fn namespaces(rest: &mut &[u8]) -> Option<Vec<(Vec<u8>, Option<char>)>> {
    *rest = rest.trim_ascii_start();
    if rest.get(..3).is_some_and(|nil| nil.eq_ignore_ascii_case(b"NIL")) {
        *rest = &rest[3..];
        return Some(Vec::new());
    }
    *rest = rest.strip_prefix(b"(")?;
    let mut found = Vec::new();
    loop {
        *rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b")") {
            *rest = after;
            return Some(found);
        }
        *rest = rest.strip_prefix(b"(")?;
        let prefix = token::string(rest)?;
        let separator = token::string(rest)?;
        let separator = match separator.as_slice() {
            [octet] => Some(char::from(*octet)),
            _ => None,
        };
        found.push((prefix, separator));
        // Extensions follow: strings and lists.
        while !rest.is_empty() && !rest.starts_with(b")") {
            match rest.strip_prefix(b"(") {
                Some(list) => {
                    let end = memchr::memchr(b')', list)?;
                    *rest = list[end + 1..].trim_ascii_start();
                }
                None => drop(token::string(rest)?),
            }
        }
        *rest = rest.strip_prefix(b")")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(response: &str) -> Option<Namespace> {
        Namespace::parse(response.as_bytes(), |name| String::from_utf8_lossy(name).into_owned())
    }

    fn namespace(prefix: &str, separator: char, others: &[&str]) -> Namespace {
        Namespace {
            prefix: prefix.into(),
            separator: Some(separator),
            others: others.iter().map(|&other| other.to_owned()).collect(),
            is_guess: false,
        }
    }

    #[test]
    fn responses_in_all_shapes() {
        for (response, expected) in [
            ("NAMESPACE ((\"\" \"/\")) NIL NIL", namespace("", '/', &[])),
            (
                "namespace ((\"INBOX.\" \".\")) nil ((\"#shared.\" \".\")(\"shared.\" \".\"))",
                namespace("INBOX.", '.', &["#shared.", "shared."]),
            ),
            (
                "NAMESPACE ((\"INBOX.\" \".\" \"X-PARAM\" (\"FLAG1\" \"FLAG2\"))) ((\"user.\" \".\"))",
                namespace("INBOX.", '.', &["user."]),
            ),
            (
                "NAMESPACE  ( (\"\" \"\\\\\") ) ( (\"Other Users/\" \"/\") ) NIL",
                namespace("", '\\', &["Other Users/"]),
            ),
            ("NAMESPACE ((INBOX. \".\"))", namespace("INBOX.", '.', &[])),
        ] {
            assert_eq!(parse(response), Some(expected), "{response}");
        }
        let flat = parse("NAMESPACE ((\"\" NIL)) NIL NIL").unwrap();
        assert_eq!((flat.separator, flat.on_server("a/b")), (None, "a/b".into()));
        for response in [
            "NAMESPACE",
            "NAMESPACE NIL NIL NIL",
            "NAMESPACE ((\"x",
            "NAMESPACE x",
            "NAMESPACE ((",
        ] {
            assert_eq!(parse(response), None, "{response}");
        }
    }

    #[test]
    fn names_as_configured_and_as_the_server_has_them() {
        let courier = namespace("INBOX.", '.', &["#shared.", "shared."]);
        let cyrus = namespace("INBOX.", '.', &["user.", ""]);
        let dovecot = namespace("", '.', &[]);
        let plain = namespace("", '/', &["Other Users/"]);
        for (server, name, expected) in [
            (&courier, "Archive/2024", "INBOX.Archive.2024"),
            (&courier, "Archive.2024", "INBOX.Archive.2024"),
            (&courier, "INBOX.Archive.2024", "INBOX.Archive.2024"),
            (&courier, "INBOX/Archive", "INBOX.Archive"),
            (&courier, "inbox.Archive", "inbox.Archive"),
            (&courier, "shared/x", "shared.x"),
            (&courier, "INBOX", "INBOX"),
            (&courier, "Inbox", "Inbox"),
            (&courier, "INBOXES", "INBOX.INBOXES"),
            (&cyrus, "user.joe.Sent", "user.joe.Sent"),
            (&dovecot, "Archive/2024", "Archive.2024"),
            (&dovecot, "Archive", "Archive"),
            (&plain, "Archive/2024", "Archive/2024"),
            (&plain, "Other Users/joe", "Other Users/joe"),
            (&plain, "v1.2", "v1.2"),
        ] {
            let server = Namespace {
                others: server
                    .others
                    .iter()
                    .filter(|other| !other.is_empty())
                    .cloned()
                    .collect(),
                ..server.clone()
            };
            assert_eq!(server.on_server(name), expected, "{server:?}");
        }
        assert_eq!(courier.without_prefix("INBOX.Trash"), "Trash");
        assert_eq!(courier.without_prefix("Trash"), "Trash");
    }

    #[test]
    fn without_namespace_the_folders_tell() {
        let of = |names: &[&str]| Namespace::of_folders(Some('.'), names.iter().copied()).prefix;
        assert_eq!(of(&["INBOX", "INBOX.Sent", "INBOX.Trash"]), "INBOX.");
        assert_eq!(of(&["INBOX", "INBOX.Sent", "Trash"]), "");
        assert_eq!((of(&["INBOX"]), of(&["INBOX.Sent"])), (String::new(), String::new()));
        assert_eq!(of(&[]), "");
        let unsure = Namespace::of_folders(Some('.'), ["INBOX"].into_iter());
        assert_eq!(
            unsure.below_inbox().map(|below| below.on_server("Trash")).as_deref(),
            Some("INBOX.Trash")
        );
        let sure = parse("NAMESPACE ((\"\" \".\")) NIL NIL").unwrap();
        assert_eq!(sure.below_inbox(), None);
        assert_eq!(Namespace::of_folders(None, ["INBOX"].into_iter()).prefix, "");
    }
}
