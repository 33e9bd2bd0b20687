use std::path::Path;

use super::{ACCOUNT, UPSTREAM};
use crate::config::Config;

/// The error of `text`, printed.
#[track_caller]
pub(super) fn error(text: &str) -> String {
    Config::parse(text, Path::new("")).unwrap_err().to_string()
}

/// Appends `text` to a valid upstream (3 lines). Expects an error that begins with `start` and contains `part`.
#[track_caller]
pub(super) fn expect(text: &str, start: &str, part: &str) {
    let error = error(&format!("{UPSTREAM}{text}"));
    assert!(error.starts_with(&format!("gateway.toml:{start}")), "{error}");
    assert!(error.contains(part), "{error}");
}

#[test]
fn errors_of_the_shape_name_line_and_key() {
    expect(
        "[limits]\nsesions = 5",
        "5: `limits.sesions`: unknown key",
        "did you mean `sessions`?",
    );
    expect(
        "[pages]\naddress = \"x\"",
        "4: `pages`: unknown key",
        "known here: state, log, limits",
    );
    expect(
        "[upstream.home.maildrop]\nretain_day = 1",
        "5: `upstream.home.maildrop.retain_day`: unknown key",
        "did you mean `retain_days`?",
    );
    expect(
        "[limits]\nsessions = \"5\"",
        "5: `limits.sessions`: expected a number, found a string",
        "without quotes",
    );
    expect(
        "[limits]\nsessions = -5",
        "5: `limits.sessions`: expected a decimal number, 0 or more",
        "",
    );
    expect(
        "[limits]\nsessions = 99999999999999999999",
        "5: `limits.sessions`: this number is too large",
        "",
    );
    expect(
        "[log]\nlevel = 3",
        "5: `log.level`: expected a string, found a number",
        "double quotes",
    );
    expect(
        "[[listener]]\naddress = \"[::]:110\"\nallow = \"10.0.0.0/8\"",
        "6: `listener[0].allow`",
        "a list of strings",
    );
    expect(
        "[[listener]]\naddress = \"[::]:110\"\nallow = [\"10.0.0.0/8\",\n  5]",
        "7: `listener[0].allow`",
        "found a number",
    );
    expect(
        "[[listener]]\naddress = \"[::]:110\"\nrequire_tls = \"yes\"",
        "6: `listener[0].require_tls`: expected true or false",
        "",
    );
    expect(
        "[account]\nlogin = \"x\"",
        "4: `account`: expected an array of tables",
        "[[account]]",
    );
    expect("[upstream.\"a.b\"]\nhost = \"x\"", "4: `upstream.a.b`: a name here", "");
    assert!(error("upstream = 5").contains("[upstream.NAME]"));
    assert!(error("[upstream]\nhost = \"x\"").starts_with("gateway.toml:2: `upstream.host`: expected a table"));
    assert!(error("[limits\n").starts_with("gateway.toml:1: unclosed table"));
    assert!(error("[limits]\nsessions = 1\nsessions = 2\n").starts_with("gateway.toml:3: duplicate key"));
}

