use std::{ffi::OsString, path::Path, time::Duration};

use super::{ACCOUNT, UPSTREAM, errors::expect};
use crate::config::{
    Config, Nul, OnDelete, OnRetrieve, Order, Oversize, Policy, Retention, UidlFormat, View, environment::ours,
    load::layered,
};

/// The policies of an upstream with the keys `upstream`, and of an account there with the keys `account`.
#[track_caller]
fn policies(upstream: &str, account: &str) -> (Policy, Policy) {
    let text =
        format!("{UPSTREAM}maildrop = {{ {upstream} }}\n{ACCOUNT}password = \"p\"\nmaildrop = {{ {account} }}\n");
    let config = Config::parse(&text, Path::new("")).unwrap();
    let [upstream, account] = [&config.upstreams[0].maildrop, &config.accounts[0].maildrop];
    (upstream.as_ref().clone(), account.as_ref().clone())
}

#[test]
fn keys_become_a_policy() {
    let (policy, inherited) = policies(
        "folder = [\"inbox\", \"Lists/Arbeit für mich\"], folder_separator = \"--\", on_retrieve = \"keep\", \
         on_delete = \"trash\", trash_folder = \"Bin\", retain_days = 14, unseen_only = true, within_days = 30, \
         newest = 500, max_octets = 5000000000, oversize = \"notice\", order = \"newest-first\", nul = \"drop\", \
         pad_header = true, uidl = \"courier\", wait_seconds = 20, fold_lines = 2048",
        "",
    );
    let expected = Policy {
        folders: vec!["INBOX".into(), "Lists/Arbeit für mich".into()],
        folder_separator: Some("--".into()),
        on_retrieve: OnRetrieve::Keep,
        on_delete: OnDelete::Trash,
        trash_folder: Some("Bin".into()),
        retention: Retention::Days(14),
        view: View {
            unseen_only: true,
            within_days: Some(30),
            newest: Some(500),
            max_octets: Some(5_000_000_000),
            oversize: Oversize::Notice,
            order: Order::NewestFirst,
        },
        nul: Nul::Drop,
        pad_header: true,
        uidl: UidlFormat::Courier,
        uidl_import: None,
        wait: Duration::from_secs(20),
        fold_lines: Some(2048),
    };
    assert_eq!(policy, expected);
    assert_eq!(inherited, expected);
}

#[test]
fn an_account_overrides_key_by_key() {
    let (_, policy) = policies(
        "folder = [\"A\", \"B\"], on_delete = \"trash\", trash_folder = \"Bin\", newest = 5, unseen_only = true, \
         order = \"newest-first\", uidl = \"uid\"",
        "folder = \"C\", on_delete = \"move:D\", newest = 7, unseen_only = false, uidl = \"%v-%u\"",
    );
    assert_eq!(policy.folders, ["C"]);
    assert_eq!(policy.on_delete, OnDelete::MoveTo("D".into()));
    assert_eq!(policy.trash_folder.as_deref(), Some("Bin"));
    assert_eq!((policy.view.newest, policy.view.unseen_only), (Some(7), false));
    assert_eq!(policy.view.order, Order::NewestFirst);
    assert_eq!(policy.uidl.to_string(), "%v-%u");
}

#[test]
fn the_nearer_retention_wins() {
    use Retention::{AfterRetrieve, Days, Keep};
    for (upstream, account, expected) in [
        ("", "", Keep),
        ("retain_days = 14", "", Days(14)),
        ("retain_days = 14", "retain_days = 36500", Days(36500)),
        ("retain_days = 14", "delete_after_retrieve = true", AfterRetrieve),
        ("retain_days = 14", "delete_after_retrieve = false", Days(14)),
        ("delete_after_retrieve = true", "", AfterRetrieve),
        ("delete_after_retrieve = true", "retain_days = 3", Days(3)),
        ("delete_after_retrieve = true", "delete_after_retrieve = false", Keep),
        (
            "delete_after_retrieve = true",
            "delete_after_retrieve = false, retain_days = 3",
            Days(3),
        ),
    ] {
        assert_eq!(
            policies(upstream, account).1.retention,
            expected,
            "{upstream} / {account}"
        );
    }
}

#[test]
fn words_of_on_delete() {
    for (word, expected) in [
        ("expunge", OnDelete::Expunge),
        ("trash", OnDelete::Trash),
        ("hide", OnDelete::Hide),
        ("move:Old/2026", OnDelete::MoveTo("Old/2026".into())),
        ("move:a:b", OnDelete::MoveTo("a:b".into())),
    ] {
        assert_eq!(policies(&format!("on_delete = \"{word}\""), "").0.on_delete, expected);
    }
}

