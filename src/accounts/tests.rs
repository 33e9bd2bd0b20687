use std::{net::Ipv4Addr, path::Path};

use super::*;
use crate::config::Config;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn accounts(account: &str) -> Accounts {
    let text = format!(
        "[upstream.a]\nhost = \"a.example\"\nlogins = [\"*\", \"Jane@example.org\"]\n\
         [upstream.b]\nhost = \"b.example\"\nlogins = [\"*@example.org\"]\nmaildrop = {{ folder = \"Scans\" }}\n{account}"
    );
    Accounts::new(&Config::parse(&text, Path::new("")).unwrap())
}

fn local(secret: &str) -> String {
    format!(
        "[[account]]\nlogin = \"scanner\"\n{secret}\nupstream = \"b\"\nuser = \"office@example.org\"\n\
         upstream_password = \"upstream's\"\nmaildrop = {{ on_retrieve = \"keep\" }}\n"
    )
}

fn password(account: &Account) -> &[u8] {
    let Credential::Password(password) = &account.credential else {
        panic!("no password");
    };
    password.expose()
}

#[tokio::test]
async fn forwards_by_the_most_specific_pattern() {
    let accounts = accounts("");
    for (login, upstream) in [
        ("x", "a"),
        ("john@EXAMPLE.org", "b"),
        ("Jane@example.ORG", "a"),
        ("jane@example.org", "b"),
    ] {
        let account = accounts
            .authenticate(login.as_bytes(), "own".into(), PEER)
            .await
            .unwrap();
        assert_eq!(account.upstream.name, upstream, "{login}");
        assert_eq!((account.login.as_str(), account.user.as_str()), (login, login));
        assert_eq!(password(&account), b"own");
        assert_eq!(account.policy, account.upstream.maildrop);
    }
}

#[tokio::test]
async fn own_login_is_verified_and_never_forwarded() {
    let hash = hash_password(&Secret::from("own")).unwrap();
    for secret in ["password = \"own\"".to_owned(), format!("password_hash = \"{hash}\"")] {
        let accounts = accounts(&local(&secret));
        let account = accounts.authenticate(b"scanner", "own".into(), PEER).await.unwrap();
        assert_eq!(
            (account.upstream.name.as_str(), account.user.as_str()),
            ("b", "office@example.org")
        );
        assert_eq!(password(&account), b"upstream's");
        assert_eq!(
            (account.policy.folders[0].as_str(), account.policy.on_retrieve),
            ("Scans", config::OnRetrieve::Keep)
        );
        for wrong in ["", "Own", "own ", "upstream's"] {
            let denied = accounts.authenticate(b"scanner", wrong.into(), PEER).await;
            assert_eq!(denied.unwrap_err(), Denied::Wrong, "{wrong:?}");
        }
    }
}

#[tokio::test]
async fn octets_that_are_no_name_are_wrong() {
    let accounts = accounts("");
    for login in [&b"\xff@example.org"[..], b"jane\0root", b"jane\r\nx"] {
        assert_eq!(
            accounts.authenticate(login, "x".into(), PEER).await.unwrap_err(),
            Denied::Wrong
        );
    }
}

#[tokio::test]
async fn unknown_login_without_pattern_is_wrong() {
    let text = format!("[upstream.b]\nhost = \"b.example\"\n{}", local("password = \"own\""));
    let accounts = Accounts::new(&Config::parse(&text, Path::new("")).unwrap());
    assert_eq!(
        accounts.authenticate(b"jane", "own".into(), PEER).await.unwrap_err(),
        Denied::Wrong
    );
}

