//! Four logins with different policies on one mailbox, at real servers of several kinds. No message is lost or
//! duplicated, no message is removed unless a device has deleted it, and each login sees what it should.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};
use tempfile::TempDir;

use crate::support::{
    dovecot::Dovecot,
    gateway::{Gateway, Setup, account},
    imap::Imap,
    mail,
    pop::Pop,
};

/// Settings of Dovecot: none; without MOVE; without MOVE and UIDPLUS; with a prefix.
const SERVERS: [&str; 4] = [
    "",
    "imap_capability = IMAP4rev1 SASL-IR LITERAL+ UIDPLUS NAMESPACE\n",
    "imap_capability = IMAP4rev1 SASL-IR LITERAL+ NAMESPACE\n",
    "namespace inbox {\n  inbox = yes\n  prefix = INBOX.\n  separator = .\n}\n",
];

/// What happens to messages that a login deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Hide,
    Expunge,
    Move,
    /// They move to the trash, even without a DELE.
    AfterRetrieve,
}

/// Each login, its policy, and the keys of that policy.
const LOGINS: [(&str, Policy, &str); 4] = [
    ("tickets", Policy::Move, "on_delete = \"move:Done\""),
    ("pbx", Policy::Hide, "on_delete = \"hide\""),
    ("fax", Policy::Expunge, "on_delete = \"expunge\""),
    (
        "printer",
        Policy::AfterRetrieve,
        "delete_after_retrieve = true, on_delete = \"trash\"",
    ),
];

#[derive(Debug, Clone)]
enum Event {
    /// This number of messages arrives.
    Mail(usize),
    /// Another client expunges a message.
    Expunged(prop::sample::Index),
    /// Another client flags a message as `\Deleted`, and nobody expunges it.
    Marked(prop::sample::Index),
    Session {
        login: usize,
        /// The messages to fetch, and whether by TOP instead of RETR.
        retrieves: Vec<(prop::sample::Index, bool)>,
        deletes: Vec<prop::sample::Index>,
        end: End,
        /// Whether the gateway is restarted first.
        restart: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Quit,
    Drop,
    /// Sends RSET before QUIT.
    ResetAndQuit,
}

fn event() -> impl Strategy<Value = Event> {
    let indices = || any::<prop::sample::Index>();
    let session = (
        0..LOGINS.len(),
        prop::collection::vec((indices(), any::<bool>()), 0..3),
        prop::collection::vec(indices(), 0..3),
        prop_oneof![6 => Just(End::Quit), 1 => Just(End::Drop), 1 => Just(End::ResetAndQuit)],
        prop::bool::weighted(0.05),
    )
        .prop_map(|(login, retrieves, deletes, end, restart)| Event::Session {
            login,
            retrieves,
            deletes,
            end,
            restart,
        });
    prop_oneof![
        3 => (1..4usize).prop_map(Event::Mail),
        1 => indices().prop_map(Event::Expunged),
        1 => indices().prop_map(Event::Marked),
        12 => session,
    ]
}

/// The messages that should be in each folder, by number.
#[derive(Default)]
struct Model {
    next: usize,
    /// The messages of INBOX without `\Deleted`, ascending.
    inbox: Vec<usize>,
    /// The messages that another client has flagged as `\Deleted`.
    marked: Vec<usize>,
    done: Vec<usize>,
    trash: Vec<usize>,
    hidden: Vec<usize>,
}

impl Model {
    fn shown(&self, policy: Policy) -> Vec<usize> {
        let is_hidden = |mail: &usize| policy == Policy::Hide && self.hidden.contains(mail);
        self.inbox.iter().copied().filter(|mail| !is_hidden(mail)).collect()
    }

