//! A maildrop's policy in words: one line for each login.

use crate::config::Policy;

/// What `login` sees of `mailbox` and does to it, as one sentence that begins with `login`.
pub(super) fn explain(login: &str, mailbox: &str, policy: &Policy) -> String {
    let mut sees = vec![format!("sees {} of {mailbox}", folders(&policy.folders))];
    sees.extend(policy.describe_view());
    let mut clauses = vec![sees.join(", ")];
    clauses.extend(policy.describe_effects());
    format!("{login}: {}", clauses.join("; "))
}

fn folders(folders: &[String]) -> String {
    match folders {
        [folder] => folder.clone(),
        [first @ .., last] => format!("{} and {last}, merged,", first.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// The sentence on a `[upstream.home.maildrop]` with these keys.
    fn said(keys: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("uidls.txt"), "a\t<x@example.org>\nb\t7\n").unwrap();
        let text =
            format!("[upstream.home]\nhost = \"imap.example.org\"\nlogins = [\"*\"]\n[upstream.home.maildrop]\n{keys}");
        let config = Config::parse(&text, directory.path()).unwrap();
        let said = explain("tickets", "office", &config.upstreams[0].maildrop);
        said.strip_prefix("tickets: ").unwrap().to_owned()
    }

    #[test]
    fn everything_at_once_is_one_line() {
        let keys = "newest = 500\non_delete = \"trash\"\nretain_days = 14\non_retrieve = \"keep\"\n";
        assert_eq!(
            said(keys),
            "sees INBOX of office, newest 500; retrieving changes nothing; a delete moves to Trash; \
             what it retrieved is deleted 14 days later"
        );
    }

    #[test]
    fn defaults_are_short() {
        assert_eq!(
            said(""),
            "sees INBOX of office; retrieving marks as read; a delete removes for good"
        );
    }

    #[test]
    fn what_is_seen() {
        for (keys, part) in [
            (
                "folder = [\"INBOX\", \"Lists\"]",
                "sees INBOX and Lists, merged, of office; ",
            ),
            ("folder = [\"A\", \"B\", \"C\"]", "sees A, B and C, merged, of office; "),
            ("unseen_only = true", "of office, unread only; "),
            ("within_days = 1", "of office, of the last day; "),
            ("within_days = 30", "of office, of the last 30 days; "),
            (
                "newest = 5\norder = \"newest-first\"",
                "of office, newest 5, newest first; ",
            ),
            ("max_octets = 10000000", "of office, larger than 10 MB left out; "),
            (
                "max_octets = 1048576\noversize = \"notice\"",
                "larger than 1 MiB replaced by a notice; ",
            ),
            ("max_octets = 20480", "larger than 20 KiB left out; "),
            ("max_octets = 5000", "larger than 5 kB left out; "),
            ("max_octets = 999", "larger than 999 octets left out; "),
            (
                "folder_separator = \"+\"",
                "; +FOLDER after the login picks another folder; ",
            ),
        ] {
            let said = said(keys);
            assert!(said.contains(part), "{keys}: {said}");
        }
    }

    #[test]
    fn what_becomes_of_mail() {
        for (keys, end) in [
            ("on_delete = \"trash\"", "a delete moves to Trash"),
            (
                "on_delete = \"trash\"\ntrash_folder = \"Bin\"",
                "a delete moves to Trash (Bin, if the server marks no folder as trash)",
            ),
            ("on_delete = \"move:Old/Mail\"", "a delete moves to Old/Mail"),
            ("on_delete = \"hide\"", "a delete hides from this login only"),
            (
                "delete_after_retrieve = true",
                "; what it retrieved is deleted when it quits",
            ),
            ("retain_days = 1", "; what it retrieved is deleted 1 day later"),
            (
                "on_delete = \"hide\"\nretain_days = 2",
                "; what it retrieved is hidden 2 days later",
            ),
            (
                "on_delete = \"hide\"\ndelete_after_retrieve = true",
                "; what it retrieved is hidden when it quits",
            ),
        ] {
            let said = said(keys);
            assert!(said.ends_with(end), "{keys}: {said}");
        }
    }

    #[test]
    fn what_uidl_says() {
        for (keys, end) in [
            ("uidl = \"validity.uid\"", "; a delete removes for good"),
            ("uidl = \"dovecot\"", "; UIDLs as dovecot"),
            ("uidl = \"%u-%08Xv\"", "; UIDLs as %u-%08Xv"),
            ("uidl_import = \"uidls.txt\"", "; UIDLs 2 imported"),
            (
                "uidl = \"uid\"\nuidl_import = \"uidls.txt\"",
                "; UIDLs as uid, 2 imported",
            ),
        ] {
            let said = said(keys);
            assert!(said.ends_with(end), "{keys}: {said}");
        }
    }

    #[test]
    fn no_line_is_broken() {
        assert!(!said("folder = \"x\"").contains('\n'));
        assert!(
            Config::parse(
                "[upstream.a]\nhost = \"a\"\nmaildrop = { folder = \"x\\ny\" }",
                Path::new("")
            )
            .is_err()
        );
    }
}