#[test]
fn errors_of_values_name_line_and_key() {
    expect(
        "[limits]\nsessions = 0",
        "5: `limits.sessions`: 0 is out of range",
        "from 1 to",
    );
    expect(
        "[limits]\nidle_seconds = 99999999999",
        "5: `limits.idle_seconds`: 99999999999 is out of range",
        "",
    );
    expect(
        "[log]\nlevel = \"inof\"",
        "5: `log.level`: `inof` is not a valid level",
        "did you mean `info`?",
    );
    expect(
        "[log]\nlevel = \"info,popgate=loud\"",
        "5: `log.level`: is not a valid filter",
        "",
    );
    expect(
        "[log]\nformat = \"jsn\"",
        "5: `log.format`: unknown value \"jsn\"",
        "did you mean \"json\"?",
    );
    expect(
        "[[listener]]\ntls = \"off\"",
        "4: `listener[0].address`: is missing",
        "0.0.0.0:110",
    );
    expect(
        "[[listener]]\naddress = \"localhost\"",
        "5: `listener[0].address`: \"localhost\" is not a valid address",
        "",
    );
    let tls = "[[listener]]\naddress = \"[::]:110\"\ntls = \"starttls\"";
    expect(
        tls,
        "6: `listener[0].tls`: \"starttls\" needs a certificate",
        "add [tls]",
    );
    let tls = "[[listener]]\naddress = \"[::]:110\"\nrequire_tls = true";
    expect(tls, "6: `listener[0].require_tls`", "no TLS to require");
    let twice = "[[listener]]\naddress = \"[::]:110\"\n[[listener]]\naddress = \"[::]:110\"";
    expect(
        twice,
        "7: `listener[1].address`: [::]:110 is the address of an earlier",
        "",
    );
    expect(
        "[[listener]]\naddress = \"[::]:110\"\nallow = [\"10.0.0/8\"]",
        "6: `listener[0].allow`: \"10.0.0/8\"",
        "",
    );
    expect(
        "[[listener]]\naddress = \"[::]:110\"\nallow = []",
        "6: `listener[0].allow`: is empty",
        "",
    );
    expect(
        "[tls]\nkey = \"/nonexistent\"",
        "4: `tls.certificate`: is missing",
        "PEM",
    );
    expect(
        "[tls]\ncertificate = \"/nonexistent\"\nkey = \"/nonexistent\"",
        "5: `tls.certificate`: /nonexistent: No such file",
        "",
    );
    expect("[upstream.b]\nport = 1", "4: `upstream.b.host`: is missing", "");
    expect(
        "[upstream.b]\nhost = \"b:993\"",
        "5: `upstream.b.host`: \"b:993\" is not a valid host name",
        "by `port`",
    );
    expect(
        "[upstream.b]\nhost = \"imaps://b\"",
        "5: `upstream.b.host`",
        "give the name alone",
    );
    expect(
        "[upstream.b]\nhost = \"b\"\nport = 70000",
        "6: `upstream.b.port`: 70000 is out of range",
        "from 1 to 65535",
    );
    expect(
        "[upstream.b]\nhost = \"b\"\nca_file = \"ca.pem\"",
        "6: `upstream.b.ca_file`: ca.pem",
        "relative to",
    );
    expect(
        "[upstream.b]\nhost = \"b\"\nfingerprint = \"sha256:00\"",
        "6: `upstream.b.fingerprint`: is not a SHA-256 fingerprint",
        "64 hexadecimal digits",
    );
    expect(
        &format!(
            "[upstream.b]\nhost = \"b\"\nfingerprint = \"sha256:{}\"\ntls = \"off\"",
            "0".repeat(64)
        ),
        "6: `upstream.b.fingerprint`: there is no certificate",
        "leave fingerprint out",
    );
    expect(
        "[upstream.b]\nhost = \"b\"\nauth = \"scram\"",
        "6: `upstream.b.auth`: unknown value \"scram\"",
        "scram-sha-256",
    );
    expect(
        "[upstream.b]\nhost = \"b\"\nproxy = \"http://joe:hunter2%@proxy\"",
        "6: `upstream.b.proxy`: holds a percent sign",
        "socks5://",
    );
    expect(
        "[upstream.z]\nhost = \"b\"\nlogins = [\"*\"]",
        "6: `upstream.z.logins`: \"*\" is forwarded to [upstream.home]",
        "",
    );
    expect(
        "[upstream.HOME]\nhost = \"b\"",
        "1: `upstream.home`: differs from [upstream.HOME] only in case",
        "rename",
    );
    assert!(error("").contains("`upstream`: no upstream is configured"));
    assert!(
        error("[upstream.a]\nhost = \"a\"").starts_with("gateway.toml:1: `upstream.a.logins`: nobody could log in")
    );
}

#[test]
fn errors_of_accounts_name_line_and_key() {
    let account = |more: &str| format!("{ACCOUNT}{more}");
    expect(
        &account(""),
        "4: `account[0].password`: is missing",
        "popgate hash-password",
    );
    expect(
        &account("password = \"a\"\npassword_file = \"b\""),
        "9: `account[0].password_file`: `password` is given too",
        "",
    );
    expect(
        &account("password = \"a\"\npassword_hash = \"b\""),
        "9: `account[0].password_hash`",
        "give one of them",
    );
    expect(
        &account("password_hash = \"hunter2\""),
        "8: `account[0].password_hash`: is not a valid PHC string",
        "",
    );
    expect(
        &account("password_hash = \"$argon2id$v=19$m=19456,t=2,p=1$KdKzVSjkmu+x+3uVqCToXQ\""),
        "8: `account[0].password_hash`: is not a whole",
        "",
    );
    expect(&account("password = \"\""), "8: `account[0].password`: is empty", "");
    expect(
        &account("password = \"a\"\nuser = \"\""),
        "9: `account[0].user`: is empty",
        "",
    );
    expect(
        &account("password_file = \"/nonexistent\""),
        "8: `account[0].password_file`: /nonexistent: No such file",
        "",
    );
    expect(
        &account("password_file = \"/\""),
        "8: `account[0].password_file`: /: is a directory",
        "",
    );
    let one = account("password = \"a\"\n");
    expect(
        &one.replace("\"home\"", "\"hone\""),
        "6: `account[0].upstream`: there is no [upstream.hone]",
        "did you mean `home`?",
    );
    expect(
        &one.replace("upstream = \"home\"\n", ""),
        "4: `account[0].upstream`: is missing",
        "one of home",
    );
    expect(
        &one.replace("login = \"x\"\n", ""),
        "4: `account[0].login`: is missing",
        "",
    );
    expect(
        &one.replace("upstream_password", "#"),
        "4: `account[0].upstream_password`: is missing",
        "imap.example.org",
    );
    expect(
        &format!("{one}{one}"),
        "10: `account[1].login`: \"x\" is the login of an earlier",
        "",
    );
    expect(
        &format!("{one}[account.maildrop]\nfolder = \"\""),
        "10: `account[0].maildrop.folder`: is empty",
        "",
    );
}

