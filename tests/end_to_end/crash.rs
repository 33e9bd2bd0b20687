//! The gateway is killed in the middle of QUIT. When the login has come back, at the latest, every message must be
//! either where it was or where the policy sends it, and only once. What was confirmed must stay done.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{
    dovecot::Dovecot,
    gateway::{Gateway, Setup},
    imap::Imap,
    mail,
    pop::Pop,
    tap::{Stop, Tap},
};

const WITHOUT_MOVE: &str = "imap_capability = IMAP4rev1 SASL-IR LITERAL+ UIDPLUS\n";
const BARE: &str = "imap_capability = IMAP4rev1 SASL-IR LITERAL+\n";
const MESSAGES: usize = 6;

fn start(upstream: std::net::SocketAddr, policy: &str, state: &TempDir) -> Gateway {
    Setup::new(upstream)
        .maildrop(&format!("on_delete = \"{policy}\""))
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .start()
}

/// Logs in, deletes all messages but the last, and says QUIT.
fn begin_to_delete(gateway: &Gateway, user: &str) -> Pop {
    let mut pop = Pop::log_in(gateway.address(), user);
    for number in 1..pop.stat().0 {
        pop.ok(&format!("DELE {number}"));
    }
    pop.send(b"QUIT\r\n");
    pop
}

/// The folders in which each message is, without messages that bear `\Deleted`.
fn places(imap: &mut Imap, folders: &[&str]) -> BTreeMap<Vec<u8>, Vec<String>> {
    let mut places: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for folder in folders {
        if imap.try_select(folder) {
            let flags = imap.flags();
            for (uid, octets) in imap.bodies() {
                if !flags[&uid].contains("\\Deleted") {
                    places.entry(octets).or_default().push((*folder).to_owned());
                }
            }
        }
    }
    places
}

/// The messages that the login sees in a session that deletes nothing.
fn come_back(gateway: Gateway, user: &str) -> Vec<Vec<u8>> {
    let mut pop = Pop::log_in(gateway.address(), user);
    let shown = (1..=pop.stat().0).map(|number| pop.retr(number).1).collect();
    pop.quit();
    gateway.stop();
    shown
}

fn mails() -> Vec<Vec<u8>> {
    (1..=MESSAGES).map(mail::simple).collect()
}

/// Kills the gateway at `stop`. Then the login comes back, and deletes once more.
fn killed_at(settings: &str, policy: &str, stop: Stop) {
    let Some(dovecot) = Dovecot::start_with(settings) else {
        return;
    };
    let mails = mails();
    let mut imap = dovecot.user_with("eva", &mails);
    let state = TempDir::new().unwrap();
    let tap = Tap::start(dovecot.address(), stop);
    let mut gateway = start(tap.address(), policy, &state);
    let pop = begin_to_delete(&gateway, "eva");
    tap.wait();
    gateway.signal("KILL");
    gateway.wait();
    drop((pop, gateway, tap));

    let shown = come_back(start(dovecot.address(), policy, &state), "eva");
    let context = format!("{policy}, {stop:?}, {settings}");
    check(&mut imap, policy, &mails, &shown, &context);

    // This time the deletion succeeds.
    let gateway = start(dovecot.address(), policy, &state);
    let mut pop = begin_to_delete(&gateway, "eva");
    pop.expect("+OK");
    gateway.stop();
    let places = places(&mut imap, &["INBOX", "Old"]);
    let kept: Vec<_> = places.iter().filter(|(_, folders)| **folders == ["INBOX"]).collect();
    assert_eq!(kept.len(), 1, "{context}: {places:?}");
    if policy != "expunge" {
        assert_eq!(places.len(), MESSAGES, "{context}");
        assert!(
            places.values().all(|folders| folders.len() == 1),
            "{context}: {places:?}"
        );
    }
}