#[test]
fn gmail_deletes_by_its_trash() {
    let on_delete = |host: &str, keys: &str| {
        let text = format!("[upstream.g]\nhost = \"{host}\"\nlogins = [\"*\"]\nmaildrop = {{ {keys} }}\n");
        let config = Config::parse(&text, Path::new("")).unwrap();
        config.upstreams[0].maildrop.on_delete.clone()
    };
    for host in ["imap.gmail.com", "IMAP.googlemail.com", "imap.gmail.com."] {
        assert_eq!(on_delete(host, ""), OnDelete::Trash, "{host}");
        assert_eq!(on_delete(host, "on_delete = \"expunge\""), OnDelete::Expunge, "{host}");
    }
    assert_eq!(on_delete("imap.gmail.com.example.org", ""), OnDelete::Expunge);
}

#[test]
fn folders_from_the_environment() {
    let folders = |value: &str| {
        let variable = ("POPGATE__UPSTREAM__HOME__MAILDROP__FOLDER", value);
        let variables = ours([(OsString::from(variable.0), OsString::from(variable.1))]);
        let text = format!("{UPSTREAM}maildrop = {{ folder = [\"A\", \"B\", \"C\"] }}\n");
        let loaded = layered(Path::new("gateway.toml"), text, Path::new(""), variables);
        loaded.map(|loaded| loaded.config.upstreams[0].maildrop.folders.clone())
    };
    assert_eq!(folders("12").unwrap(), ["12"]);
    assert_eq!(folders("INBOX, Lists").unwrap(), ["INBOX", "Lists"]);
    let error = folders("").unwrap_err().to_string();
    assert!(
        error.starts_with("environment variable POPGATE__UPSTREAM__HOME__MAILDROP__FOLDER: ")
            && error.contains("is empty"),
        "{error}"
    );
}

#[test]
fn wrong_keys_name_line_and_what_to_do() {
    for (line, what, help) in [
        ("folder = []", "is empty", "leave it out for INBOX"),
        ("folder = \"\"", "is empty", ""),
        ("folder = [\"A\", \"\"]", "is empty", ""),
        ("folder = [\"A\", \"B\", \"A\"]", "\"A\" is given twice", ""),
        ("folder = [\"INBOX\", \"Inbox\"]", "\"INBOX\" is given twice", ""),
        (
            "folder = 5",
            "expected a string or a list of strings, found a number",
            "[\"…\", \"…\"]",
        ),
        ("folder = [5]", "expected strings in the list, found a number", ""),
        (
            "folder = [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\"]",
            "9 folders take 9 connections at once, and connections_per_user is 8",
            "raise connections_per_user",
        ),
        ("folder_separator = \"\"", "is empty", "leave it out"),
        ("folder_separator = \"@\"", "'@' can't separate", ""),
        ("folder_separator = \"+*\"", "'*' can't separate", ""),
        ("folder_separator = \" \"", "' ' can't separate", ""),
        ("folder_separator = \"\\t\"", "holds a control character", ""),
        (
            "on_delete = \"expung\"",
            "unknown value \"expung\"",
            "did you mean \"expunge\"?",
        ),
        ("on_delete = \"move\"", "unknown value \"move\"", "\"move:Archive\""),
        ("on_delete = \"mvoe\"", "unknown value \"mvoe\"", "\"move:Archive\""),
        ("on_delete = \"move:\"", "is empty", "\"move:Archive\""),
        (
            "on_delete = \"moves:Old\"",
            "unknown value \"moves:Old\"",
            "write \"move:Old\"",
        ),
        (
            "on_delete = \"archive\"",
            "unknown value \"archive\"",
            "one of \"expunge\", \"trash\", \"move:FOLDER\", \"hide\"",
        ),
        (
            "on_delete = \"move:inbox\"",
            "deleted messages would move to \"INBOX\", which is shown",
            "",
        ),
        ("on_retrieve = \"delete\"", "unknown value \"delete\"", ""),
        ("trash_folder = \"\"", "is empty", ""),
        ("retain_days = 0", "0 is out of range", "from 1 to 36500"),
        ("retain_days = 36501", "36501 is out of range", "from 1 to 36500"),
        ("within_days = 0", "0 is out of range", ""),
        ("newest = 0", "0 is out of range", ""),
        ("newest = 4294967296", "4294967296 is out of range", ""),
        ("max_octets = 0", "0 is out of range", ""),
        (
            "oversize = \"leaveout\"",
            "unknown value \"leaveout\"",
            "did you mean \"leave-out\"?",
        ),
        (
            "order = \"newest-fist\"",
            "unknown value \"newest-fist\"",
            "did you mean \"newest-first\"?",
        ),
        (
            "uidl = \"dovcot\"",
            "unknown value \"dovcot\"",
            "did you mean \"dovecot\"?",
        ),
        ("uidl = \"%v\"", "does not name %u", ""),
        ("uidl = \"%g\"", "`%g` is unknown here", "uidl_import"),
        ("uidl_import = \"/nonexistent\"", "/nonexistent: No such file", ""),
        ("uidl_import = \"\"", "is empty", ""),
    ] {
        let key = line.split(' ').next().unwrap();
        let start = format!("5: `upstream.home.maildrop.{key}`: {what}");
        expect(&format!("[upstream.home.maildrop]\n{line}"), &start, help);
    }
}