#[test]
fn no_error_shows_a_secret() {
    for wrong in [
        "password = 12345hunter2",
        "password = \"hunter2",
        "password = \"hunter2\" x",
        "pasword = \"hunter2\"",
        "upstream_password = \"hunter2\"\nupstream_password = \"hunter2\"",
        "password = [\"hunter2\"]",
        "password = \"a\"\nmaildrop = { password = \"hunter2\" }",
        "password = \"\"\"\nhunter2\n\"\"\"\npassword_hash = \"hunter2\"",
        "password_hash = \"hunter2\"",
        "password = \"\"\"\nhunter2\\q\n\"\"\"",
    ] {
        let error = error(&format!("{UPSTREAM}[[account]]\nlogin = \"x\"\n{wrong}\n"));
        assert!(!error.contains("hunter2"), "{error}");
    }
    let inline =
        "account = [{ login = \"x\", password = \"hunter2\", upstream = \"no\", upstream_password = \"hunter2\" }]\n";
    let error = error(&format!("{inline}{UPSTREAM}"));
    assert!(
        error.contains("there is no [upstream.no]") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn no_error_shows_a_secret_after_the_mistake() {
    for (wrong, part) in [
        (
            "account = [{ login = 5, password = \"hunter2\" }]",
            "`account[0].login`: expected a string",
        ),
        (
            "account = { login = \"x\", password = \"hunter2\" }",
            "`account`: expected an array of tables",
        ),
        (
            "account = [{ login = { password = \"hunter2\" } }]",
            "`account[0].login`: expected a string",
        ),
        (
            "upstream.b = { oauth2 = { grant = \"devise\", client_secret = \"hunter2\" } }",
            "`upstream.b.oauth2.grant`: unknown value \"devise\"",
        ),
        (
            "upstream = { host = \"b\", proxy = \"http://joe:hunter2@proxy\" }",
            "`upstream.host`: expected a table",
        ),
        (
            "upstream.\"a b\" = { host = \"b\", proxy = \"http://joe:hunter2@proxy\" }",
            "a name here is made of",
        ),
        (
            "state = [{ key = \"hunter2\" }]",
            "`state`: expected a table, found a list",
        ),
        (
            "notifi.webhook = \"https://alerts.example.org/hunter2\"",
            "`notifi`: unknown key",
        ),
    ] {
        let error = error(wrong);
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn no_syntax_error_shows_a_secret() {
    for wrong in [
        "[notify]\nwebhook = https://alerts.example.org/hunter2",
        "[notify]\nwebhok = https://alerts.example.org/hunter2",
        "[state]\nurl = redis://joe:hunter2@valkey",
        "[state]\n\turl: \"redis://joe:hunter2@valkey\"",
        "[[account]]\npassword: \"hunter2\"",
        "[[account]]\npassword \"hunter2\"",
        "[[account]]\n  password \"hunter2:\"",
        "[[account]]\npasword = \"hunter2\" x",
        "notify = { webhook = https://alerts.example.org/hunter2 }",
        "[[account]]\npassword =\n\"hunter2\"\nlogin = \"pbx\"",
        "[state]\nkey = \"AAAA\nhunter2\nhunter2=\"\ndir = 7",
        "[state]\nkey = \"AAAA\n  hunter2\"",
    ] {
        let error = error(wrong);
        assert!(error.starts_with("gateway.toml:"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = error("[[account]]\npassword = \"p\"\n\n[upstream.home]\nhost = imap.example.org\n");
    assert!(error.contains("5 | host = imap.example.org\n"), "{error}");
}

#[test]
fn a_caret_stands_below_what_is_wrong() {
    let text = "[upstream.home]\nhost = \"ü\" # ä\nlogins = [\"*\"]\n";
    let error = error(text);
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(&lines[1..4], ["  |", "2 | host = \"ü\" # ä", "  |        ^^^"]);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "([a-z\\[\\]\\.=\"'# \n\r\tä{},0-9]|limits|sessions|\\[\\[account\\]\\]|password|upstream){0,40}") {
        if let Err(error) = Config::parse(&text, Path::new("")) {
            proptest::prop_assert!(error.to_string().starts_with("gateway.toml"));
        }
    }
}
