//! Sessions against a real upstream.

use crate::support::{PASSWORD, answers::Answers, dovecot::Dovecot, gateway::Setup, mail, peer::Peer, pop::Pop};

#[test]
fn a_session_with_every_command() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mails: Vec<_> = (1..=5).map(mail::simple).collect();
    let mut imap = dovecot.user_with("eva", &mails);
    let uids = imap.uids();
    let gateway = Setup::new(dovecot.address()).start();

    let mut pop = Pop::connect(gateway.address());
    let before = pop.list("CAPA");
    for capability in [
        "TOP",
        "UIDL",
        "USER",
        "SASL PLAIN LOGIN",
        "RESP-CODES",
        "AUTH-RESP-CODE",
        "PIPELINING",
        "EXPIRE NEVER",
        "UTF8",
        "LANG",
    ] {
        assert!(
            before.iter().any(|line| line == capability),
            "{capability} in {before:?}"
        );
    }
    assert!(!before.iter().any(|line| line == "STLS"), "there is no TLS here");
    assert_eq!(pop.list("AUTH"), ["PLAIN", "LOGIN"]);
    pop.err("STAT", "-ERR");
    pop.ok("USER eva");
    pop.ok(&format!("PASS {PASSWORD}"));
    assert_eq!(pop.list("CAPA"), before);

    let octets: u64 = mails.iter().map(|mail| mail.len() as u64).sum();
    assert_eq!(pop.stat(), (5, octets));
    let listed: Vec<_> = (1..)
        .zip(&mails)
        .map(|(n, mail)| format!("{n} {}", mail.len()))
        .collect();
    assert_eq!(pop.list("LIST"), listed);
    assert_eq!(pop.ok("LIST 2"), format!("+OK {}", listed[1]));
    let unique = pop.list("UIDL");
    assert_eq!(unique.len(), 5);
    for ((number, line), uid) in (1..).zip(&unique).zip(&uids) {
        assert!(
            line.starts_with(&format!("{number} ")) && line.ends_with(&format!(".{uid}")),
            "{line}"
        );
        assert_eq!(pop.ok(&format!("UIDL {number}")), format!("+OK {line}"));
    }
    assert_eq!(pop.retr(3), (mails[2].len() as u64, mails[2].clone()));
    assert_eq!(pop.top(4, 1), mail::top(&mails[3], 1));
    pop.ok("DELE 2");
    pop.err("DELE 2", "-ERR");
    pop.err("RETR 2", "-ERR");
    pop.err("TOP 2 0", "-ERR");
    pop.err("LIST 2", "-ERR");
    pop.err("UIDL 2", "-ERR");
    assert_eq!(pop.stat(), (4, octets - mails[1].len() as u64));
    assert_eq!(pop.list("LIST").len(), 4);
    assert_eq!(pop.list("UIDL").len(), 4);
    pop.ok("RSET");
    assert_eq!(pop.stat(), (5, octets));
    pop.ok("NOOP");
    pop.ok("DELE 1");
    pop.ok("DELE 5");
    pop.quit();

    assert_eq!(imap.uids(), uids[1..4]);
    let session = &gateway.sessions(1)[0];
    assert_eq!(session["login"], "eva");
    assert_eq!(session["retrieved"], 1);
    assert_eq!(session["retrieved_octets"], mails[2].len());
    assert_eq!(session["removed"], 2);
    assert_eq!(session["end"], "quit");
    gateway.stop();
}

#[test]
fn what_is_deleted_goes_with_quit_only() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.user_with("eva", &[mail::simple(1), mail::simple(2)]);
    let gateway = Setup::new(dovecot.address()).start();

    let mut dropped = Pop::log_in(gateway.address(), "eva");
    dropped.ok("DELE 1");
    drop(dropped);
    assert_eq!(gateway.sessions(1)[0]["end"], "dropped");
    assert_eq!(imap.uids(), [1, 2]);

    let mut reset = Pop::log_in(gateway.address(), "eva");
    reset.ok("DELE 1");
    reset.ok("DELE 2");
    reset.ok("RSET");
    reset.quit();
    assert_eq!(imap.uids(), [1, 2]);

    let mut quit = Pop::log_in(gateway.address(), "eva");
    quit.ok("DELE 1");
    quit.quit();
    assert_eq!(imap.uids(), [2]);
}

#[test]
fn one_session_a_maildrop() {
    let Some(dovecot) = Dovecot::start() else { return };
    let _imap = dovecot.user_with("eva", &[mail::simple(1)]);
    let gateway = Setup::new(dovecot.address()).start();

    let mut first = Pop::log_in(gateway.address(), "eva");
    let mut second = Pop::connect(gateway.address());
    let reply = second.try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR [IN-USE]"), "{reply}");
    let reply = second.try_log_in("eva", "a wrong one");
    assert!(
        reply.starts_with("-ERR [AUTH]"),
        "who has no password learns nothing: {reply}"
    );
    let other = Pop::log_in(gateway.address(), "ida");
    first.ok("NOOP");
    first.quit();
    let reply = second.try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("+OK"), "{reply}");
    second.quit();
    other.quit();
}

