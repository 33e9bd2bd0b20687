//! The gateway's own mail among the messages of a device: it says that the consent for them ends soon.

use super::{LOCAL, Lab, XOAUTH2, account, lets_in};
use crate::support::{
    gateway::{Gateway, Setup},
    imap::Imap,
    mail,
    pop::Pop,
};

/// A day on which the tests' consent ends within 14 days.
const SOON: u32 = 80;

impl Lab {
    /// A gateway some days before the consent ends, with these maildrop keys and these tables.
    fn soon(&self, keys: &[&str], tables: &str) -> Option<Gateway> {
        let setup = keys
            .iter()
            .fold(self.by_device(), |setup: Setup, key| setup.maildrop(key));
        let setup = setup.table(&format!("[notify]\nmail = true\n{tables}"));
        let gateway = setup.days_ahead(SOON)?.start();
        gateway.events("somebody must act", 1);
        Some(gateway)
    }

    /// A gateway on the same day after a restart: the earlier notice still stands.
    fn soon_again(&self, keys: &[&str]) -> Option<Gateway> {
        let setup = keys
            .iter()
            .fold(self.by_device(), |setup: Setup, key| setup.maildrop(key));
        Some(setup.table("[notify]\nmail = true").days_ahead(SOON)?.start())
    }
}

/// A lab with a consent of 90 days, and a gateway some days before its end.
fn start(keys: &[&str]) -> Option<(Lab, Gateway)> {
    let lab = Lab::new(XOAUTH2)?;
    lab.consent_of(90);
    let gateway = lab.soon(keys, "")?;
    Some((lab, gateway))
}

fn log_in(gateway: &Gateway, login: &str) -> Pop {
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in(login, LOCAL);
    assert!(reply.starts_with("+OK "), "{reply}");
    pop
}

/// RETR of the gateway's own mail.
#[track_caller]
fn own(pop: &mut Pop, number: usize) -> String {
    let (octets, text) = pop.retr(number);
    assert_eq!(octets, text.len() as u64);
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.starts_with("From: popgate <notice@popgate.invalid>\r\nDate: "),
        "{text}"
    );
    assert!(
        text.contains("\r\nSubject: popgate: sign in again for eva before "),
        "{text}"
    );
    assert!(text.contains("popgate sign-in pbx\r\n"), "{text}");
    text
}

/// How many messages a session of `login` sees.
fn count(gateway: &Gateway, login: &str) -> usize {
    let mut pop = log_in(gateway, login);
    let (count, _) = pop.stat();
    pop.quit();
    count
}

#[test]
fn it_is_a_message_like_any_other() {
    let Some((lab, gateway)) = start(&[]) else { return };
    let mut pop = log_in(&gateway, "pbx");
    let (messages, octets) = pop.stat();
    let (sizes, names) = (pop.list("LIST"), pop.list("UIDL"));
    assert_eq!((messages, sizes.len(), names.len()), (4, 4, 4));
    let text = own(&mut pop, 4);
    assert_eq!(sizes[3], format!("4 {}", text.len()));
    assert_eq!(pop.ok("LIST 4"), format!("+OK 4 {}", text.len()));
    let sum = sizes
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap());
    assert_eq!(octets, sum.sum::<u64>());
    assert_eq!(pop.ok("UIDL 4"), format!("+OK {}", names[3]));
    let name = names[3].strip_prefix("4 ").unwrap();
    assert!((1..=70).contains(&name.len()) && name.bytes().all(|octet| octet.is_ascii_graphic()));
    assert!(names[..3].iter().all(|other| !other.ends_with(name)));
    for lines in [0, 1, 3, 1000] {
        assert_eq!(pop.top(4, lines), mail::top(text.as_bytes(), lines as usize), "{lines}");
    }
    assert_eq!(pop.ok("LAST"), "+OK 4");
    let subjects = pop.list("XTND XLST Subject");
    assert!(
        subjects[3].starts_with("4 Subject: popgate: sign in again for eva"),
        "{subjects:?}"
    );
    for number in 1..=3 {
        assert_eq!(pop.retr(number).1, mail::simple(number));
    }
    pop.ok("DELE 4");
    pop.err("DELE 4", "-ERR");
    pop.err("RETR 4", "-ERR");
    pop.err("TOP 4 0", "-ERR");
    pop.err("LIST 4", "-ERR");
    pop.err("UIDL 4", "-ERR");
    assert_eq!(pop.stat(), (3, octets - text.len() as u64));
    assert_eq!(
        (pop.list("LIST"), pop.list("UIDL")),
        (sizes[..3].to_vec(), names[..3].to_vec())
    );
    pop.ok("RSET");
    assert_eq!((pop.stat(), pop.list("UIDL")), ((4, octets), names.clone()));
    pop.err("RETR 5", "-ERR");
    pop.ok("QUIT");
    // The mail is the same in each session, and after a restart.
    let mut pop = log_in(&gateway, "pbx");
    assert_eq!((pop.list("LIST"), pop.list("UIDL")), (sizes.clone(), names.clone()));
    pop.ok("DELE 4");
    drop(pop);
    gateway.sessions(2);
    gateway.stop();
    let Some(gateway) = lab.soon_again(&[]) else { return };
    let mut pop = log_in(&gateway, "pbx");
    assert_eq!((pop.list("LIST"), pop.list("UIDL")), (sizes, names));
    assert_eq!(own(&mut pop, 4), text);
    pop.quit();
    gateway.stop();
    let mut imap = lab.dovecot.imap("eva");
    let bodies: Vec<_> = imap.bodies().into_values().collect();
    assert_eq!(
        bodies,
        (1..=3).map(mail::simple).collect::<Vec<_>>(),
        "no upstream hears of it"
    );
}

