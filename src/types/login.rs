//! Logins. Two logins that differ only in the case of their domain are the same.

/// The spelling in which logins and users are compared and stored: the domain, after the last `@`, in lower case. (RFC
/// 5321 §2.4: the case of a domain does not matter, that of a local part may.) A login without a domain gets
/// `default_domain`.
pub fn canonical(login: &str, default_domain: Option<&str>) -> String {
    match (login.rfind('@'), default_domain) {
        (Some(at), _) => {
            let (user, domain) = login.split_at(at);
            format!("{user}{}", domain.to_ascii_lowercase())
        }
        (None, Some(domain)) => format!("{login}@{domain}"),
        (None, None) => login.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        for (login, default_domain, expected) in [
            ("Eva@Example.ORG", None, "Eva@example.org"),
            ("Eva@Example.ORG", Some("example.net"), "Eva@example.org"),
            ("E@va@X", None, "E@va@x"),
            ("Eva", None, "Eva"),
            ("Eva", Some("example.net"), "Eva@example.net"),
            ("EXAMPLE\\Eva", None, "EXAMPLE\\Eva"),
            ("*@Example.org", None, "*@example.org"),
            ("eva@BÜCHER.example", None, "eva@bÜcher.example"),
            ("eva@", Some("example.net"), "eva@"),
            ("", None, ""),
        ] {
            assert_eq!(canonical(login, default_domain), expected, "{login}");
        }
    }
}
