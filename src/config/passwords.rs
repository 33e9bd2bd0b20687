//! `passwords_file`: a line `login:hash` for each login; `popgate hash-password` makes the hash. Empty lines and lines
//! that begin with `#` are ignored.

use std::collections::BTreeMap;

use super::{Secret, hash::argon2_hash};
use crate::types::canonical;

/// The hashes in a file, by login (see [`canonical`]).
#[derive(Debug, Default)]
pub struct Passwords(BTreeMap<String, String>);

impl Passwords {
    /// Parses `text`. Logins without a domain get `default_domain`. Errors have the number of the line, but nothing of
    /// its content.
    pub fn parse(text: &str, default_domain: Option<&str>) -> Result<Self, String> {
        let mut hashes = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| format!("line {}: {what}", number + 1);
            // A hash has no colon, but a login may.
            let (login, hash) = line
                .rsplit_once(':')
                .ok_or_else(|| wrong("is not of the form login:hash"))?;
            if login.is_empty() || login.chars().any(char::is_control) {
                return Err(wrong("the login is empty or holds a control character"));
            }
            let hash = argon2_hash(&Secret::from(hash)).map_err(|refused| wrong(&refused.what))?;
            if hashes.insert(canonical(login, default_domain), hash).is_some() {
                return Err(wrong("an earlier line has the same login"));
            }
        }
        Ok(Self(hashes))
    }

    /// The hash of `login`, which must be [`canonical`]; `None` if no line has this login.
    pub fn hash(&self, login: &str) -> Option<&str> {
        self.0.get(login).map(String::as_str)
    }

    /// All logins, sorted, each as [`canonical`] spells it.
    pub fn logins(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of the password `x`.
    const HASH: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$C3UeayebQZmFumdLvz7AwQ$wTnF3BQ6nftUUTC/JzyhOC5mqKt4gniXHxugoR5Xb6k";

    #[test]
    fn a_line_a_login() {
        let hash = HASH.to_owned();
        let passwords =
            Passwords::parse(&format!("# devices\n\neva@example.org:{hash}\r\n a:b:{hash}\n"), None).unwrap();
        assert_eq!(passwords.hash("eva@example.org"), Some(hash.as_str()));
        assert_eq!(passwords.logins().collect::<Vec<_>>(), ["a:b", "eva@example.org"]);
        let passwords = Passwords::parse(&format!("Eva:{hash}\nadam@EXAMPLE.com:{hash}"), Some("example.org")).unwrap();
        assert_eq!(
            passwords.logins().collect::<Vec<_>>(),
            ["Eva@example.org", "adam@example.com"]
        );
        assert_eq!(passwords.hash("adam@example.org"), None);
        for (text, wrong) in [
            ("eva".to_owned(), "line 1: is not of the form"),
            (format!("\n:{hash}"), "line 2: the login is empty"),
            ("eva:plain".to_owned(), "line 1: is not a valid PHC string"),
            ("eva:$argon2id$v=19".to_owned(), "line 1: is not"),
            ("eva:$2b$12$abc".to_owned(), "line 1: is a bcrypt hash"),
            (
                format!("eva:{hash}\neva:{hash}"),
                "line 2: an earlier line has the same login",
            ),
            (
                format!("eva@x:{hash}\neva@X:{hash}"),
                "line 2: an earlier line has the same login",
            ),
        ] {
            let error = Passwords::parse(&text, None).unwrap_err();
            assert!(error.starts_with(wrong), "{error}");
        }
    }
}