#[test]
fn keys_that_contradict_each_other() {
    let table = "[upstream.home.maildrop]\n";
    expect(
        &format!("{table}retain_days = 3\ndelete_after_retrieve = true"),
        "5: `upstream.home.maildrop.retain_days`: delete_after_retrieve = true is given too",
        "give one of the two",
    );
    expect(
        &format!("{table}folder = [\"INBOX\", \"Bin\"]\non_delete = \"trash\"\ntrash_folder = \"Bin\""),
        "7: `upstream.home.maildrop.trash_folder`: deleted messages would move to \"Bin\", which is shown",
        "",
    );
    expect(
        &format!("{table}on_delete = \"move:Old\"\n{ACCOUNT}password = \"p\"\nmaildrop.folder = \"Old\""),
        "11: `account[0].maildrop.folder`: deleted messages would move to \"Old\"",
        "",
    );
    // `trash_folder` does not matter here.
    expect(
        &format!(
            "{table}on_delete = \"move:Old\"\n{ACCOUNT}password = \"p\"\nmaildrop.trash_folder = \"Bin\"\n\
             maildrop.folder = \"Old\""
        ),
        "12: `account[0].maildrop.folder`: deleted messages would move to \"Old\"",
        "",
    );
    let text = "[upstream.a]\nhost = \"a\"\nlogins = [\"me+*\"]\nmaildrop = { folder_separator = \"+\" }";
    let error = super::errors::error(text);
    assert!(
        error.starts_with("gateway.toml:3: `upstream.a.logins`: \"me+*\" holds \"+\", the folder_separator"),
        "{error}"
    );
}

#[test]
fn imported_uidls() {
    let directory = tempfile::tempdir().unwrap();
    let load = |content: &[u8], keys: &str| {
        std::fs::write(directory.path().join("uidls.txt"), content).unwrap();
        let text = format!("{UPSTREAM}maildrop = {{ uidl_import = \"uidls.txt\"{keys} }}\n{ACCOUNT}password = \"p\"\n");
        layered(Path::new("gateway.toml"), text, directory.path(), Vec::new())
    };
    let loaded = load(b"old.1\t<a@example.org>\nold.2\t17\n", "").unwrap();
    let import = loaded.config.accounts[0].maildrop.uidl_import.as_ref().unwrap();
    assert_eq!(import.find(17, None), Some("old.2"));
    let debug = format!("{:?}", loaded.config.upstreams);
    assert!(!debug.contains("example.org>") && debug.contains("1 by UID"), "{debug}");

    let loaded = load(b"old.1\t<a>\nold.2\t<a>\n", "").unwrap();
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.contains("1 Message-ID occurs more than once")),
        "{:?}",
        loaded.warnings
    );

    let file = directory.path().join("uidls.txt");
    for (content, keys, part) in [
        (&b"a\t1\na\t2\n"[..], "", ":2: the same UIDL as in line 1"),
        (b"a\t1\n\xff\t2\n", "", ":2: not UTF-8"),
        (b"a\t1\n", ", folder = [\"A\", \"B\"]", "names messages by UID"),
    ] {
        let error = load(content, keys).unwrap_err().to_string();
        assert!(
            error.starts_with("gateway.toml:4: `upstream.home.maildrop.uidl_import`: "),
            "{error}"
        );
        let named = part.starts_with(':').then(|| format!("{}{part}", file.display()));
        assert!(error.contains(named.as_deref().unwrap_or(part)), "{error}");
    }
    assert!(load(b"a\t<x>\n", ", folder = [\"A\", \"B\"]").is_ok());
}
