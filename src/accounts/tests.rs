use std::{net::Ipv4Addr, path::Path, time::Duration};

use super::*;
use crate::{
    challenge::{ScramKeys, apop, hmac_md5},
    config::Config,
};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn accounts(account: &str) -> Accounts {
    let text = format!(
        "[upstream.a]\nhost = \"a.example\"\nlogins = [\"*\", \"Jane@example.org\"]\n\
         [upstream.b]\nhost = \"b.example\"\nlogins = [\"*@example.org\"]\nmaildrop = {{ folder = \"Faxes\" }}\n{account}"
    );
    Accounts::new(&Config::parse(&text, Path::new("")).unwrap()).unwrap()
}

fn local(secret: &str) -> String {
    format!(
        "[[account]]\nlogin = \"tickets\"\n{secret}\nupstream = \"b\"\nuser = \"office@example.org\"\n\
         upstream_password = \"upstream's\"\nmaildrop = {{ on_retrieve = \"keep\" }}\n"
    )
}

fn password(account: &Account) -> &[u8] {
    let Credential::Password(password) = &account.credential else {
        panic!("no password");
    };
    password.expose()
}

/// The names of an account's login, user and upstream.
fn names(account: &Account) -> (&str, &str, &str) {
    (&account.login, &account.user, &account.upstream.name)
}

/// Logs in by [`Accounts::authenticate`]. If the upstream is asked, it accepts the secret.
async fn log_in(accounts: &Accounts, login: &[u8], secret: &str) -> Result<Account, Denied> {
    let (account, attempt) = accounts.authenticate(login, secret.into(), PEER).await?;
    attempt.succeeded();
    Ok(account)
}

/// Logs in with a wrong secret. If the upstream is asked, it refuses the secret.
async fn fail(accounts: &Accounts, login: &[u8]) -> Result<(), Denied> {
    let (_, attempt) = accounts.authenticate(login, "x".into(), PEER).await?;
    attempt.failed().await;
    Ok(())
}

#[tokio::test]
async fn forwards_by_the_most_specific_pattern() {
    let accounts = accounts("");
    for (given, login, upstream) in [
        ("x", "x", "a"),
        ("john@EXAMPLE.org", "john@example.org", "b"),
        ("Jane@example.ORG", "Jane@example.org", "a"),
        ("jane@example.org", "jane@example.org", "b"),
    ] {
        let account = log_in(&accounts, given.as_bytes(), "own").await.unwrap();
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
        let account = log_in(&accounts, b"tickets", "own").await.unwrap();
        assert_eq!(
            (account.upstream.name.as_str(), account.user.as_str()),
            ("b", "office@example.org")
        );
        assert_eq!(password(&account), b"upstream's");
        assert_eq!(
            (account.policy.folders[0].as_str(), account.policy.on_retrieve),
            ("Faxes", config::OnRetrieve::Keep)
        );
        for wrong in ["", "Own", "own ", "upstream's"] {
            let denied = log_in(&accounts, b"tickets", wrong).await;
            assert_eq!(denied.unwrap_err(), Denied::Wrong, "{wrong:?}");
        }
    }
}

#[tokio::test]
async fn octets_that_are_no_name_are_wrong() {
    let accounts = accounts("");
    for login in [&b"\xff@example.org"[..], b"jane\0root", b"jane\r\nx"] {
        assert_eq!(log_in(&accounts, login, "x").await.unwrap_err(), Denied::Wrong);
    }
}

#[tokio::test]
async fn unknown_login_without_pattern_is_wrong() {
    let text = format!("[upstream.b]\nhost = \"b.example\"\n{}", local("password = \"own\""));
    let accounts = Accounts::new(&Config::parse(&text, Path::new("")).unwrap()).unwrap();
    assert_eq!(log_in(&accounts, b"jane", "own").await.unwrap_err(), Denied::Wrong);
}

#[tokio::test(start_paused = true)]
async fn guessing_is_throttled_before_the_secret_is_looked_at() {
    let accounts = accounts(&local("password = \"own\""));
    for _ in 0..11 {
        assert_eq!(log_in(&accounts, b"tickets", "x").await.unwrap_err(), Denied::Wrong);
    }
    assert_eq!(
        log_in(&accounts, b"tickets", "own").await.unwrap_err(),
        Denied::Throttled
    );
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(log_in(&accounts, b"tickets", "own").await.is_ok());
    for _ in 0..11 {
        assert_eq!(fail(&accounts, b"tickets").await, Err(Denied::Wrong));
    }
    assert_eq!(fail(&accounts, b"tickets").await, Err(Denied::Throttled));
    assert!(
        log_in(&accounts, b"tickets", "own").await.is_ok(),
        "a secret that was right is no guess"
    );
}

