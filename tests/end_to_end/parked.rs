//! What a login's next session sees on a parked connection if the mailbox has changed meanwhile.

use crate::support::{
    PASSWORD,
    answers::{Answers, Message},
    dovecot::Dovecot,
    gateway::{Setup, account},
    mail,
    peer::{Peer, Step, Steps, send},
    pop::Pop,
};

/// The messages that a session shows, by RETR.
fn shown(pop: &mut Pop) -> Vec<Vec<u8>> {
    (1..=pop.stat().0).map(|number| pop.retr(number).1).collect()
}

#[test]
fn the_mailbox_as_it_is_now() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mails: Vec<_> = (1..=9).map(mail::simple).collect();
    let mut imap = dovecot.user_with("eva", &mails[..5]);
    let gateway = Setup::new(dovecot.address()).limit("parked_seconds = 60").start();
    let mut first = Pop::log_in(gateway.address(), "eva");
    assert_eq!(shown(&mut first), mails[..5]);
    let unique = first.list("UIDL");
    first.ok("DELE 2");
    first.quit();

    // The device has removed 2. Another client removes 4, flags 1 as `\Deleted`, and adds 6 and 7.
    imap.command("UID STORE 4 +FLAGS (\\Deleted)");
    imap.command("UID EXPUNGE 4");
    imap.command("UID STORE 1 +FLAGS (\\Deleted)");
    imap.append(&mails[5..7], "");
    let mut second = Pop::log_in(gateway.address(), "eva");
    let expected: Vec<_> = [3, 5, 6, 7].map(|number| mails[number - 1].clone()).into();
    assert_eq!(shown(&mut second), expected);
    let again = second.list("UIDL");
    assert_eq!(
        again[0].split(' ').nth(1),
        unique[2].split(' ').nth(1),
        "the same message bears the same name"
    );
    second.ok("DELE 1");
    drop(second);

    // The flag is removed again, and mail comes while no session is open.
    imap.command("UID STORE 1 -FLAGS (\\Deleted)");
    imap.append(&mails[7..9], "\\Deleted");
    gateway.sessions(2);
    let mut third = Pop::log_in(gateway.address(), "eva");
    let expected: Vec<_> = [1, 3, 5, 6, 7].map(|number| mails[number - 1].clone()).into();
    assert_eq!(shown(&mut third), expected);
    for number in 1..=5 {
        third.ok(&format!("DELE {number}"));
    }
    third.quit();
    assert_eq!(imap.uids(), [8, 9], "what others have marked stays");
}

#[test]
fn a_parked_connection_is_no_way_around_the_password() {
    let Some(dovecot) = Dovecot::start() else { return };
    dovecot.user_with("eva", &[mail::simple(1)]);
    let gateway = Setup::new(dovecot.address()).limit("parked_seconds = 60").start();
    Pop::log_in(gateway.address(), "eva").quit();
    gateway.events("parked", 1);
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in("eva", "a wrong one");
    assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
    let reply = pop.try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("+OK"), "{reply}");
    pop.quit();
}

#[test]
fn it_is_used_again_and_a_dead_one_is_replaced_without_a_word() {
    let answers = || Answers::of((1..=3).map(mail::simple));
    let peer = Peer::start(answers());
    let gateway = Setup::new(peer.address()).limit("parked_seconds = 60").start();
    for session in 1..=3 {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.retr(2).1, mail::simple(2));
        pop.quit();
        gateway.events("parked", session);
    }
    assert_eq!(peer.connections(), 1, "{:?}", peer.commands());
    gateway.stop();

    for end in [
        Step::Close.steps(),
        Step::Reset.steps(),
        vec![send("* BYE idle for too long\r\n"), Step::Close],
        vec![send("{tag} NO what?\r\n"), Step::Close],
        // The gateway notices the silence long before `upstream_seconds` are over.
        Step::Silence.steps(),
    ] {
        // The parked connection ends in this way when the second session sends NOOP.
        let dying = answers().on("NOOP", end);
        let peer = Peer::start_each(vec![dying, answers()]);
        let gateway = Setup::new(peer.address()).limit("parked_seconds = 60").start();
        for session in 1..=2 {
            let mut pop = Pop::log_in(gateway.address(), "eva");
            assert_eq!(pop.stat().0, 3);
            assert_eq!(pop.retr(2).1, mail::simple(2));
            pop.quit();
            gateway.events("parked", session);
        }
        gateway.stop();
    }
}