#[test]
fn retr_marks_as_read_and_top_does_not() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mails = [mail::simple(1), mail::simple(2)];
    for (policy, expected) in [("mark-read", true), ("keep", false)] {
        let mut imap = dovecot.user_with(policy, &mails);
        let gateway = Setup::new(dovecot.address())
            .maildrop(&format!("on_retrieve = \"{policy}\""))
            .start();
        let mut pop = Pop::log_in(gateway.address(), policy);
        pop.retr(1);
        pop.top(2, 0);
        pop.top(2, 1);
        pop.quit();
        gateway.stop();
        let flags = imap.flags();
        assert_eq!(flags[&1].contains("\\Seen"), expected, "{policy}: {flags:?}");
        assert!(!flags[&2].contains("\\Seen"), "{policy}: {flags:?}");
    }
}

#[test]
fn a_drop_after_retr_marks_as_read_too() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.user_with("eva", &[mail::simple(1), mail::simple(2)]);
    let gateway = Setup::new(dovecot.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.ok("DELE 2");
    drop(pop);
    imap.eventually("message 1 is read, 2 is there", |flags| {
        flags.len() == 2 && flags[&1].contains("\\Seen") && !flags[&2].contains("\\Deleted")
    });
}

/// A message that was written to the socket may not have arrived, even if the device had sent its next command before.
/// So it is not marked as read.
#[test]
fn what_a_device_perhaps_never_had_is_not_marked_as_read() {
    let peer = Peer::start(Answers::of([mail::simple(1), mail::simple(2)]));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.send(b"RETR 2\r\nNOOP\r\n");
    pop.leave_unread(b"\r\n.\r\n+OK");
    drop(pop);
    gateway.stop();
    let marked: Vec<_> = peer
        .commands()
        .into_iter()
        .filter(|command| command.contains("STORE"))
        .collect();
    assert_eq!(marked, ["UID STORE 1 +FLAGS.SILENT (\\Seen)"]);
}

/// Messages that another client has flagged as `\Deleted` are neither shown nor removed, with UIDPLUS and without.
#[test]
fn foreign_marks_stay() {
    for capability in ["", "imap_capability = IMAP4rev1 SASL-IR AUTH=PLAIN"] {
        let Some(dovecot) = Dovecot::start_with(capability) else {
            return;
        };
        let mails: Vec<_> = (1..=6).map(mail::simple).collect();
        let mut imap = dovecot.user_with("eva", &mails);
        imap.command("UID STORE 2,5 +FLAGS (\\Deleted)");
        let gateway = Setup::new(dovecot.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.stat().0, 4);
        assert_eq!(pop.retr(2).1, mails[2]);
        pop.ok("DELE 2");
        pop.ok("DELE 4");
        pop.quit();
        let flags = imap.flags();
        assert_eq!(flags.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 5], "{capability}");
        for (uid, flags) in flags {
            assert_eq!(
                flags.contains("\\Deleted"),
                [2, 5].contains(&uid),
                "{capability}: {uid} {flags}"
            );
        }
    }
}

#[test]
fn a_wrong_password_is_auth() {
    let Some(dovecot) = Dovecot::start() else { return };
    let gateway = Setup::new(dovecot.address()).start();
    let mut pop = Pop::connect(gateway.address());
    let reply = pop.try_log_in("eva", "a wrong one");
    assert!(reply.starts_with("-ERR [AUTH]"), "{reply}");
    let reply = pop.try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("+OK"), "{reply}");
}

#[test]
fn a_missing_folder_is_a_matter_of_configuration() {
    let Some(dovecot) = Dovecot::start() else { return };
    let gateway = Setup::new(dovecot.address()).maildrop("folder = \"Nowhere\"").start();
    let reply = Pop::connect(gateway.address()).try_log_in("eva", PASSWORD);
    assert!(reply.starts_with("-ERR [SYS/PERM]"), "{reply}");
}

#[test]
fn a_folder_with_any_name() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.imap("eva");
    imap.command("CREATE \"Entw&APw-rfe &- \\\"Co\\\"\"");
    let gateway = Setup::new(dovecot.address())
        .maildrop("folder = 'Entwürfe & \"Co\"'")
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.stat(), (0, 0));
    assert_eq!(pop.list("LIST"), Vec::<String>::new());
    assert_eq!(pop.list("UIDL"), Vec::<String>::new());
    pop.quit();
}

#[test]
fn tls_to_the_upstream_both_ways() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mails = [mail::simple(1)];
    let _imap = dovecot.user_with("eva", &mails);
    let authority = dovecot.certificates().authority_file();
    for (mode, address) in [("starttls", dovecot.address()), ("implicit", dovecot.tls_address())] {
        let trusting = Setup::new(address).upstream_tls(mode, Some(&authority)).start();
        let mut pop = Pop::log_in(trusting.address(), "eva");
        assert_eq!(pop.retr(1).1, mails[0]);
        pop.quit();

        let strict = Setup::new(address).upstream_tls(mode, None).start();
        let reply = Pop::connect(strict.address()).try_log_in("eva", PASSWORD);
        assert!(reply.starts_with("-ERR [SYS/PERM]"), "{mode}: {reply}");
    }
}
