//! Logins that also name a folder: `office+Invoices` and `office+Invoices@example.org`.

use std::borrow::Cow;

/// Splits `login` at the first `separator` that is not at its start. Returns the login without the folder, and the folder,
/// which may be empty. A domain belongs to the login, whether it stands before the separator or after the folder.
pub(super) fn split<'a>(login: &'a str, separator: &str) -> Option<(Cow<'a, str>, &'a str)> {
    let (at, _) = login.match_indices(separator).find(|(at, _)| *at > 0)?;
    let (user, rest) = (&login[..at], &login[at + separator.len()..]);
    match rest.rsplit_once('@') {
        Some((folder, domain)) if !user.contains('@') => Some((format!("{user}@{domain}").into(), folder)),
        _ => Some((user.into(), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_goes_with_the_login() {
        for (login, separator, expected) in [
            ("office+Invoices", "+", Some(("office", "Invoices"))),
            (
                "office+Invoices@example.org",
                "+",
                Some(("office@example.org", "Invoices")),
            ),
            (
                "office@example.org+Invoices",
                "+",
                Some(("office@example.org", "Invoices")),
            ),
            (
                "office@example.org+In@voices",
                "+",
                Some(("office@example.org", "In@voices")),
            ),
            (
                "office+In@voices@example.org",
                "+",
                Some(("office@example.org", "In@voices")),
            ),
            ("office+Invoices+2026", "+", Some(("office", "Invoices+2026"))),
            ("office--Ärger/Müll", "--", Some(("office", "Ärger/Müll"))),
            ("office+", "+", Some(("office", ""))),
            ("office+@example.org", "+", Some(("office@example.org", ""))),
            ("+49123", "+", None),
            ("+49123+Invoices", "+", Some(("+49123", "Invoices"))),
            ("office", "+", None),
            ("", "+", None),
        ] {
            let parts = split(login, separator);
            let parts = parts.as_ref().map(|(login, folder)| (login.as_ref(), *folder));
            assert_eq!(parts, expected, "{login}");
        }
    }
}