/// The next attempt has to wait, even if the device hung up during the last: hanging up does not avoid the delay.
#[tokio::test(start_paused = true)]
async fn after_failures_the_next_attempt_waits() {
    let accounts = accounts(&local("password = \"own\""));
    let begun = tokio::time::Instant::now();
    // Each refusal takes another 100 ms.
    for waited in [100, 300, 600, 1100, 2000, 3700, 7000, 12_100] {
        assert_eq!(fail(&accounts, b"tickets").await, Err(Denied::Wrong));
        assert_eq!(begun.elapsed().as_millis(), waited);
    }
    let hung_up = tokio::time::timeout(Duration::from_millis(1), fail(&accounts, b"tickets"));
    assert!(hung_up.await.is_err());
    let begun = tokio::time::Instant::now();
    assert_eq!(fail(&accounts, b"tickets").await, Err(Denied::Wrong));
    assert_eq!(begun.elapsed(), Duration::from_millis(5100));
}

/// Other spellings of domain and user, with or without blanks around them, count as one user of the upstream.
#[tokio::test(start_paused = true)]
async fn sixteen_spellings_are_one_user() {
    let accounts = accounts("");
    let spellings = (0..16u8).map(|bits| {
        let letters = "john@blue.org".chars().enumerate();
        let spelled: String = letters
            .map(|(at, letter)| match at {
                0 | 3 | 5 | 10 if bits >> (at % 4) & 1 == 1 => letter.to_ascii_uppercase(),
                _ => letter,
            })
            .collect();
        if bits % 5 == 0 { format!(" {spelled} ") } else { spelled }
    });
    let mut tried = 0;
    for login in spellings.cycle().take(176) {
        tried += u32::from(fail(&accounts, login.as_bytes()).await.is_ok());
    }
    assert_eq!(tried, 11);
}

/// Every refusal takes the same time: for a wrong secret or an unknown login, with a password, a hash or an upstream.
#[tokio::test]
async fn every_refusal_takes_the_same_time() {
    let hash = hash_password(&Secret::from("own")).unwrap();
    for secret in ["password = \"own\"".to_owned(), format!("password_hash = \"{hash}\"")] {
        let text = format!(
            "[upstream.b]\nhost = \"b.example\"\nlogins = [\"*@example.org\"]\n{}",
            local(&secret)
        );
        let accounts = Accounts::new(&Config::parse(&text, Path::new("")).unwrap()).unwrap();
        for login in ["tickets", "nobody", "jane@example.org"] {
            // The result for the second address is remembered from the first.
            for peer in [[10, 0, 0, 1], [10, 0, 0, 2]] {
                let begun = std::time::Instant::now();
                match accounts.authenticate(login.as_bytes(), "x".into(), peer.into()).await {
                    Ok((_, attempt)) => attempt.failed().await,
                    Err(denied) => assert_eq!(denied, Denied::Wrong),
                }
                assert!(begun.elapsed().as_millis() >= 100, "{login}: {:?}", begun.elapsed());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_an_upstream_count() {
    let accounts = accounts("");
    for _ in 0..11 {
        assert!(fail(&accounts, b"jane").await.is_ok());
    }
    assert_eq!(log_in(&accounts, b"jane", "x").await.unwrap_err(), Denied::Throttled);
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
                    .authenticate(b"tickets", "own".into(), [10, 0, 0, number].into())
                    .await
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().is_ok());
    }
}

/// Two upstreams: `a` takes all logins and has no folders, `b` takes those of example.org and has folders after `+`.
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
    Accounts::new(&Config::parse(&text, Path::new("")).unwrap()).unwrap()
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
        let account = log_in(&accounts, given.as_bytes(), "own").await.unwrap();
        assert_eq!(names(&account), (login, user, upstream), "{given}");
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
        // The name of the folder is empty.
        "office+",
        "jane+@example.org",
        "office--@example.org",
        // These logins are `[[account]]`s, which are not forwarded even if a device names a folder.
        "plain+Lists@example.org",
        "office+X@example.org",
    ] {
        let denied = log_in(&accounts, given.as_bytes(), "own").await;
        assert_eq!(denied.unwrap_err(), Denied::Wrong, "{given}");
    }
    let denied = log_in(&accounts, b"office+Invoices", "wrong").await;
    assert_eq!(denied.unwrap_err(), Denied::Wrong);
}

