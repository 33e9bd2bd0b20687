use std::{ffi::OsString, path::Path, time::Duration};

use super::UPSTREAM;
use crate::config::{Config, Credential, Error, LocalSecret, environment::ours, load::layered};

fn with_environment(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let variables = ours(
        variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value))),
    );
    layered(Path::new("gateway.toml"), text.into(), Path::new(""), variables).map(|loaded| loaded.config)
}

#[test]
fn environment_lies_over_the_file() {
    let file = format!("[limits]\nsessions = 5\n{UPSTREAM}");
    let environment = [
        ("POPGATE__LIMITS__SESSIONS", "50"),
        ("popgate__limits__Idle_Seconds", "700"),
        ("POPGATE__UPSTREAM__HOME__LOGINS", "*@a.example, *@b.example"),
        ("POPGATE__UPSTREAM__OFFICE_2__HOST", "office.example"),
        ("POPGATE__LISTENER__0__ADDRESS", "[::1]:1110"),
        ("POPGATE__LISTENER__0__REQUIRE_TLS", "false"),
        ("POPGATE_PORT_110_TCP", "tcp://10.0.0.1:110"),
        ("POPGATE_CONFIG", "gateway.toml"),
    ];
    let config = with_environment(&file, &environment).unwrap();
    assert_eq!(config.limits.sessions, 50);
    assert_eq!(config.limits.idle, Duration::from_secs(700));
    let names: Vec<_> = config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["home", "office_2"]);
    assert_eq!(config.upstreams[0].logins, ["*@a.example", "*@b.example"]);
    assert_eq!(
        config.upstreams[0].host, "imap.example.org",
        "the file's other keys stay"
    );
    assert_eq!(config.listeners[0].address, "[::1]:1110".parse().unwrap());
}

#[test]
fn environment_finds_names_and_entries_of_the_file() {
    let file = "[upstream.My-Home]\nhost = \"a\"\n[[account]]\nlogin = \"x\"\nupstream = \"My-Home\"\nupstream_password = \"u\"\n";
    let environment = [
        ("POPGATE__UPSTREAM__MY_HOME__PORT", "1993"),
        ("POPGATE__ACCOUNT__0__PASSWORD", "007"),
        ("POPGATE__ACCOUNT__1__LOGIN", "true"),
        ("POPGATE__ACCOUNT__1__UPSTREAM", "My-Home"),
        ("POPGATE__ACCOUNT__1__PASSWORD", " a,b "),
        ("POPGATE__ACCOUNT__1__UPSTREAM_PASSWORD", "1e3"),
        ("POPGATE__ACCOUNT__1__MAILDROP__FOLDER", "12"),
    ];
    let config = with_environment(file, &environment).unwrap();
    assert_eq!(config.upstreams.len(), 1);
    assert_eq!(config.upstreams[0].port, 1993);
    let password = |index: usize| match &config.accounts[index].secret {
        LocalSecret::Password(password) => password.expose().to_vec(),
        LocalSecret::Hash(_) | LocalSecret::File(_) => panic!("no hash was given"),
    };
    assert_eq!(password(0), b"007");
    assert_eq!(password(1), b" a,b ");
    assert_eq!(config.accounts[1].login, "true");
    assert!(matches!(&config.accounts[1].credential, Credential::Password(password) if password.expose() == b"1e3"));
    assert_eq!(config.accounts[1].maildrop.folders, ["12"]);
}

#[test]
fn entries_are_appended_in_the_order_of_their_numbers() {
    let mut environment: Vec<_> = (0..=10)
        .map(|index| {
            let name = format!("POPGATE__LISTENER__{index}__ADDRESS");
            (name, format!("[::1]:{}", 1110 + index))
        })
        .collect();
    environment.push(("popgate__listener__1__tls".into(), "off".into()));
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let config = with_environment(UPSTREAM, &environment).unwrap();
    let ports = config.listeners.iter().map(|listener| listener.address.port());
    assert!(ports.eq(1110..=1120));
}

#[test]
fn variables_may_have_units() {
    let environment = [
        ("POPGATE__LIMITS__IDLE_SECONDS", "15m"),
        ("POPGATE__LIMITS__PARKED_SECONDS", " 60 "),
        ("POPGATE__UPSTREAM__HOME__MAILDROP__MAX_OCTETS", "10 MB"),
    ];
    let config = with_environment(UPSTREAM, &environment).unwrap();
    assert_eq!(
        (config.limits.idle.as_secs(), config.limits.parked_for.as_secs()),
        (900, 60)
    );
    assert_eq!(config.upstreams[0].maildrop.view.max_octets, Some(10_000_000));
    let error = with_environment(UPSTREAM, &[("POPGATE__LIMITS__IDLE_SECONDS", "soon")])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`limits.idle_seconds`: \"soon\" is not a valid time"),
        "{error}"
    );
}

