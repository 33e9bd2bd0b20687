//! `hide`: several devices on one mailbox, each with a view of its own.

use std::{collections::BTreeSet, process::Command};

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    PASSWORD,
    answers::Answers,
    dovecot::Dovecot,
    gateway::{Gateway, Setup, account},
    mail,
    peer::Peer,
    pop::Pop,
};

const DEVICES: [&str; 2] = ["tickets", "alarm"];

fn start(dovecot: &Dovecot, user: &str, state: &TempDir) -> Gateway {
    let accounts = DEVICES.map(|login| account(login, user));
    let setup = Setup::new(dovecot.address())
        .maildrop("on_delete = \"hide\"")
        .limit("parked_seconds = 60")
        .table(&format!("[state]\ndir = {:?}", state.path()));
    accounts
        .iter()
        .fold(setup, |setup, account| setup.table(account))
        .start()
}

/// What happens to the mailbox.
#[derive(Debug, Clone)]
enum Event {
    /// This number of messages arrives.
    Mail(usize),
    /// Another client expunges the message that the index chooses.
    Expunged(prop::sample::Index),
    /// A device has a session.
    Session {
        device: usize,
        /// Each index chooses one of the shown messages, which the device deletes.
        deletes: Vec<prop::sample::Index>,
        /// Whether the session ends with QUIT; if not, the device drops the connection.
        quits: bool,
        /// Whether the gateway is restarted first.
        restart: bool,
    },
}

fn session() -> impl Strategy<Value = Event> {
    let deletes = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    (
        0..DEVICES.len(),
        deletes,
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(device, deletes, quits, restart)| Event::Session {
            device,
            deletes,
            quits,
            restart,
        })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1..4usize).prop_map(Event::Mail),
        any::<prop::sample::Index>().prop_map(Event::Expunged),
        session(),
        session(),
        session(),
    ]
}

/// The messages in the mailbox, and those that each device has hidden, by their numbers.
#[derive(Default)]
struct Model {
    mails: Vec<usize>,
    next: usize,
    hidden: [BTreeSet<usize>; DEVICES.len()],
}

fn play(dovecot: &Dovecot, user: &str, events: Vec<Event>) -> Result<(), TestCaseError> {
    let state = TempDir::new().unwrap();
    let mut imap = dovecot.imap(user);
    let mut gateway = start(dovecot, user, &state);
    // Of this gateway.
    let mut sessions = 0;
    let mut model = Model::default();
    for event in events {
        match event {
            Event::Mail(count) => {
                for _ in 0..count {
                    model.next += 1;
                    model.mails.push(model.next);
                    imap.append(&[mail::simple(model.next)], "");
                }
            }
            Event::Expunged(which) if !model.mails.is_empty() => {
                let at = which.index(model.mails.len());
                let uid = imap.uids()[at];
                imap.command(&format!("UID STORE {uid} +FLAGS (\\Deleted)"));
                imap.command(&format!("UID EXPUNGE {uid}"));
                model.mails.remove(at);
            }
            Event::Expunged(_) => {}
            Event::Session {
                device,
                deletes,
                quits,
                restart,
            } => {
                if restart {
                    gateway.stop();
                    gateway = start(dovecot, user, &state);
                    sessions = 0;
                }
                sessions += 1;
                let hidden = &mut model.hidden[device];
                let visible = model.mails.iter().copied().filter(|mail| !hidden.contains(mail));
                let visible: Vec<usize> = visible.collect();
                let mut pop = Pop::log_in(gateway.address(), DEVICES[device]);
                let shown: Vec<_> = (1..=pop.stat().0).map(|number| pop.retr(number).1).collect();
                let expected: Vec<_> = visible.iter().map(|&mail| mail::simple(mail)).collect();
                prop_assert_eq!(shown.len(), expected.len());
                prop_assert!(shown == expected);
                let mut deleted = BTreeSet::new();
                if !visible.is_empty() {
                    for which in deletes {
                        let at = which.index(visible.len());
                        if deleted.insert(visible[at]) {
                            pop.ok(&format!("DELE {}", at + 1));
                        }
                    }
                }
                if quits {
                    pop.quit();
                    hidden.extend(deleted);
                } else {
                    drop(pop);
                    // Until the gateway has noticed, the maildrop is in use.
                    gateway.sessions(sessions);
                }
            }
        }
    }
    gateway.stop();
    prop_assert_eq!(imap.uids().len(), model.mails.len(), "nothing is removed upstream");
    Ok(())
}

#[test]
fn two_devices_over_fifty_sessions() {
    let Some(dovecot) = Dovecot::start() else { return };
    let cases = std::cell::Cell::new(0);
    let config = ProptestConfig {
        cases: 2,
        max_shrink_iters: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&prop::collection::vec(event(), 85..95), |events| {
            cases.set(cases.get() + 1);
            play(&dovecot, &format!("u{}", cases.get()), events)
        })
        .unwrap();
}