#[test]
fn two_logins_of_one_gateway_do_not_share_it() {
    let peer = Peer::start(Answers::of((1..=3).map(mail::simple)));
    let gateway = Setup::new(peer.address()).limit("parked_seconds = 60").start();
    for (session, user) in (1..).zip(["eva", "ida", "eva", "ida"]) {
        Pop::log_in(gateway.address(), user).quit();
        gateway.events("parked", session);
    }
    // base64 of NUL eva, NUL ida
    assert!(peer.count("AUTHENTICATE PLAIN AGV2YQ") >= 1 && peer.count("AUTHENTICATE PLAIN AGlkYQ") >= 1);
    assert_eq!(peer.connections(), 2);
}

#[test]
fn what_waits_gives_way_and_what_works_does_not() {
    let peer = Peer::start(Answers::of([mail::simple(1)]));
    let gateway = Setup::new(peer.address())
        .limit("parked_seconds = 60")
        .upstream("connections_per_user = 1")
        .table(&account("fax", "eva"))
        .table(&account("pbx", "eva"))
        .start();
    Pop::log_in(gateway.address(), "fax").quit();
    gateway.events("parked", 1);
    let mut working = Pop::log_in(gateway.address(), "pbx");
    peer.wait_for("LOGOUT");
    let reply = Pop::connect(gateway.address()).try_log_in("fax", PASSWORD);
    assert!(reply.starts_with("-ERR [SYS/TEMP]"), "{reply}");
    assert_eq!(working.retr(1).1, mail::simple(1));
    working.quit();
    assert_eq!(peer.connections(), 2, "{:?}", peer.commands());
}

/// A connection that was replaced within a session sees new mail. The next session must not trust the old snapshot just
/// because the number of messages is the same.
#[test]
fn a_connection_made_anew_within_a_session_is_not_taken_for_the_old_one() {
    let mailbox = |uids: &[u32]| Answers::new(uids.iter().map(|&uid| Message::new(uid, mail::simple(uid as usize))));
    let dying = mailbox(&[1, 2, 5]).on("UID FETCH 1 (UID BODY.PEEK[])", Step::Close.steps());
    let peer = Peer::start_each(vec![dying, mailbox(&[1, 5, 7]), mailbox(&[1, 5, 7])]);
    let gateway = Setup::new(peer.address()).limit("parked_seconds = 60").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1).1, mail::simple(1), "{:?}", peer.commands());
    pop.quit();
    gateway.events("parked", 1);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(
        pop.list("UIDL"),
        ["1 1000.1", "2 1000.5", "3 1000.7"],
        "{:?}",
        peer.commands()
    );
    pop.quit();
}

/// A parked connection was opened with the old password. It must not serve a login with another password, and the new
/// password ends it.
#[test]
fn a_password_that_was_changed_upstream() {
    // base64 of NUL eva NUL and the password.
    let (old, new) = ("AUTHENTICATE PLAIN AGV2YQBvbGQ=", "AUTHENTICATE PLAIN AGV2YQBuZXc=");
    let mailbox = || Answers::of([mail::simple(1)]);
    let refusal = "{tag} NO [AUTHENTICATIONFAILED] no\r\n";
    let before = mailbox().on(new, refusal);
    let after = mailbox().on(old, refusal);
    let peer = Peer::start_each(vec![before, after]);
    let gateway = Setup::new(peer.address()).limit("parked_seconds = 60").start();
    let log_in = |password: &str| {
        let mut pop = Pop::connect(gateway.address());
        (pop.try_log_in("eva", password), pop)
    };
    let (reply, pop) = log_in("old");
    assert!(reply.starts_with("+OK"), "{reply}");
    pop.quit();
    gateway.events("parked", 1);
    // Now the password is changed at the upstream.
    let (reply, pop) = log_in("new");
    assert!(reply.starts_with("+OK"), "{reply}");
    pop.quit();
    gateway.events("parked", 2);
    let (reply, _) = log_in("old");
    assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
    let (reply, pop) = log_in("new");
    assert!(reply.starts_with("+OK"), "{reply}");
    pop.quit();
}
