use std::path::Path;

use super::UPSTREAM;
use crate::config::load::layered;

#[track_caller]
fn warnings(text: String) -> Vec<String> {
    layered(Path::new("gateway.toml"), text, Path::new(""), Vec::new())
        .unwrap()
        .warnings
}

#[test]
fn policies_that_need_or_contradict_something() {
    let state = "[state]\ndir = \"data\"\n";
    for (keys, dir, expected) in [
        ("", "", &[][..]),
        (
            "on_delete = \"hide\"",
            state,
            &["popgate takes forwarded logins that differ in case before the \"@\""],
        ),
        (
            "on_delete = \"hide\"",
            "",
            &["on_delete = \"hide\" without `dir` in [state]", "differ in case before"],
        ),
        (
            "retain_days = 3",
            state,
            &[
                "differ in case before",
                "retain_days is applied to forwarded logins when",
            ],
        ),
        (
            "retain_days = 3",
            "",
            &[
                "retain_days without `dir` in [state]",
                "differ in case before",
                "retain_days is applied to forwarded",
            ],
        ),
        ("wait_seconds = 59", "", &[]),
        ("wait_seconds = 60", "", &["wait_seconds is 60, and login_seconds 60"]),
        ("on_delete = \"move:Done\"", "", &[]),
        (
            "on_delete = \"move:Done\", folder_separator = \"+\"",
            "",
            &["a device may pick \"Done\" by folder_separator"],
        ),
        ("delete_after_retrieve = true", "", &[]),
        (
            "delete_after_retrieve = true, on_delete = \"hide\"",
            state,
            &[
                "delete_after_retrieve with on_delete = \"hide\" frees no space",
                "differ in case before",
            ],
        ),
        (
            "retain_days = 3, on_delete = \"hide\"",
            state,
            &[
                "retain_days with on_delete = \"hide\" frees no space",
                "differ in case before",
                "applied to forwarded",
            ],
        ),
        ("unseen_only = true", "", &[]),
        (
            "unseen_only = true, on_retrieve = \"keep\", delete_after_retrieve = true",
            "",
            &[],
        ),
        (
            "unseen_only = true, on_retrieve = \"keep\"",
            "",
            &["unseen_only with on_retrieve = \"keep\""],
        ),
        ("uidl = \"dovecot\"", "", &[]),
        (
            "uidl = \"uid\"",
            "",
            &["uidl = \"uid\": when the server numbers a folder anew"],
        ),
        ("uidl = \"%v%u\"", "", &["uidl = \"%v%u\": when"]),
        ("trash_folder = \"Bin\"", "", &["trash_folder is given, but"]),
        ("trash_folder = \"Bin\", on_delete = \"trash\"", "", &[]),
    ] {
        let warnings = warnings(format!("{dir}{UPSTREAM}maildrop = {{ {keys} }}\n"));
        assert_eq!(warnings.len(), expected.len(), "{keys}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(
                warning.starts_with("upstream.home: ") && warning.contains(expected),
                "{keys}: {warning}"
            );
        }
    }
}

#[test]
fn expunge_on_gmail() {
    let of = |keys: &str| {
        warnings(format!(
            "[upstream.g]\nhost = \"imap.gmail.com\"\nlogins = [\"*\"]\nmaildrop = {{ {keys} }}\n"
        ))
    };
    assert!(of("").is_empty() && of("on_delete = \"move:Old\"").is_empty());
    let warnings = of("on_delete = \"expunge\"");
    assert!(
        warnings.len() == 1 && warnings[0].contains("EXPUNGE there may only archive"),
        "{warnings:?}"
    );
}

