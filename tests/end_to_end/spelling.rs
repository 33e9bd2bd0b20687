//! Logins that differ only in the case of their domain, or that lack the default domain, are one login, with one
//! mailbox.

use std::process::Command;

use tempfile::TempDir;

use crate::support::{
    PASSWORD,
    dovecot::Dovecot,
    gateway::{Gateway, Setup, account},
    mail,
    pop::Pop,
};

const SPELLINGS: [&str; 3] = ["eva@example.org", "eva@EXAMPLE.org", "eva@Example.ORG"];

fn start(dovecot: &Dovecot, state: &TempDir, policy: &str) -> Gateway {
    dovecot.user_with("eva@example.org", &[1, 2, 3, 4].map(mail::simple));
    Setup::new(dovecot.address())
        .maildrop(policy)
        .limit("parked_seconds = 60")
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .start()
}

/// The reply to a login that comes while another session is open.
fn second(gateway: &Gateway, login: &str) -> String {
    Pop::connect(gateway.address()).try_log_in(login, PASSWORD)
}

#[test]
fn what_one_spelling_hides_the_others_do_not_see() {
    let Some(dovecot) = Dovecot::start() else { return };
    let directory = TempDir::new().unwrap();
    let gateway = start(&dovecot, &directory, "on_delete = \"hide\"");
    for (login, left) in SPELLINGS.into_iter().zip((2..=4).rev()) {
        let mut pop = Pop::log_in(gateway.address(), login);
        assert_eq!(pop.stat().0, left, "{login}");
        assert_eq!(pop.retr(1).1, mail::simple(5 - left));
        for login in SPELLINGS {
            let reply = second(&gateway, login);
            assert!(reply.starts_with("-ERR [IN-USE]"), "{login}: {reply}");
        }
        pop.ok("DELE 1");
        pop.quit();
    }
    let state = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_popgate"))
            .arg("state")
            .args(arguments)
            .arg("--config")
            .arg(gateway.file())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let kept = state(&[]);
    assert_eq!(kept.lines().count(), 1, "{kept}");
    assert!(
        kept.starts_with("eva@example.org: INBOX of eva@example.org at [upstream.lab]: 3 hidden ("),
        "{kept}"
    );
    assert_eq!(state(&[SPELLINGS[1]]), kept);
    let reset = state(&["--reset", SPELLINGS[2]]);
    assert!(reset.starts_with("forgotten: "), "{reset}");
    assert_eq!(Pop::log_in(gateway.address(), SPELLINGS[0]).stat().0, 4);
}

/// One session at a time, even if one of the logins is an `[[account]]`.
#[test]
fn one_session_at_a_time_whatever_leads_to_a_mailbox() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.user_with("eva@example.org", &[mail::simple(1)]);
    let gateway = Setup::new(dovecot.address())
        .table(&account("tickets@Example.org", "eva@EXAMPLE.org"))
        .start();
    for first in ["tickets@example.org", "tickets@EXAMPLE.org", "eva@example.org"] {
        let pop = Pop::log_in(gateway.address(), first);
        for login in ["eva@example.org", "eva@Example.org", "tickets@example.ORG"] {
            let reply = second(&gateway, login);
            assert!(reply.starts_with("-ERR [IN-USE]"), "{first}, {login}: {reply}");
        }
        pop.quit();
    }
}

/// The time of retrieval counts for the login, however the device has written its name.
#[test]
fn marks_are_of_the_login() {
    let Some(dovecot) = Dovecot::start() else { return };
    let state = TempDir::new().unwrap();
    let gateway = start(&dovecot, &state, "retain_days = 14");
    let mut pop = Pop::log_in(gateway.address(), SPELLINGS[1]);
    pop.retr(2);
    pop.quit();
    gateway.stop();
    let Some(ahead) = Setup::new(dovecot.address())
        .maildrop("retain_days = 14")
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .days_ahead(15)
    else {
        return;
    };
    let gateway = ahead.start();
    let mut pop = Pop::log_in(gateway.address(), SPELLINGS[2]);
    assert_eq!(pop.stat().0, 3);
    pop.quit();
    assert_eq!(dovecot.imap("eva@example.org").uids(), [1, 3, 4]);
}

#[test]
fn a_login_without_a_domain_is_of_the_default_domain() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.user_with("eva@example.org", &[mail::simple(1)]);
    let gateway = Setup::new(dovecot.address())
        .upstream("default_domain = \"Example.org\"")
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1).1, mail::simple(1));
    let reply = second(&gateway, "eva@EXAMPLE.org");
    assert!(reply.starts_with("-ERR [IN-USE]"), "{reply}");
    pop.quit();
    let other = Pop::log_in(gateway.address(), "eva@example.com").stat();
    assert_eq!(other.0, 0, "somebody else");
}