/// Asserts that each message is in one place, and that the login sees the messages of INBOX.
fn check(imap: &mut Imap, policy: &str, mails: &[Vec<u8>], shown: &[Vec<u8>], context: &str) {
    let places = places(imap, &["INBOX", "Old"]);
    for mail in mails {
        let folders = places.get(mail).map_or(&[][..], Vec::as_slice);
        let subject = String::from_utf8_lossy(mail);
        match policy {
            "expunge" => assert!(folders.len() <= 1, "{context}: {folders:?} {subject}"),
            _ => assert_eq!(folders.len(), 1, "{context}: {folders:?} {subject}"),
        }
        if policy != "hide" {
            assert_eq!(
                folders.contains(&"INBOX".to_owned()),
                shown.contains(mail),
                "{context}: {subject}"
            );
        }
    }
    assert!(
        shown.contains(&mails[MESSAGES - 1]),
        "{context}: nobody deleted the last one"
    );
    assert!(imap.try_select("INBOX"));
    let flags = imap.flags();
    let is_half = |flags: &String| flags.contains("\\Deleted");
    assert!(!flags.values().any(is_half), "{context}: half deleted: {flags:?}");
}

#[test]
fn at_each_step_of_a_move() {
    for stop in [Stop::Before("UID MOVE"), Stop::After("UID MOVE")] {
        killed_at("", "move:Old", stop);
    }
}

#[test]
fn at_each_step_of_a_copy() {
    for command in ["STATUS", "CREATE", "UID COPY", "UID STORE", "UID EXPUNGE"] {
        for stop in [Stop::Before(command), Stop::After(command)] {
            killed_at(WITHOUT_MOVE, "move:Old", stop);
        }
    }
}

#[test]
fn at_each_step_of_a_copy_without_uidplus() {
    // The stop before EXPUNGE stands for one after UID SEARCH DELETED, which cannot be named because listing sends it
    // too.
    for command in ["UID COPY", "UID STORE", "EXPUNGE"] {
        for stop in [Stop::Before(command), Stop::After(command)] {
            killed_at(BARE, "move:Old", stop);
        }
    }
}

#[test]
fn at_each_step_of_an_expunge() {
    for command in ["UID STORE", "UID EXPUNGE"] {
        for stop in [Stop::Before(command), Stop::After(command)] {
            killed_at("", "expunge", stop);
        }
    }
}

/// Pseudo-random numbers, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Kills the gateway `count` times at random points, each time with a new login.
fn killed_at_random(settings: &str, policy: &str, count: u64) {
    let Some(dovecot) = Dovecot::start_with(settings) else {
        return;
    };
    let mails = mails();
    let mut dice = Dice(count);
    // How long an undisturbed QUIT takes.
    let quit = {
        let state = TempDir::new().unwrap();
        dovecot.user_with("first", &mails);
        let gateway = start(dovecot.address(), policy, &state);
        let begun = Instant::now();
        let mut pop = begin_to_delete(&gateway, "first");
        pop.expect("+OK");
        begun.elapsed()
    };
    let microseconds = u64::try_from(quit.as_micros()).unwrap();
    for kill in 0..count {
        let user = format!("u{kill}");
        let mut imap = dovecot.user_with(&user, &mails);
        let state = TempDir::new().unwrap();
        let mut gateway = start(dovecot.address(), policy, &state);
        let mut pop = begin_to_delete(&gateway, &user);
        std::thread::sleep(Duration::from_micros(dice.roll(microseconds)));
        gateway.signal("KILL");
        gateway.wait();
        let confirmed = pop.rest().starts_with(b"+OK");
        drop((pop, gateway));
        let shown = come_back(start(dovecot.address(), policy, &state), &user);
        let context = format!("{policy}, kill {kill}, confirmed: {confirmed}");
        check(&mut imap, policy, &mails, &shown, &context);
        if confirmed {
            assert_eq!(shown, mails[MESSAGES - 1..], "{context}");
        }
        if policy == "hide" {
            assert!(
                shown.len() == MESSAGES || shown.len() == 1,
                "{context}: {}",
                shown.len()
            );
        }
    }
}

#[test]
fn at_fifty_random_points_of_expunge() {
    killed_at_random("", "expunge", 50);
}

#[test]
fn at_fifty_random_points_of_move() {
    killed_at_random("", "move:Old", 50);
}

#[test]
fn at_fifty_random_points_of_copy() {
    killed_at_random(WITHOUT_MOVE, "move:Old", 50);
}

#[test]
fn at_fifty_random_points_of_hide() {
    killed_at_random("", "hide", 50);
}