/// The upstream's mailbox after a session that deletes the gateway's own mail and the first message.
fn deleted(keys: &[&str]) -> Option<(Lab, Imap)> {
    let (lab, gateway) = start(keys)?;
    let mut pop = log_in(&gateway, "pbx");
    own(&mut pop, 4);
    pop.ok("DELE 4");
    pop.ok("DELE 1");
    pop.ok("QUIT");
    assert_eq!(count(&gateway, "pbx"), 2, "{keys:?}");
    gateway.stop();
    let gateway = lab.soon_again(keys)?;
    let mut pop = log_in(&gateway, "pbx");
    let left: Vec<_> = (1..=pop.stat().0).map(|number| pop.retr(number).1).collect();
    assert_eq!(
        left,
        [mail::simple(2), mail::simple(3)],
        "{keys:?}: it does not come back"
    );
    pop.ok("QUIT");
    gateway.stop();
    let imap = lab.dovecot.imap("eva");
    Some((lab, imap))
}

#[test]
fn deleted_whatever_the_policy_is() {
    for (policy, left) in [("expunge", 2), ("move:Done", 2), ("trash", 2), ("hide", 3)] {
        let key = format!("on_delete = {policy:?}");
        let Some((_lab, mut imap)) = deleted(&[&key]) else {
            return;
        };
        assert_eq!(imap.uids().len(), left, "{policy}");
        for folder in ["Done", "Trash"] {
            if imap.try_select(folder) {
                assert_eq!(
                    imap.bodies().into_values().collect::<Vec<_>>(),
                    [mail::simple(1)],
                    "{policy}"
                );
            }
        }
    }
}

#[test]
fn it_goes_as_soon_as_somebody_has_signed_in() {
    let Some((lab, gateway)) = start(&[]) else { return };
    let mut pop = log_in(&gateway, "pbx");
    own(&mut pop, 4);
    pop.quit();
    lab.sign_in(&gateway, "pbx", "eva");
    lets_in(&gateway, "pbx");
    gateway.stop();
}

#[test]
fn it_never_stands_alone() {
    let Some((lab, gateway)) = start(&["on_delete = \"expunge\""]) else {
        return;
    };
    let mut pop = log_in(&gateway, "pbx");
    for number in 1..=3 {
        pop.ok(&format!("DELE {number}"));
    }
    pop.quit();
    let mut pop = log_in(&gateway, "pbx");
    assert_eq!(pop.stat(), (0, 0));
    assert!(pop.list("UIDL").is_empty());
    pop.quit();
    // If the consent has ended, the login fails: there is no listing with only the gateway's mail.
    lab.dovecot.imap("eva").append(&[mail::simple(7)], "");
    let mut pop = log_in(&gateway, "pbx");
    assert_eq!(pop.retr(1).1, mail::simple(7));
    own(&mut pop, 2);
    pop.quit();
    lab.provider.revoke("eva");
    lab.provider.end_access("eva");
    super::refuses(&gateway, "pbx", "SYS/PERM");
    gateway.stop();
}