#[tokio::test(start_paused = true)]
async fn guessing_is_throttled_before_the_secret_is_looked_at() {
    let accounts = accounts(&local("password = \"own\""));
    for _ in 0..11 {
        assert_eq!(
            accounts.authenticate(b"scanner", "x".into(), PEER).await.unwrap_err(),
            Denied::Wrong
        );
    }
    assert_eq!(
        accounts.authenticate(b"scanner", "own".into(), PEER).await.unwrap_err(),
        Denied::Throttled
    );
    accounts.succeeded(b"scanner", PEER);
    assert!(accounts.authenticate(b"scanner", "own".into(), PEER).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn refusals_of_an_upstream_count() {
    let accounts = accounts("");
    for _ in 0..11 {
        assert!(accounts.authenticate(b"jane", "x".into(), PEER).await.is_ok());
        accounts.failed(b"jane", PEER);
    }
    assert_eq!(
        accounts.authenticate(b"jane", "x".into(), PEER).await.unwrap_err(),
        Denied::Throttled
    );
}

#[tokio::test]
async fn a_flood_of_hashes_is_worked_off() {
    let hash = hash_password(&Secret::from("own")).unwrap();
    let accounts = Arc::new(accounts(&local(&format!("password_hash = \"{hash}\""))));
    let tasks: Vec<_> = (0..8u8)
        .map(|number| {
            let accounts = accounts.clone();
            tokio::spawn(async move {
                accounts
                    .authenticate(b"scanner", "own".into(), [10, 0, 0, number].into())
                    .await
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().is_ok());
    }
}

/// Two upstreams: `a` takes every login and knows no folders, `b` those of example.org with folders after `+`.
fn with_folders() -> Accounts {
    let local = |login: &str, upstream: &str, more: &str| {
        format!(
            "[[account]]\nlogin = \"{login}\"\npassword = \"own\"\nupstream = \"{upstream}\"\nuser = \"u\"\n\
             upstream_password = \"p\"\nmaildrop = {{ newest = 5{more} }}\n"
        )
    };
    let text = format!(
        "[upstream.a]\nhost = \"a.example\"\nlogins = [\"*\"]\n\
         [upstream.b]\nhost = \"b.example\"\nlogins = [\"*@example.org\"]\nmaildrop = {{ folder_separator = \"+\" }}\n\
         {}{}{}{}{}",
        local("office", "b", ""),
        local("office+Whole", "b", ""),
        local("office@example.org", "b", ", folder_separator = \"--\""),
        local("plain", "a", ""),
        local("plain@example.org", "a", ""),
    );
    Accounts::new(&Config::parse(&text, Path::new("")).unwrap())
}

#[tokio::test]
async fn a_login_may_name_a_folder() {
    let accounts = with_folders();
    for (given, login, user, upstream, folder) in [
        ("office", "office", "u", "b", "INBOX"),
        ("office+Invoices", "office", "u", "b", "Invoices"),
        ("office+inbox", "office", "u", "b", "INBOX"),
        ("office+Whole", "office+Whole", "u", "b", "INBOX"),
        ("office+Whole+Bills", "office", "u", "b", "Whole+Bills"),
        ("office--X@example.org", "office@example.org", "u", "b", "X"),
        (
            "jane+Lists@example.org",
            "jane@example.org",
            "jane@example.org",
            "b",
            "Lists",
        ),
        (
            "jane@example.org+Lists",
            "jane@example.org",
            "jane@example.org",
            "b",
            "Lists",
        ),
        ("jane+Lists", "jane+Lists", "jane+Lists", "a", "INBOX"),
        ("+1@example.org", "+1@example.org", "+1@example.org", "b", "INBOX"),
    ] {
        let account = accounts
            .authenticate(given.as_bytes(), "own".into(), PEER)
            .await
            .unwrap();
        assert_eq!(
            (
                account.login.as_str(),
                account.user.as_str(),
                account.upstream.name.as_str()
            ),
            (login, user, upstream),
            "{given}"
        );
        assert_eq!(account.policy.folders, [folder], "{given}");
        let newest = (user == "u").then_some(5);
        assert_eq!(
            account.policy.view.newest, newest,
            "the rest of the policy stays: {given}"
        );
    }
}

#[tokio::test]
async fn a_folder_opens_no_other_way_in() {
    let accounts = with_folders();
    for given in [
        // No name of a folder.
        "office+",
        "jane+@example.org",
        "office--@example.org",
        // Logins of the gateway's own, which are not forwarded by naming a folder.
        "plain+Lists@example.org",
        "office+X@example.org",
    ] {
        let denied = accounts.authenticate(given.as_bytes(), "own".into(), PEER).await;
        assert_eq!(denied.unwrap_err(), Denied::Wrong, "{given}");
    }
    let denied = accounts.authenticate(b"office+Invoices", "wrong".into(), PEER).await;
    assert_eq!(denied.unwrap_err(), Denied::Wrong);
}

#[tokio::test(start_paused = true)]
async fn other_folders_give_no_more_tries() {
    let accounts = with_folders();
    for number in 0..11 {
        let login = format!("office+{number}");
        let denied = accounts.authenticate(login.as_bytes(), "x".into(), PEER).await;
        assert_eq!(denied.unwrap_err(), Denied::Wrong);
        let login = format!("jane+{number}@example.org");
        assert!(accounts.authenticate(login.as_bytes(), "x".into(), PEER).await.is_ok());
        accounts.failed(login.as_bytes(), PEER);
    }
    for login in [
        "office",
        "office+new",
        "office+",
        "jane@example.org",
        "jane+new@example.org",
    ] {
        let denied = accounts.authenticate(login.as_bytes(), "own".into(), PEER).await;
        assert_eq!(denied.unwrap_err(), Denied::Throttled, "{login}");
    }
    accounts.succeeded(b"jane+any@example.org", PEER);
    assert!(
        accounts
            .authenticate(b"jane@example.org", "x".into(), PEER)
            .await
            .is_ok()
    );
}