    fn delete(&mut self, policy: Policy, mails: &[usize]) {
        match policy {
            Policy::Hide => return self.hidden.extend(mails),
            Policy::Move => self.done.extend(mails),
            Policy::AfterRetrieve => self.trash.extend(mails),
            Policy::Expunge => {}
        }
        self.inbox.retain(|mail| !mails.contains(mail));
    }
}

fn start(dovecot: &Dovecot, user: &str, state: &TempDir) -> Gateway {
    let setup = Setup::new(dovecot.address())
        .limit("parked_seconds = 60")
        .table(&format!("[state]\ndir = {:?}", state.path()));
    let with = |setup: Setup, (login, _, keys): &(&str, Policy, &str)| {
        setup.table(&format!("{}\nmaildrop = {{ {keys} }}", account(login, user)))
    };
    LOGINS.iter().fold(setup, with).start()
}

/// Plays `events` with the mailbox of `user`. Returns how many sessions there were.
fn play(dovecot: &Dovecot, user: &str, events: Vec<Event>) -> Result<usize, TestCaseError> {
    let state = TempDir::new().unwrap();
    let mut imap = dovecot.imap(user);
    let mut gateway = start(dovecot, user, &state);
    let mut model = Model::default();
    let (mut sessions, mut of_gateway) = (0, 0);
    for event in events {
        match event {
            Event::Mail(count) => {
                for _ in 0..count {
                    model.next += 1;
                    model.inbox.push(model.next);
                    imap.append(&[mail::simple(model.next)], "");
                }
            }
            Event::Expunged(which) | Event::Marked(which) if !model.inbox.is_empty() => {
                let mail = model.inbox[which.index(model.inbox.len())];
                let uid = uid_of(&mut imap, mail);
                imap.command(&format!("UID STORE {uid} +FLAGS (\\Deleted)"));
                model.inbox.retain(|other| *other != mail);
                if matches!(event, Event::Expunged(_)) {
                    imap.command(&format!("UID EXPUNGE {uid}"));
                } else {
                    model.marked.push(mail);
                }
            }
            Event::Expunged(_) | Event::Marked(_) => {}
            Event::Session {
                login,
                retrieves,
                deletes,
                end,
                restart,
            } => {
                if restart {
                    gateway.stop();
                    gateway = start(dovecot, user, &state);
                    of_gateway = 0;
                }
                of_gateway += 1;
                sessions += 1;
                session(&gateway, &mut model, login, &retrieves, &deletes, end)?;
                // The maildrop is free only when the session has ended.
                gateway.sessions(of_gateway);
            }
        }
    }
    gateway.stop();
    let mut left = [model.inbox, model.marked].concat();
    left.sort_unstable();
    prop_assert_eq!(contents(&mut imap, "INBOX"), left);
    for (folder, mut expected) in [("Done", model.done), ("Trash", model.trash)] {
        expected.sort_unstable();
        let names = [folder.to_owned(), format!("INBOX.{folder}")];
        let found = names.iter().find(|name| imap.try_select(name));
        let there = found.map_or(Vec::new(), |name| contents(&mut imap, name));
        prop_assert_eq!(there, expected, "{}", folder);
    }
    Ok(sessions)
}

fn session(
    gateway: &Gateway,
    model: &mut Model,
    login: usize,
    retrieves: &[(prop::sample::Index, bool)],
    deletes: &[prop::sample::Index],
    end: End,
) -> Result<(), TestCaseError> {
    let (login, policy, _) = LOGINS[login];
    let shown = model.shown(policy);
    let mut pop = Pop::log_in(gateway.address(), login);
    prop_assert_eq!(pop.stat().0, shown.len(), "{}", login);
    let mut retrieved = Vec::new();
    let mut deleted = Vec::new();
    if !shown.is_empty() {
        for (which, by_top) in retrieves {
            let at = which.index(shown.len());
            let body = if *by_top {
                pop.top(at + 1, 99_999_999)
            } else {
                pop.retr(at + 1).1
            };
            prop_assert_eq!(mail::number(&body), shown[at]);
            retrieved.push(shown[at]);
        }
        for which in deletes {
            let at = which.index(shown.len());
            if !deleted.contains(&shown[at]) {
                pop.ok(&format!("DELE {}", at + 1));
                deleted.push(shown[at]);
            }
        }
    }
    if end == End::ResetAndQuit {
        pop.ok("RSET");
        deleted.clear();
    }
    if end == End::Drop {
        return Ok(());
    }
    pop.quit();
    if policy == Policy::AfterRetrieve {
        deleted.extend(retrieved);
        deleted.sort_unstable();
        deleted.dedup();
    }
    model.delete(policy, &deleted);
    Ok(())
}

fn uid_of(imap: &mut Imap, mail: usize) -> u32 {
    let bodies: BTreeMap<u32, Vec<u8>> = imap.bodies();
    let found = bodies.iter().find(|(_, octets)| mail::number(octets) == mail);
    *found.unwrap().0
}

fn contents(imap: &mut Imap, folder: &str) -> Vec<usize> {
    assert!(imap.try_select(folder));
    let mut mails: Vec<usize> = imap.bodies().values().map(|octets| mail::number(octets)).collect();
    mails.sort_unstable();
    mails
}

#[test]
fn four_logins_over_a_thousand_sessions() {
    let mut sessions = 0;
    for (server, settings) in SERVERS.iter().enumerate() {
        let Some(dovecot) = Dovecot::start_with(settings) else {
            return;
        };
        let played = std::cell::Cell::new(0);
        let cases = std::cell::Cell::new(0);
        let config = ProptestConfig {
            cases: 3,
            max_shrink_iters: 10,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        TestRunner::new(config)
            .run(&prop::collection::vec(event(), 118..124), |events| {
                cases.set(cases.get() + 1);
                let user = format!("s{server}u{}", cases.get());
                played.set(played.get() + play(&dovecot, &user, events)?);
                Ok(())
            })
            .unwrap();
        sessions += played.get();
    }
    assert!(sessions > 900, "only {sessions} sessions");
}