#[cfg(unix)]
#[test]
fn secrets_in_a_file_that_every_user_may_read() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.toml");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    for (keys, expected) in [
        ("proxy = \"socks5://127.0.0.1:1080\"", None),
        (
            "proxy = \"socks5://joe:hunter2@127.0.0.1:1080\"",
            Some("(upstream.home.proxy)"),
        ),
        (
            "[notify]\nwebhook = \"https://alerts.example.org/hunter2\"",
            Some("(notify.webhook)"),
        ),
    ] {
        let loaded = layered(&file, format!("{UPSTREAM}{keys}\n"), directory.path(), Vec::new()).unwrap();
        let mut warnings = loaded.warnings.iter();
        let warning = warnings.find(|warning| warning.contains("may be read by every user"));
        assert_eq!(warning.is_some(), expected.is_some(), "{keys}: {warning:?}");
        if let (Some(warning), Some(expected)) = (warning, expected) {
            assert!(warning.contains(expected), "{warning}");
        }
    }
}

/// Accounts share the keys of their upstream, so one warning is for all. An upstream without `logins` only gives
/// defaults.
#[test]
fn a_risk_is_told_once() {
    let account = |login: &str, keys: &str| {
        format!(
            "[[account]]\nlogin = \"{login}\"\nupstream = \"home\"\nmaildrop = {{ {keys} }}\n\
             password_hash = \"$argon2id$v=19$m=19456,t=2,p=1$KdKzVSjkmu+x+3uVqCToXQ$492FOdnvLm9sbDj2LbVueNvYe41QLBpmcPIioX5vYwM\"\n\
             upstream_password = \"p\"\n"
        )
    };
    let text = format!(
        "[upstream.home]\nhost = \"a\"\nmaildrop = {{ on_delete = \"hide\", trash_folder = \"Bin\" }}\n{}{}{}{}",
        account("a", ""),
        account("b", ""),
        account("c", "on_delete = \"trash\""),
        account("d", "retain_days = 3, on_delete = \"expunge\""),
    );
    let warnings: Vec<_> = warnings(text)
        .into_iter()
        .filter(|warning| !warning.contains("holds passwords"))
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with("login a, login b: on_delete = \"hide\" without"),
        "{warnings:?}"
    );
    assert!(warnings[1].starts_with("login d: retain_days without"), "{warnings:?}");
}

/// Names that the upstream may compare in another way than popgate.
#[test]
fn names_that_differ_in_case() {
    let of = |accounts: &[(&str, &str)]| {
        let accounts: String = accounts
            .iter()
            .map(|(login, user)| {
                format!(
                    "[[account]]\nlogin = \"{login}\"\npassword = \"p\"\nupstream = \"home\"\nuser = \"{user}\"\n\
                     upstream_password = \"p\"\n"
                )
            })
            .collect();
        warnings(format!("[upstream.home]\nhost = \"a\"\n{accounts}"))
    };
    for (accounts, expected) in [
        (&[("a", "eva@x"), ("b", "eva@x"), ("c", "adam@x")][..], None),
        (&[("a", "eva@X")], Some("login a: `user` goes to the server as eva@x,")),
        (
            &[("a", "eva@x"), ("b", "Eva@x")],
            Some("login a, login b: `user` differs only in case (Eva@x, eva@x)"),
        ),
        (
            &[("scan", "eva"), ("Scan", "eva")],
            Some("login Scan, login scan: they differ only in case"),
        ),
    ] {
        let warnings = of(accounts);
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{warnings:?}");
        assert!(
            warnings
                .iter()
                .zip(expected)
                .all(|(warning, expected)| warning.starts_with(expected))
        );
    }
}

#[test]
fn shared_state_without_tls() {
    let key = "k".repeat(40);
    let state = |url: &str| format!("{UPSTREAM}[state]\nurl = \"{url}\"\nkey = \"{key}\"\n");
    for here in [
        "redis://localhost",
        "redis://LocalHost",
        "redis+sentinel://127.0.0.1,[::1]/s",
        "rediss://valkey",
    ] {
        assert!(
            !warnings(state(here)).iter().any(|risk| risk.contains("state.url")),
            "{here}"
        );
    }
    for there in ["redis://valkey", "redis-cluster://127.0.0.1,10.0.0.1"] {
        let risks = warnings(state(there));
        assert!(
            risks.iter().any(|risk| risk.starts_with("state.url is without TLS")),
            "{risks:?}"
        );
    }
}