#[tokio::test(start_paused = true)]
async fn other_folders_give_no_more_tries() {
    let accounts = with_folders();
    for number in 0..11 {
        let login = format!("office+{number}");
        let denied = log_in(&accounts, login.as_bytes(), "x").await;
        assert_eq!(denied.unwrap_err(), Denied::Wrong);
        let login = format!("jane+{number}@example.org");
        assert!(fail(&accounts, login.as_bytes()).await.is_ok());
    }
    for login in [
        "office",
        "office+new",
        "office+",
        "jane@example.org",
        "jane+new@example.org",
    ] {
        let denied = log_in(&accounts, login.as_bytes(), "own").await;
        assert_eq!(denied.unwrap_err(), Denied::Throttled, "{login}");
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(log_in(&accounts, b"jane+any@example.org", "own").await.is_ok());
    for _ in 0..11 {
        assert!(fail(&accounts, b"jane@EXAMPLE.org").await.is_ok());
    }
    assert_eq!(fail(&accounts, b"jane@example.org").await, Err(Denied::Throttled));
    assert!(log_in(&accounts, b"jane@example.org", "own").await.is_ok());
}

/// However a device or the configuration spells a domain, the same login leads to the same account, and the same user to the
/// same mailbox.
#[tokio::test]
async fn the_case_of_a_domain_tells_nobody_apart() {
    let own = |login: &str, user: &str, more: &str| {
        format!(
            "[[account]]\nlogin = \"{login}\"\npassword = \"own\"\nupstream = \"b\"\nuser = \"{user}\"\n\
             upstream_password = \"p\"\n{more}"
        )
    };
    let folders = "maildrop = { folder_separator = \"+\" }\n";
    let accounts = accounts(&format!(
        "{}{}",
        own("Office@Example.org", "Post@EXAMPLE.org", folders),
        own("tickets", "Post@example.ORG", "")
    ));
    for given in [
        "Office@Example.org",
        "Office@example.ORG",
        "Office+INBOX@EXAMPLE.org",
        "Office@EXAMPLE.org+INBOX",
        "tickets",
    ] {
        let account = log_in(&accounts, given.as_bytes(), "own").await.unwrap();
        let login = if given == "tickets" {
            given
        } else {
            "Office@example.org"
        };
        assert_eq!(
            (account.login.as_str(), account.user.as_str()),
            (login, "Post@example.org"),
            "{given}"
        );
        assert_eq!(accounts.canonical_login(given.as_bytes()), login);
        let stored = accounts.stored(&account.login, &account.mailbox("Faxes")).unwrap();
        assert_eq!((stored.login, stored.user), (account.login, account.user));
    }
    let picked = log_in(&accounts, b"Office@EXAMPLE.org+In@VOICES", "own").await.unwrap();
    assert_eq!(picked.policy.folders, ["In@VOICES"], "a folder is no domain");
    let other = log_in(&accounts, b"office@example.org", "own").await.unwrap();
    assert!(other.is_forwarded, "a local part is what it is");
}

#[tokio::test]
async fn a_login_without_a_domain_is_of_its_upstreams() {
    let directory = tempfile::tempdir().unwrap();
    let hash = hash_password(&Secret::from("own")).unwrap();
    let passwords = format!("eva:{hash}\nadam@example.net:{hash}\n");
    std::fs::write(directory.path().join("devices"), passwords).unwrap();
    let text = "
        [upstream.a]
        host = \"a.example\"
        logins = [\"*\"]
        [upstream.b]
        host = \"b.example\"
        logins = [\"*@example.org\"]
        default_domain = \"Example.org\"
        maildrop = { folder_separator = \"+\" }
        [upstream.c]
        host = \"c.example\"
        default_domain = \"example.net\"
        [upstream.c.oauth2]
        grant = \"client-credentials\"
        client_id = \"i\"
        client_secret = \"s\"
        token_url = \"https://x/t\"
        [[account]]
        login = \"tickets@example.org\"
        password = \"own\"
        upstream = \"b\"
        upstream_password = \"p\"
        [[account]]
        login = \"alarm\"
        password = \"own\"
        upstream = \"b\"
        upstream_password = \"p\"
        [[account]]
        login = \"plain@example.org\"
        password = \"own\"
        upstream = \"a\"
        upstream_password = \"p\"
    ";
    let rule = "[[account]]\nlogin = \"*@example.net\"\npasswords_file = \"devices\"\nupstream = \"c\"\n";
    let of = |text: &str| Accounts::new(&Config::parse(text, directory.path()).unwrap()).unwrap();
    let accounts = of(text);
    for (given, login, user, upstream) in [
        ("jane", "jane@example.org", "jane@example.org", "b"),
        ("jane+Lists", "jane@example.org", "jane@example.org", "b"),
        ("jane@EXAMPLE.ORG", "jane@example.org", "jane@example.org", "b"),
        ("jane@example.com", "jane@example.com", "jane@example.com", "a"),
        ("tickets", "tickets@example.org", "tickets@example.org", "b"),
        ("tickets+Lists", "tickets@example.org", "tickets@example.org", "b"),
        ("alarm", "alarm", "alarm", "b"),
    ] {
        let account = log_in(&accounts, given.as_bytes(), "own").await.unwrap();
        assert_eq!(names(&account), (login, user, upstream), "{given}");
        assert_eq!(accounts.canonical_login(given.as_bytes()), login);
    }
    // The `[[account]]` `plain@example.org` belongs to an upstream without a default domain: `plain` does not lead to it, and
    // is not forwarded as `plain@example.org` either.
    assert_eq!(log_in(&accounts, b"plain", "own").await.unwrap_err(), Denied::Wrong);
    assert_eq!(accounts.canonical_login(b"plain"), "plain");
    let ruled = of(&format!("{text}{rule}"));
    for (given, login) in [
        ("eva", "eva@example.net"),
        ("eva@example.NET", "eva@example.net"),
        ("adam", "adam@example.net"),
    ] {
        let account = log_in(&ruled, given.as_bytes(), "own").await.unwrap();
        assert_eq!(
            (account.login.as_str(), account.user.as_str()),
            (login, login),
            "{given}"
        );
        assert_eq!(ruled.canonical_login(given.as_bytes()), login);
    }
    let known: Vec<_> = ruled.known().into_iter().map(|account| account.login).collect();
    assert!(known.contains(&"eva@example.net".to_owned()), "{known:?}");
}

/// An account by password, one by hash, and an upstream to which all other logins of example.org are forwarded.
fn mixed() -> Accounts {
    let hash = hash_password(&Secret::from("own")).unwrap();
    let hashed = local(&format!("password_hash = \"{hash}\"")).replace("tickets", "hashed");
    let text = format!(
        "[upstream.b]\nhost = \"b.example\"\nlogins = [\"*@example.org\"]\nmaildrop = {{ folder_separator = \"+\" }}\n\
         {}{hashed}",
        local("password = \"own\"")
    );
    Accounts::new(&Config::parse(&text, Path::new("")).unwrap()).unwrap()
}

/// The responses of a device that knows `secret`, one by each mechanism.
fn responses(accounts: &Accounts, login: &str, secret: &str) -> [Response; 3] {
    let challenge = "<1@popgate>".to_owned();
    let signed = "n=user,r=x,r=xy,s=,i=4096,c=biws,r=xy".to_owned();
    let keys = ScramKeys::new(secret.as_bytes(), &accounts.salt(login.as_bytes()), SCRAM_ITERATIONS);
    [
        Response::Apop {
            digest: apop(challenge.as_bytes(), secret.as_bytes()),
            challenge: challenge.clone(),
        },
        Response::CramMd5 {
            digest: hmac_md5(secret.as_bytes(), challenge.as_bytes()),
            challenge,
        },
        Response::ScramSha256 {
            proof: *keys.proof(signed.as_bytes()),
            signed,
        },
    ]
}

async fn respond(accounts: &Accounts, login: &str, response: &Response) -> Result<Account, Denied> {
    let done = accounts.authenticate_response(login.as_bytes(), response, PEER).await;
    let (account, attempt, signature) = done?;
    attempt.succeeded();
    assert_eq!(signature.is_some(), matches!(response, Response::ScramSha256 { .. }));
    Ok(account)
}

#[tokio::test]
async fn a_response_proves_a_password_that_is_known() {
    let accounts = mixed();
    assert_eq!(accounts.secrets_known(), SecretsKnown::Some);
    for response in responses(&accounts, "tickets", "own") {
        let account = respond(&accounts, "tickets", &response).await.unwrap();
        assert_eq!(account.user, "office@example.org");
        assert_eq!(password(&account), b"upstream's", "the account's own, not the device's");
        assert!(!account.is_forwarded);
    }
    for response in responses(&accounts, "tickets+Faxes/2", "own") {
        let account = respond(&accounts, "tickets+Faxes/2", &response).await.unwrap();
        assert_eq!(account.policy.folders, ["Faxes/2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_of_any_other_login_is_wrong() {
    let accounts = mixed();
    for (login, secret) in [
        ("tickets", "wrong"),
        ("tickets", ""),
        ("tickets", "nobody's"),
        ("hashed", "own"),
        ("nobody", "nobody's"),
        ("jane@example.org", "nobody's"),
        ("nobody", "own"),
        ("tickets+", "own"),
    ] {
        for response in responses(&accounts, login, secret) {
            let denied = respond(&accounts, login, &response).await;
            assert_eq!(denied.unwrap_err(), Denied::Wrong, "{login} {secret} {response:?}");
            tokio::time::advance(Duration::from_secs(60)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn responses_are_throttled_like_passwords() {
    let accounts = mixed();
    let [right, wrong] = ["own", "wrong"].map(|secret| responses(&accounts, "tickets", secret));
    for number in 0..11 {
        let denied = respond(&accounts, "tickets", &wrong[number % 3]).await;
        assert_eq!(denied.unwrap_err(), Denied::Wrong);
    }
    for response in &right {
        assert_eq!(
            respond(&accounts, "tickets", response).await.unwrap_err(),
            Denied::Throttled
        );
    }
    assert_eq!(
        log_in(&accounts, b"tickets", "own").await.unwrap_err(),
        Denied::Throttled
    );
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(respond(&accounts, "tickets", &right[0]).await.is_ok());
    for _ in 0..11 {
        let denied = respond(&accounts, "tickets", &wrong[1]).await;
        assert_eq!(denied.unwrap_err(), Denied::Wrong);
    }
    assert_eq!(
        respond(&accounts, "tickets", &wrong[1]).await.unwrap_err(),
        Denied::Throttled
    );
    for response in &right {
        assert!(
            respond(&accounts, "tickets", response).await.is_ok(),
            "a secret that was right is no guess, however it is proved"
        );
    }
}

#[tokio::test]
async fn a_salt_tells_nothing() {
    let accounts = mixed();
    let logins = ["tickets", "hashed", "jane@example.org", "nobody"];
    let salts = logins.map(|login| accounts.salt(login.as_bytes()));
    assert_eq!(
        salts,
        logins.map(|login| accounts.salt(login.as_bytes())),
        "always the same"
    );
    let different: BTreeSet<_> = salts.into_iter().collect();
    assert_eq!(different.len(), logins.len(), "of each login another");
    assert_ne!(mixed().salt(b"nobody"), salts[3], "it can't be computed elsewhere");
}

#[test]
fn responses_are_announced_if_all_can_use_them() {
    let known = |text: String| {
        let text = format!("[upstream.b]\nhost = \"b.example\"\n{text}");
        Accounts::new(&Config::parse(&text, Path::new("")).unwrap())
            .unwrap()
            .secrets_known()
    };
    assert_eq!(known(local("password = \"own\"")), SecretsKnown::All);
    assert_eq!(known("logins = [\"*\"]\n".into()), SecretsKnown::None);
    let both = format!("logins = [\"*\"]\n{}", local("password = \"own\""));
    assert_eq!(known(both), SecretsKnown::Some);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_for_the_upstream_of_a_forwarded_login() {
    let accounts = mixed();
    let give = async |login: &str| {
        accounts
            .authenticate_token(login.as_bytes(), "t0ken".into(), PEER)
            .await
    };
    let (account, attempt) = give("jane+Lists@example.org").await.unwrap();
    attempt.succeeded();
    let Credential::Token(token) = &account.credential else {
        panic!("no token")
    };
    assert_eq!(
        (token.expose(), account.user.as_str()),
        (&b"t0ken"[..], "jane@example.org")
    );
    assert!(account.is_forwarded);
    assert_eq!(account.policy.folders, ["Lists"]);
    for login in ["tickets", "hashed", "nobody"] {
        assert_eq!(give(login).await.unwrap_err(), Denied::Wrong, "{login}");
    }
    let names: Vec<_> = accounts
        .token_upstreams()
        .map(|upstream| upstream.name.as_str())
        .collect();
    assert_eq!(names, ["b"]);
}

#[tokio::test]
async fn no_token_goes_out_in_plain_text() {
    let text = "[upstream.b]\nhost = \"b.example\"\ntls = \"off\"\nlogins = [\"*\"]\n";
    let accounts = Accounts::new(&Config::parse(text, Path::new("")).unwrap()).unwrap();
    let denied = accounts.authenticate_token(b"jane", "t0ken".into(), PEER).await;
    assert_eq!(denied.unwrap_err(), Denied::Wrong);
    assert_eq!(accounts.token_upstreams().count(), 0);
}