#[test]
fn each_login_has_its_own() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.consent_of(90);
    let fax = account("fax", "eva", "");
    let Some(gateway) = lab.soon(&[], &fax) else { return };
    let mut pop = log_in(&gateway, "pbx");
    let named = pop.list("UIDL");
    own(&mut pop, 4);
    pop.ok("DELE 4");
    pop.quit();
    assert_eq!(count(&gateway, "pbx"), 3);
    let mut pop = log_in(&gateway, "fax");
    assert_eq!(pop.list("UIDL"), named);
    let text = String::from_utf8(pop.retr(4).1).unwrap();
    assert!(text.contains("popgate sign-in fax\r\n"), "{text}");
    pop.quit();
    gateway.stop();
}

#[test]
fn views_hold_for_it() {
    // The keys; then the number of messages and the message number of the mail, before the device has retrieved the
    // mail and after.
    for (keys, before, after) in [
        (&["order = \"newest-first\""][..], (4, 1), (4, 1)),
        (&["newest = 2"], (3, 3), (3, 3)),
        (&["within_days = 3650"], (4, 4), (4, 4)),
        (&["max_octets = 400"], (3, 0), (3, 0)),
        (&["unseen_only = true"], (4, 4), (3, 0)),
        (&["unseen_only = true", "on_retrieve = \"keep\""], (4, 4), (4, 4)),
        (&["retain_days = 3"], (4, 4), (4, 4)),
        (&["delete_after_retrieve = true"], (4, 4), (3, 0)),
        (&["fold_lines = 100"], (4, 4), (4, 4)),
        (&["folder = [\"INBOX\", \"Lists\"]"], (5, 5), (5, 5)),
    ] {
        let Some(lab) = Lab::new(XOAUTH2) else { return };
        lab.dovecot.imap("eva").append_to("Lists", &mail::simple(9), 1);
        lab.consent_of(90);
        let Some(gateway) = lab.soon(keys, "") else { return };
        for (session, (messages, number)) in [before, before, after].into_iter().enumerate() {
            let mut pop = log_in(&gateway, "pbx");
            assert_eq!(pop.stat().0, messages, "{keys:?} {session}");
            let names = pop.list("UIDL");
            let own_name = names.iter().find(|name| name.contains(" popgate."));
            let expected = (number > 0).then(|| number.to_string());
            let found = own_name.map(|name| name.split(' ').next().unwrap().to_owned());
            assert_eq!(found, expected, "{keys:?} {session}");
            // The first session only uses TOP, which does not reach the mail's end.
            if number > 0 && session == 0 {
                pop.top(number, 1);
            }
            if number > 0 && session == 1 {
                pop.ok(&format!("RETR {number}"));
                pop.body().unwrap();
            }
            pop.ok("QUIT");
            gateway.sessions(session + 1);
        }
        gateway.stop();
    }
}

#[test]
fn what_the_device_has_not_acknowledged_does_not_count() {
    let Some((_lab, gateway)) = start(&["unseen_only = true"]) else {
        return;
    };
    let mut pop = log_in(&gateway, "pbx");
    own(&mut pop, 4);
    pop.reset();
    gateway.sessions(1);
    let mut pop = log_in(&gateway, "pbx");
    own(&mut pop, 4);
    pop.ok("NOOP");
    pop.reset();
    gateway.sessions(2);
    assert_eq!(count(&gateway, "pbx"), 3);
    gateway.stop();
}

#[test]
fn without_the_key_there_is_none() {
    let Some(lab) = Lab::new(XOAUTH2) else { return };
    lab.consent_of(90);
    let Some(setup) = lab.by_device().days_ahead(SOON) else {
        return;
    };
    let gateway = setup.start();
    lets_in(&gateway, "pbx");
    gateway.stop();
}