#[test]
fn all_wrong_variables_are_told() {
    let environment = [("POPGATE__LIMITS__SESSIONS", "many"), ("POPGATE__LOG__FORMAT", "xml")];
    let error = with_environment("[limits]\nsesions = 5\n", &environment)
        .unwrap_err()
        .to_string();
    for part in [
        "POPGATE__LIMITS__SESSIONS: expected a number",
        "POPGATE__LOG__FORMAT: `log.format`",
        "gateway.toml:2: ",
        "3 mistakes",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn wrong_variables_are_named() {
    for (name, value, part) in [
        ("POPGATE__LIMITS__SESIONS", "5", "did you mean `sessions`?"),
        ("POPGATE__LIMITS", "5", "names a table"),
        ("POPGATE__LIMITS__SESSIONS__X", "5", "`limits.sessions` has no parts"),
        ("POPGATE__LIMITS__SESSIONS", "many", "expected a number"),
        ("POPGATE__LIMITS__SESSIONS", "0", "`limits.sessions`: 0 is out of range"),
        ("POPGATE__LISTENER__0__REQUIRE_TLS", "yes", "expected true or false"),
        ("POPGATE__ACCOUNT__1__LOGIN", "x", "the next new one is 0"),
        ("POPGATE__ACCOUNT__X__LOGIN", "x", "not an entry of [[account]]"),
        ("POPGATE__ACCOUNT__0__LOGIN", "x", "`account[0].password`: is missing"),
        ("POPGATE__UPSTREAM__A.B__HOST", "x", "a name here is made of"),
        ("POPGATE__", "x", "unknown key"),
    ] {
        let error = with_environment(UPSTREAM, &[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("environment variable {name}: ")), "{error}");
        assert!(error.contains(part), "{error}");
    }
    let twice = [("POPGATE__LIMITS__SESSIONS", "5"), ("popgate__limits__sessions", "6")];
    assert!(
        with_environment(UPSTREAM, &twice)
            .unwrap_err()
            .to_string()
            .contains("gives the same key as")
    );
}

#[test]
fn one_certificate_or_several() {
    let directory = tempfile::tempdir().unwrap();
    let names = ["a", "b", "c"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
    for name in &names {
        std::fs::write(name, "").unwrap();
    }
    let [a, b, c] = names.each_ref().map(String::as_str);
    let keys = |config: &Config| -> Vec<_> {
        config
            .tls
            .iter()
            .map(|tls| tls.key.to_str().unwrap().to_owned())
            .collect()
    };
    let one = format!("[tls]\ncertificate = '{a}'\nkey = '{a}'\n{UPSTREAM}");
    let two =
        format!("[[tls]]\ncertificate = '{a}'\nkey = '{a}'\n[[tls]]\ncertificate = '{b}'\nkey = '{b}'\n{UPSTREAM}");
    let all = |index: &str, file: &str| -> [(String, String); 2] {
        ["CERTIFICATE", "KEY"].map(|key| (format!("POPGATE__TLS__{index}{key}"), file.to_owned()))
    };
    let with = |text: &str, variables: &[(String, String)]| {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        with_environment(text, &variables)
    };
    assert_eq!(keys(&with(&one, &[]).unwrap()), [a]);
    assert_eq!(keys(&with(&two, &[]).unwrap()), [a, b]);
    assert_eq!(keys(&with(&one, &all("", c)).unwrap()), [c]);
    assert_eq!(keys(&with(&two, &all("1__", c)).unwrap()), [a, c]);
    assert_eq!(keys(&with(&two, &all("2__", c)).unwrap()), [a, b, c]);
    assert_eq!(keys(&with(UPSTREAM, &all("", c)).unwrap()), [c]);
    let both = [all("0__", b), all("1__", c)].concat();
    assert_eq!(keys(&with(UPSTREAM, &both).unwrap()), [b, c]);
    for (text, index, what) in [
        (one.as_str(), "0__", "there is one [tls], which has no number"),
        (&two, "", "there are several [[tls]]"),
        (UPSTREAM, "1__", "`1` is not an entry of [[tls]]"),
    ] {
        let error = with(text, &all(index, c)).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}
