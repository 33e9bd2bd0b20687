use std::{net::Ipv4Addr, path::Path};

use super::*;

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
    let Credential::Password(password) = &account.credential;
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