/// Neither device waits for the other, because hiding concerns nobody else.
#[test]
fn both_devices_at_once() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.user_with("eva", &[mail::simple(1), mail::simple(2)]);
    let state = TempDir::new().unwrap();
    let gateway = start(&dovecot, "eva", &state);
    let mut tickets = Pop::log_in(gateway.address(), "tickets");
    let mut alarm = Pop::log_in(gateway.address(), "alarm");
    tickets.ok("DELE 1");
    tickets.quit();
    assert_eq!(alarm.retr(1).1, mail::simple(1));
    alarm.ok("DELE 2");
    alarm.quit();
    let mut tickets = Pop::log_in(gateway.address(), "tickets");
    assert_eq!((tickets.stat().0, tickets.retr(1).1), (1, mail::simple(2)));
    let mut second = Pop::connect(gateway.address());
    let reply = second.try_log_in("tickets", PASSWORD);
    assert!(reply.starts_with("-ERR [IN-USE]"), "{reply}");
    tickets.quit();
}

/// The device only gets a temporary error; the log has the reason.
#[test]
fn a_reset_during_a_session_is_in_the_log() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.user_with("eva", &[mail::simple(1), mail::simple(2)]);
    let state = TempDir::new().unwrap();
    let gateway = start(&dovecot, "eva", &state);
    let mut pop = Pop::log_in(gateway.address(), "tickets");
    pop.ok("DELE 1");
    pop.quit();
    let mut pop = Pop::log_in(gateway.address(), "tickets");
    pop.ok("DELE 1");
    let reset = Command::new(env!("CARGO_BIN_EXE_popgate"))
        .args(["state", "--reset", "tickets", "--config"])
        .arg(gateway.file())
        .output()
        .unwrap();
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));
    let events = gateway.events("reset: what was kept of this login is forgotten", 1);
    assert_eq!(
        (&events[0]["login"], &events[0]["mailboxes"]),
        (&json!("tickets"), &json!(1))
    );
    pop.err("QUIT", "-ERR [SYS/TEMP]");
    let refused =
        "the marks of this login were reset or renumbered during its session: what the session did is not stored";
    let events = gateway.events(refused, 1);
    assert_eq!(
        (&events[0]["level"], &events[0]["login"], &events[0]["mailbox"]),
        (&json!("WARN"), &json!("tickets"), &json!("lab/eva/INBOX"))
    );
    let mut pop = Pop::log_in(gateway.address(), "tickets");
    assert_eq!(pop.stat().0, 2);
    pop.quit();
}

/// With more devices on a mailbox than connections, one gets an error with the reason: here the third of three with two
/// connections.
#[test]
fn the_device_that_is_one_too_many_hears_why() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.user_with("eva", &[mail::simple(1)]);
    let logins = ["tickets", "alarm", "fax"];
    let setup = Setup::new(dovecot.address())
        .upstream("connections_per_user = 2")
        .maildrop("on_delete = \"hide\"");
    let setup = logins
        .iter()
        .fold(setup, |setup, login| setup.table(&account(login, "eva")));
    let gateway = setup.start();
    let served = [
        Pop::log_in(gateway.address(), "tickets"),
        Pop::log_in(gateway.address(), "alarm"),
    ];
    let reply = Pop::connect(gateway.address()).try_log_in("fax", PASSWORD);
    assert!(
        reply.starts_with("-ERR [SYS/TEMP]") && reply.contains("connections_per_user"),
        "{reply}"
    );
    let checked = gateway.check();
    assert!(
        checked.contains(
            "eva at [upstream.lab]: 3 logins hide messages there, and connections_per_user = 2 is enough for 2 devices at once"
        ),
        "{checked}"
    );
    assert!(
        checked.contains("warning: 3 logins hide messages in the mailbox of eva"),
        "{checked}"
    );
    served.into_iter().for_each(Pop::quit);
    Pop::log_in(gateway.address(), "fax").quit();
}

/// For once, a server lists fewer messages than it says it has. Hidden messages stay hidden, and the messages that were
/// left out are shown again, even if the mailbox then has as many messages as were listed.
#[test]
fn what_is_left_out_of_a_listing_is_not_forgotten() {
    let exists = |count: u32| format!("* {count} EXISTS\r\n* OK [UIDVALIDITY 1000]\r\n{{tag}} OK\r\n");
    let listed = |uids: &[u32]| {
        let line = |uid| format!("* 1 FETCH (UID {uid} RFC822.SIZE 122)\r\n");
        uids.iter().map(line).collect::<String>() + "{tag} OK\r\n"
    };
    let all = Answers::of((1..=4).map(mail::simple));
    let answers = |count, uids: &[u32]| {
        all.clone()
            .on("SELECT", exists(count))
            .on("UID FETCH 1:", listed(uids))
            .on("UID FETCH 5:", listed(&[]))
    };
    let state = TempDir::new().unwrap();
    for (answers, shown) in [
        (answers(4, &[1, 2, 3, 4]), "1 2 3 4"),
        (answers(5, &[1, 4]), "1 4"),
        (answers(2, &[2, 3]), "3"),
        (answers(4, &[1, 2, 3, 4]), "1 3 4"),
    ] {
        let peer = Peer::start(answers);
        let gateway = Setup::new(peer.address())
            .maildrop("on_delete = \"hide\"")
            .maildrop("uidl = \"uid\"")
            .table(&format!("[state]\ndir = {:?}", state.path()))
            .start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        let lines = pop.list("UIDL");
        let uids: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(uids.join(" "), shown, "{:?}", peer.commands());
        if shown == "1 2 3 4" {
            pop.ok("DELE 2");
        }
        pop.quit();
        gateway.stop();
    }
}
