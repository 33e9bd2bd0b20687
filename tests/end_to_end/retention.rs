//! `retain_days`: messages that a login has retrieved are removed after this number of days, at its next login or by a
//! sweep. The clock is moved.

use std::process::Command;

use tempfile::TempDir;

use crate::support::{
    PASSWORD,
    answers::Answers,
    dovecot::Dovecot,
    gateway::{self, Setup},
    mail,
    peer::Peer,
    pop::Pop,
};

fn account(login: &str, maildrop: &str) -> String {
    let account = gateway::account(login, "eva");
    format!("{account}\nmaildrop = {{ retain_days = 14{maildrop} }}")
}

fn setup(dovecot: &Dovecot, state: &TempDir, maildrop: &str) -> Setup {
    Setup::new(dovecot.address())
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .table(&account("tickets", maildrop))
}

/// A session that retrieves the second message of five, and begins to retrieve the third.
fn retrieve(dovecot: &Dovecot, state: &TempDir, maildrop: &str) {
    let gateway = setup(dovecot, state, maildrop).start();
    let mut pop = Pop::log_in(gateway.address(), "tickets");
    assert!(pop.list("CAPA").contains(&"EXPIRE 14".to_owned()));
    assert_eq!(pop.retr(2).1, mail::simple(2));
    pop.top(3, 2);
    pop.quit();
    gateway.stop();
}

fn five(dovecot: &Dovecot) -> crate::support::imap::Imap {
    dovecot.user_with("eva", &(1..=5).map(mail::simple).collect::<Vec<_>>())
}

#[test]
fn by_a_sweep_for_a_login_that_does_not_come_back() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = five(&dovecot);
    let state = TempDir::new().unwrap();
    retrieve(&dovecot, &state, ", on_delete = \"move:Old\"");
    let Some(ahead) = setup(&dovecot, &state, ", on_delete = \"move:Old\"").days_ahead(15) else {
        return;
    };
    let gateway = ahead.start();
    gateway.events("messages whose retain_days are over were removed", 1);
    gateway.stop();
    assert_eq!(imap.uids(), [1, 3, 4, 5]);
    assert!(imap.try_select("Old"));
    assert_eq!(imap.bodies().into_values().collect::<Vec<_>>(), [mail::simple(2)]);
}

#[test]
fn a_forwarded_login_is_served_when_it_comes() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = five(&dovecot);
    let state = TempDir::new().unwrap();
    let setup = || {
        Setup::new(dovecot.address())
            .table(&format!("[state]\ndir = {:?}", state.path()))
            .maildrop("retain_days = 14")
    };
    let gateway = setup().start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    // Even without QUIT, a message counts as retrieved if the device has sent another command after it.
    pop.retr(2);
    pop.retr(3);
    drop(pop);
    gateway.sessions(1);
    gateway.stop();
    for (days, left) in [(13, vec![1, 2, 3, 4, 5]), (15, vec![1, 3, 4, 5])] {
        let Some(ahead) = setup().days_ahead(days) else { return };
        let gateway = ahead.start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.stat().0, left.len(), "{days} days later");
        pop.quit();
        gateway.stop();
        assert_eq!(imap.uids(), left, "{days} days later");
    }
}

/// Several devices retrieve the same mail. Each has its own `retain_days`, and mail that one login hides stays for the
/// others.
#[test]
fn with_hide_it_concerns_one_login_only() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = five(&dovecot);
    let state = TempDir::new().unwrap();
    let hide = ", on_delete = \"hide\"";
    retrieve(&dovecot, &state, hide);
    let Some(ahead) = setup(&dovecot, &state, hide)
        .table(&account("alarm", hide))
        .days_ahead(15)
    else {
        return;
    };
    let gateway = ahead.start();
    gateway.events("messages whose retain_days are over were removed", 1);
    let mut tickets = Pop::log_in(gateway.address(), "tickets");
    let mut alarm = Pop::log_in(gateway.address(), "alarm");
    assert_eq!((tickets.stat().0, alarm.stat().0), (4, 5));
    tickets.quit();
    alarm.quit();
    assert_eq!(imap.uids(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_dry_run_lists_what_would_go() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = five(&dovecot);
    let state = TempDir::new().unwrap();
    retrieve(&dovecot, &state, "");
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("gateway.toml");
    std::fs::write(&file, setup(&dovecot, &state, "").text()).unwrap();
    let check = |days: u32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_popgate"));
        gateway::wind_on(&mut command, days);
        command.args(["check", "--retention", "--config"]).arg(&file);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    if Setup::new(dovecot.address()).days_ahead(1).is_none() {
        return;
    }
    let before = check(13);
    assert!(before.contains("tickets: nothing would be removed now"), "{before}");
    let after = check(15);
    assert!(
        after.contains("tickets: 1 message of INBOX would be removed now (expunge)"),
        "{after}"
    );
    assert!(after.contains("UID 2"), "{after}");
    assert_eq!(imap.uids(), [1, 2, 3, 4, 5]);
}

/// No gateway runs meanwhile, so the command itself asks the upstreams.
#[test]
fn a_dry_run_tells_of_folders_that_devices_picked() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = five(&dovecot);
    imap.command("CREATE Lists");
    imap.command("COPY 4:5 Lists");
    let state = TempDir::new().unwrap();
    let picks = ", folder_separator = \"+\"";
    retrieve(&dovecot, &state, picks);
    let gateway = setup(&dovecot, &state, picks).start();
    let mut pop = Pop::log_in(gateway.address(), "tickets+Lists");
    assert_eq!(pop.retr(1).1, mail::simple(4));
    pop.quit();
    gateway.stop();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("gateway.toml");
    std::fs::write(&file, setup(&dovecot, &state, picks).text()).unwrap();
    let check = |days: u32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_popgate"));
        command
            .args(["check", "--connect", "--retention", "--config"])
            .arg(&file);
        gateway::wind_on(&mut command, days);
        let output = command.output().unwrap();
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{printed}");
        assert!(!printed.contains("a gateway is using it"), "{printed}");
        printed
    };
    let before = check(0);
    assert!(before.contains(": ok, 5 messages of "), "{before}");
    for folder in ["INBOX", "Lists"] {
        let nothing = format!("tickets: nothing of {folder} would be removed now\n");
        assert!(before.contains(&nothing), "{before}");
    }
    if Setup::new(dovecot.address()).days_ahead(1).is_none() {
        return;
    }
    let after = check(15);
    assert!(
        after.contains(": ok, 4 messages of "),
        "what would go is not seen: {after}"
    );
    for folder in ["INBOX", "Lists"] {
        let one = format!("tickets: 1 message of {folder} would be removed now (expunge)\n");
        assert!(after.contains(&one), "{after}");
    }
    assert_eq!(imap.uids(), [1, 2, 3, 4, 5]);
}

/// Before the login the policy is unknown, so CAPA tells the shortest time of all (RFC 2449 §6.7).
#[test]
fn capa_tells_the_shortest_time_until_it_knows_the_login() {
    let peer = Peer::start(Answers::of([mail::simple(1)]));
    let gateway = Setup::new(peer.address()).table(&account("tickets", "")).start();
    let mut pop = Pop::connect(gateway.address());
    assert!(pop.list("CAPA").contains(&"EXPIRE 14 USER".to_owned()));
    assert!(pop.try_log_in("eva", PASSWORD).starts_with("+OK"));
    assert!(pop.list("CAPA").contains(&"EXPIRE NEVER".to_owned()));
    pop.quit();
}
