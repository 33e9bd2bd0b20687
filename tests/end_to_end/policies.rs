//! What becomes of a deleted message, under each delete policy, at servers with MOVE and without.

use crate::support::{
    answers::{Answers, CAPABILITIES, Message},
    dovecot::Dovecot,
    gateway::Setup,
    imap::Imap,
    mail,
    peer::{Peer, Step, send},
    pop::Pop,
};

/// Settings of Dovecot: none; without MOVE; without MOVE and UIDPLUS.
const SERVERS: [&str; 3] = [
    "",
    "imap_capability = IMAP4rev1 SASL-IR LITERAL+ UIDPLUS SPECIAL-USE\n",
    "imap_capability = IMAP4rev1 SASL-IR LITERAL+ SPECIAL-USE\n",
];

type Mails = Vec<Vec<u8>>;

const TRASH: &str =
    "namespace inbox {\n  inbox = yes\n  mailbox Bin {\n    auto = create\n    special_use = \\Trash\n  }\n}\n";

/// A device deletes the second and the fourth of five messages. Returns the messages that are left in INBOX, and those
/// in `folder`.
fn deleted(settings: &str, keys: &[&str], folder: &str) -> Option<(Mails, Mails)> {
    let dovecot = Dovecot::start_with(settings)?;
    let mails: Vec<_> = (1..=5).map(mail::simple).collect();
    let mut imap = dovecot.user_with("eva", &mails);
    // Another client's `\Deleted` must survive every policy.
    imap.command("UID STORE 5 +FLAGS (\\Deleted)");
    let setup = keys
        .iter()
        .fold(Setup::new(dovecot.address()), |setup, key| setup.maildrop(key));
    let gateway = setup.start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.stat().0, 4);
    pop.ok("DELE 2");
    pop.ok("DELE 4");
    pop.quit();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let shown: Vec<_> = (1..=pop.stat().0).map(|number| pop.retr(number).1).collect();
    assert_eq!(shown, [mails[0].clone(), mails[2].clone()]);
    pop.quit();
    gateway.stop();
    assert!(imap.flags()[&5].contains("\\Deleted"), "{:?}", imap.flags());
    let left = imap.bodies().into_values().collect();
    Some((left, contents(&mut imap, folder)))
}

fn contents(imap: &mut Imap, folder: &str) -> Mails {
    imap.command(&format!("SELECT \"{folder}\""));
    imap.bodies().into_values().collect()
}

fn mails(numbers: &[usize]) -> Mails {
    numbers.iter().map(|&number| mail::simple(number)).collect()
}

#[test]
fn expunge() {
    for server in SERVERS {
        let Some((left, _)) = deleted(server, &["on_delete = \"expunge\""], "INBOX") else {
            return;
        };
        assert_eq!(left, mails(&[1, 3, 5]), "{server}");
    }
}

#[test]
fn trash_is_the_folder_with_that_use() {
    for server in SERVERS {
        let settings = format!("{TRASH}{server}");
        let keys = ["on_delete = \"trash\"", "trash_folder = \"Elsewhere\""];
        let Some((left, trash)) = deleted(&settings, &keys, "Bin") else {
            return;
        };
        assert_eq!(left, mails(&[1, 3, 5]), "{server}");
        assert_eq!(trash, mails(&[2, 4]), "{server}");
    }
}

#[test]
fn trash_is_the_configured_folder_where_none_has_that_use() {
    let keys = ["on_delete = \"trash\"", "trash_folder = \"Old things\""];
    let Some((left, trash)) = deleted("", &keys, "Old things") else {
        return;
    };
    assert_eq!((left, trash), (mails(&[1, 3, 5]), mails(&[2, 4])));
}

#[test]
fn trash_bears_a_usual_name_or_is_made() {
    let deleted_items = "namespace inbox {\n  inbox = yes\n  mailbox \"Deleted Items\" {\n    auto = create\n  }\n}\n";
    for (settings, folder) in [(deleted_items, "Deleted Items"), ("", "Trash")] {
        let Some((left, trash)) = deleted(settings, &["on_delete = \"trash\""], folder) else {
            return;
        };
        assert_eq!((left, trash), (mails(&[1, 3, 5]), mails(&[2, 4])), "{folder}");
    }
}

#[test]
fn move_makes_the_folder_and_knows_its_letters() {
    for server in SERVERS {
        let keys = ["on_delete = \"move:Erledigt/Größe\""];
        let settings = format!("namespace inbox {{\n  inbox = yes\n  separator = /\n}}\n{server}");
        // The folder's name in modified UTF-7 (RFC 3501 §5.1.3).
        let Some((left, moved)) = deleted(&settings, &keys, "Erledigt/Gr&APYA3w-e") else {
            return;
        };
        assert_eq!(left, mails(&[1, 3, 5]), "{server}");
        assert_eq!(moved, mails(&[2, 4]), "{server}");
    }
}

#[test]
fn hide_changes_nothing_upstream() {
    for server in SERVERS {
        let Some((left, _)) = deleted(server, &["on_delete = \"hide\""], "INBOX") else {
            return;
        };
        assert_eq!(left, mails(&[1, 2, 3, 4, 5]), "{server}");
    }
}

#[test]
fn what_is_deleted_from_the_trash_is_gone() {
    let Some(dovecot) = Dovecot::start_with(TRASH) else {
        return;
    };
    let mut imap = dovecot.user_with("eva", &mails(&[1, 2]));
    imap.command("COPY 1:2 Bin");
    let gateway = Setup::new(dovecot.address())
        .maildrop("folder = \"Bin\"")
        .maildrop("on_delete = \"trash\"")
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 1");
    pop.quit();
    assert_eq!(contents(&mut imap, "Bin"), mails(&[2]));
}

/// A device may pick the folder to which deleted mail moves. It must not be able to destroy that mail.
#[test]
fn what_is_deleted_from_the_folder_that_mail_moves_to_is_kept() {
    for settings in SERVERS {
        let Some(dovecot) = Dovecot::start_with(settings) else {
            return;
        };
        let mut imap = dovecot.user_with("eva", &mails(&[1, 2]));
        imap.command("CREATE Done");
        imap.command("COPY 1:2 Done");
        let gateway = Setup::new(dovecot.address())
            .maildrop("folder_separator = \"+\"")
            .maildrop("on_delete = \"move:Done\"")
            .start();
        let mut pop = Pop::log_in(gateway.address(), "eva+Done");
        pop.ok("DELE 1");
        pop.err(
            "QUIT",
            "-ERR [SYS/PERM] messages of this folder are kept, nothing was removed",
        );
        gateway.stop();
        assert_eq!(contents(&mut imap, "Done"), mails(&[1, 2]));
        assert!(!imap.flags().values().any(|flags| flags.contains("\\Deleted")));
    }
}

/// If mail was retrieved, it has `\Seen` in the folder to which it moves.
#[test]
fn what_was_retrieved_is_read_where_it_moves_to() {
    for settings in SERVERS {
        for (keys, seen) in [("on_retrieve = \"mark-read\"", true), ("on_retrieve = \"keep\"", false)] {
            let Some(dovecot) = Dovecot::start_with(settings) else {
                return;
            };
            let mut imap = dovecot.user_with("eva", &mails(&[1, 2, 3]));
            let gateway = Setup::new(dovecot.address())
                .maildrop("on_delete = \"move:Done\"")
                .maildrop(keys)
                .start();
            let mut pop = Pop::log_in(gateway.address(), "eva");
            pop.retr(1);
            pop.ok("DELE 1");
            pop.ok("DELE 2");
            pop.quit();
            gateway.stop();
            imap.command("SELECT Done");
            let read: Vec<bool> = imap.flags().values().map(|flags| flags.contains("\\Seen")).collect();
            assert_eq!(read, [seen, false], "{settings} {keys}");
        }
    }
}

/// fetchmail with `keep` fetches by TOP only.
#[test]
fn a_top_of_the_whole_message_counts_as_retrieved() {
    let Some(dovecot) = Dovecot::start() else { return };
    let long = [mail::simple(2), b"more\r\n".repeat(2000)].concat();
    let all = [mail::simple(1), long, mail::simple(3), mail::simple(4)];
    let mut imap = dovecot.user_with("eva", &all);
    let gateway = Setup::new(dovecot.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.top(1, 99_999_999);
    pop.top(2, 99_999_999);
    pop.top(3, 0);
    pop.top(4, 1);
    pop.quit();
    imap.eventually("1 and 2 are read", |flags| {
        let read = |uid| flags.get(&uid).is_some_and(|flags: &String| flags.contains("\\Seen"));
        read(1) && read(2)
    });
    let flags = imap.flags();
    assert!(
        !flags[&3].contains("\\Seen") && !flags[&4].contains("\\Seen"),
        "{flags:?}"
    );
    let gateway_2 = Setup::new(dovecot.address())
        .maildrop("delete_after_retrieve = true")
        .start();
    gateway.stop();
    let mut pop = Pop::log_in(gateway_2.address(), "eva");
    pop.top(2, 99_999_999);
    pop.quit();
    assert_eq!(imap.uids(), [1, 3, 4]);
}

/// A refusal that will be the same at the next QUIT is permanent (RFC 3206).
#[test]
fn what_will_never_be_removed_is_told_as_permanent() {
    let here = "* SEARCH 2\r\n{tag} OK\r\n";
    let none = "{tag} NO [NONEXISTENT] no such folder\r\n";
    let cases = [
        // Some servers answer OK and do nothing if the user may not expunge.
        (
            "expunge",
            Answers::of((1..=3).map(mail::simple)).on("UID EXPUNGE", "{tag} OK done\r\n"),
            "[SYS/PERM] 1 of 1",
        ),
        (
            "expunge",
            Answers::of((1..=3).map(mail::simple)).on("UID STORE 2 +FLAGS", "{tag} NO [NOPERM] you may not\r\n"),
            "[SYS/PERM] 1 of 1",
        ),
        (
            "expunge",
            Answers::of((1..=3).map(mail::simple)).on("UID EXPUNGE", "{tag} NO [SERVERBUG] later\r\n"),
            "[SYS/TEMP] 1 of 1",
        ),
        (
            "move:Old",
            refusing(MOVES)
                .on("UID MOVE", "{tag} NO [TRYCREATE] no such folder\r\n")
                .on("STATUS", none)
                .on("CREATE", "{tag} NO Permission denied\r\n"),
            "[SYS/PERM] 1 of 1",
        ),
        (
            "move:Old",
            refusing(MOVES).on("UID MOVE", "{tag} NO [OVERQUOTA] full\r\n"),
            "[SYS/TEMP] 1 of 1",
        ),
    ];
    for (policy, answers, reply) in cases {
        let peer = Peer::start(answers.on("UID SEARCH UID 2", here));
        let policy = format!("on_delete = \"{policy}\"");
        let gateway = Setup::new(peer.address()).maildrop(&policy).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 2");
        pop.err("QUIT", &format!("-ERR {reply} messages not removed"));
        gateway.stop();
    }
}

#[test]
fn delete_after_retrieve_takes_what_was_delivered_whole() {
    let Some(dovecot) = Dovecot::start() else { return };
    let mut imap = dovecot.user_with("eva", &mails(&[1, 2, 3, 4]));
    let gateway = Setup::new(dovecot.address())
        .maildrop("delete_after_retrieve = true")
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert!(pop.list("CAPA").contains(&"EXPIRE 0".to_owned()));
    pop.retr(1);
    pop.top(2, 1);
    drop(pop);
    gateway.sessions(1);
    assert_eq!(imap.uids(), [1, 2, 3, 4], "without QUIT nothing is deleted");
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.retr(1);
    pop.top(2, 1);
    pop.retr(3);
    pop.ok("DELE 4");
    pop.ok("RSET");
    pop.quit();
    assert_eq!(imap.uids(), [2, 4]);
}

fn refusing(capabilities: &'static str) -> Answers {
    Answers::of((1..=3).map(mail::simple)).capabilities(capabilities)
}

const MOVES: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS MOVE";

/// A session that deletes 2 and 3, and whose QUIT must fail because they were not removed.
fn not_removed(answers: Answers) -> Peer {
    let peer = Peer::start(answers);
    let gateway = Setup::new(peer.address()).maildrop("on_delete = \"move:Old\"").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.ok("DELE 3");
    pop.err("QUIT", "-ERR [SYS/TEMP] 2 of 2 messages not removed");
    gateway.stop();
    peer
}

#[test]
fn a_refused_move_is_told() {
    let peer = not_removed(refusing(MOVES).on("UID MOVE", "{tag} NO [OVERQUOTA] full\r\n"));
    assert_eq!(peer.count("UID STORE"), 0, "{:?}", peer.commands());
}

/// The STATUS of the folder that mail moves to.
const STATUS: &str = "* STATUS \"Old\" (UIDVALIDITY 9 UIDNEXT 4)\r\n{tag} OK\r\n";

/// The start of the command that asks for the fields by which a copy is recognised.
fn fetch_fields(uid: u32) -> String {
    format!("UID FETCH {uid} (UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (")
}

/// An answer with the same fields for every UID: a message and its copy have the same.
fn fields_of(uid: u32) -> String {
    format!(
        "* 1 FETCH (UID {uid} RFC822.SIZE 122 INTERNALDATE \" 1-Jan-2024 00:00:00 +0000\" \
         BODY[HEADER.FIELDS (SUBJECT)] {{23}}\r\nSubject: number two\r\n\r\n)\r\n{{tag}} OK\r\n"
    )
}

/// The connection on which the gateway looks for the copy in the target folder.
fn copied() -> Answers {
    Answers::new([])
        .on("SELECT", "* 1 EXISTS\r\n* OK [UIDVALIDITY 9]\r\n{tag} OK\r\n")
        .on(
            "UID FETCH 4:* (UID RFC822.SIZE)",
            "* 1 FETCH (UID 4 RFC822.SIZE 122)\r\n{tag} OK\r\n",
        )
        .on(&fetch_fields(4), fields_of(4))
}

#[test]
fn a_refused_copy_removes_nothing() {
    let refused = refusing(CAPABILITIES)
        .on("STATUS", STATUS)
        .on("UID COPY", "{tag} NO [OVERQUOTA] full\r\n");
    let peer = not_removed(refused);
    assert_eq!(peer.count("UID STORE"), 0, "{:?}", peer.commands());
    assert_eq!(peer.count("UID EXPUNGE"), 0);
}

/// If a message was copied and cannot be removed, QUIT fails, and the message is not copied a second time.
#[test]
fn a_copy_is_not_made_twice() {
    let unremovable = refusing(CAPABILITIES)
        .on("STATUS", STATUS)
        .on(&fetch_fields(2), fields_of(2))
        .on("UID EXPUNGE", "{tag} NO [NOPERM] not by you\r\n");
    // The first two connections are those of the sessions. On later ones the gateway looks for the copy in the target
    // folder.
    let peer = Peer::start_each(vec![unremovable.clone(), unremovable, copied()]);
    let state = tempfile::TempDir::new().unwrap();
    let gateway = Setup::new(peer.address())
        .maildrop("on_delete = \"move:Old\"")
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/PERM] 1 of 1 messages not removed");
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/PERM] 1 of 1 messages not removed");
    gateway.stop();
    assert_eq!(peer.count("UID COPY"), 1, "{:?}", peer.commands());
}

/// The mailbox after a removal that was cut between `\\Deleted` and EXPUNGE: 2 bears the mark.
fn half_done() -> Answers {
    let message = |uid| Message::new(uid, mail::simple(uid as usize));
    Answers::new([message(1), message(2).flags("\\Deleted"), message(3)])
        .capabilities(CAPABILITIES)
        .on("STATUS", STATUS)
        .on(&fetch_fields(2), fields_of(2))
}

/// A removal that is cut at QUIT, and again where the next login finishes it, is finished before another message is removed.
#[test]
fn a_removal_that_was_cut_twice_is_finished_by_the_next() {
    let cut = || vec![send("* BYE\r\n"), Step::Close];
    let peer = Peer::start_each(vec![
        refusing(CAPABILITIES).on("UID EXPUNGE", cut()),
        // The same QUIT once more, on a new connection.
        half_done().on("UID EXPUNGE", cut()),
        // The next login.
        half_done().on("UID EXPUNGE", cut()),
        half_done(),
    ]);
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/TEMP]");
    gateway.sessions(1);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.stat().0, 2);
    pop.ok("DELE 2");
    pop.quit();
    gateway.stop();
    assert_eq!(
        expunges(&peer, 3),
        ["UID EXPUNGE 2", "UID EXPUNGE 3"],
        "{:?}",
        peer.commands()
    );
}

/// Under `move:Old` a message is copied, and the server refuses to remove it. Then a session under `expunge` connects to
/// `second`, must see `shown` messages, and deletes those of `deleted`. Returns the EXPUNGE commands on its connection.
fn expunged_under_another_policy(second: Answers, shown: usize, deleted: &[u32]) -> Vec<String> {
    let unremovable = refusing(CAPABILITIES)
        .on("STATUS", STATUS)
        .on(&fetch_fields(2), fields_of(2))
        .on("UID EXPUNGE", "{tag} NO not now\r\n");
    let peer = Peer::start_each(vec![unremovable, second, copied()]);
    let state = tempfile::TempDir::new().unwrap();
    let start = |policy: &str| {
        Setup::new(peer.address())
            .maildrop(policy)
            .table(&format!("[state]\ndir = {:?}", state.path()))
            .start()
    };
    let gateway = start("on_delete = \"move:Old\"");
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/TEMP] 1 of 1 messages not removed");
    gateway.stop();
    let gateway = start("on_delete = \"expunge\"");
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.stat().0, shown);
    for number in deleted {
        pop.ok(&format!("DELE {number}"));
    }
    pop.quit();
    gateway.stop();
    expunges(&peer, 1)
}

/// The EXPUNGE commands of one connection; connections count from 0.
fn expunges(peer: &Peer, connection: usize) -> Vec<String> {
    let commands = peer.commands_of(connection).into_iter();
    commands.filter(|command| command.starts_with("UID EXPUNGE")).collect()
}

/// A copy whose message was not removed is finished, even if meanwhile the policy is to expunge.
#[test]
fn a_move_is_finished_under_another_policy() {
    assert_eq!(expunged_under_another_policy(half_done(), 2, &[]), ["UID EXPUNGE 2"]);
}

/// The same if nothing bears `\\Deleted`: what was copied is removed before another message is expunged.
#[test]
fn a_move_is_finished_before_another_policy_removes() {
    let removable = refusing(CAPABILITIES)
        .on("STATUS", STATUS)
        .on(&fetch_fields(2), fields_of(2));
    assert_eq!(
        expunged_under_another_policy(removable, 3, &[3]),
        ["UID EXPUNGE 2", "UID EXPUNGE 3"]
    );
}

/// The server no longer lets the gateway look at the target folder, so nobody knows whether a message was copied. QUIT fails
/// after one more try.
#[test]
fn a_copy_that_cannot_be_looked_for_ends_quit() {
    let unremovable = refusing(CAPABILITIES)
        .on("STATUS", STATUS)
        .on(&fetch_fields(2), fields_of(2))
        .on("UID EXPUNGE", "{tag} NO [NOPERM] not by you\r\n");
    let closed = Answers::new([]).greet(vec![send("* BYE not at this time\r\n"), Step::Close]);
    let peer = Peer::start_each(vec![unremovable.clone(), unremovable, closed]);
    let state = tempfile::TempDir::new().unwrap();
    let gateway = Setup::new(peer.address())
        .maildrop("on_delete = \"move:Old\"")
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/PERM] 1 of 1 messages not removed");
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/TEMP]");
    gateway.stop();
    assert!(peer.connections() <= 8, "{}", peer.connections());
    assert_eq!(peer.count("UID COPY"), 1, "{:?}", peer.commands());
}

/// If the user may have one connection only, the session hangs up its own, to look at the target folder on another.
#[test]
fn a_move_is_finished_by_the_only_connection() {
    let removable = refusing(CAPABILITIES)
        .on("STATUS", STATUS)
        .on(&fetch_fields(2), fields_of(2));
    let unremovable = removable.clone().on("UID EXPUNGE", "{tag} NO [NOPERM] not by you\r\n");
    let peer = Peer::start_each(vec![unremovable.clone(), unremovable, copied(), removable]);
    let gateway = Setup::new(peer.address())
        .upstream("connections_per_user = 1")
        .maildrop("on_delete = \"move:Old\"")
        .start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/PERM] 1 of 1 messages not removed");
    gateway.sessions(1);
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.stat().0, 2, "{:?}", peer.commands());
    pop.quit();
    gateway.stop();
    assert_eq!(
        (peer.count("UID COPY"), peer.connections()),
        (1, 4),
        "{:?}",
        peer.commands()
    );
}

/// With UIDNOTSTICKY (RFC 4315 §3), UIDs mean nothing in the next session, so nothing can stay hidden.
#[test]
fn what_cannot_stay_hidden_is_not_said_to_be() {
    let select = "* 3 EXISTS\r\n* OK [UIDVALIDITY 7]\r\n* NO [UIDNOTSTICKY] they change\r\n{tag} OK\r\n";
    let peer = Peer::start(refusing(CAPABILITIES).on("SELECT", select));
    let gateway = Setup::new(peer.address()).maildrop("on_delete = \"hide\"").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err(
        "QUIT",
        "-ERR [SYS/PERM] upstream numbers its messages anew each time, see the log",
    );
}

/// Without UIDPLUS, plain EXPUNGE is the only way to remove. It touches other clients' `\Deleted`, so it is sent only
/// if there is something to remove.
#[test]
fn nothing_is_expunged_for_nothing() {
    const BARE: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN";
    let unremovable = refusing(BARE)
        .on("STATUS", STATUS)
        .on(&fetch_fields(2), fields_of(2))
        .on("EXPUNGE", "{tag} NO [NOPERM] not by you\r\n");
    let peer = Peer::start_each(vec![unremovable.clone(), unremovable, copied()]);
    let state = tempfile::TempDir::new().unwrap();
    let gateway = Setup::new(peer.address())
        .maildrop("on_delete = \"move:Old\"")
        .table(&format!("[state]\ndir = {:?}", state.path()))
        .start();
    for number in [2, 3] {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok(&format!("DELE {number}"));
        pop.err("QUIT", "-ERR [SYS/PERM] 1 of 1 messages not removed");
    }
    gateway.stop();
    // 2 at the first QUIT and once more at the second login; 3 at the second QUIT.
    let expunges: Vec<_> = peer
        .commands()
        .into_iter()
        .filter(|command| command == "EXPUNGE")
        .collect();
    assert_eq!(expunges.len(), 3, "{:?}", peer.commands());
}

/// The COPY was never carried out, and the server's answers do not show whether it was. The message must not be
/// removed.
#[test]
fn what_was_perhaps_not_copied_is_not_removed() {
    let lost = refusing(CAPABILITIES).on("STATUS", STATUS).on("UID COPY", Step::Close);
    let refused = refusing(CAPABILITIES)
        .on("STATUS", STATUS)
        .on("UID COPY", "{tag} NO [OVERQUOTA] full\r\n");
    let target = Answers::new([]).on("SELECT", "* 0 EXISTS\r\n* OK [UIDVALIDITY 9]\r\n{tag} OK\r\n");
    let peer = Peer::start_each(vec![lost, refused, target]);
    let gateway = Setup::new(peer.address()).maildrop("on_delete = \"move:Old\"").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.err("QUIT", "-ERR [SYS/TEMP] 1 of 1 messages not removed");
    gateway.stop();
    assert_eq!(peer.count("UID EXPUNGE"), 0, "{:?}", peer.commands());
}

/// The server may have carried out a MOVE whose answer was lost. The MOVE is sent again, and messages that are gone
/// count as moved.
#[test]
fn a_move_whose_answer_is_lost_is_said_again() {
    let lost = refusing(MOVES).on("UID MOVE", Step::Close);
    let peer = Peer::start_each(vec![lost, refusing(MOVES)]);
    let gateway = Setup::new(peer.address()).maildrop("on_delete = \"move:Old\"").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.quit();
    assert_eq!(peer.count("UID MOVE 2 \"Old\""), 2, "{:?}", peer.commands());
}

/// Deletes a message at a server that lists its folders by `listed`, and asserts that it moves to `folder`.
fn moved_to(capabilities: &'static str, listed: &str, folder: &str) -> Peer {
    let peer = Peer::start(refusing(capabilities).on("LIST", format!("{listed}{{tag}} OK\r\n")));
    let gateway = Setup::new(peer.address()).maildrop("on_delete = \"trash\"").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.quit();
    let command = format!("UID MOVE 2 \"{folder}\"");
    assert_eq!(peer.count(&command), 1, "{:?}", peer.commands());
    peer
}

/// A folder of the user's own may happen to have such a name, deep in the hierarchy. Mail must not move there.
#[test]
fn the_trash_lies_at_the_top_or_below_the_namespaces_prefix() {
    let other = "* LIST () \"/\" \"Work/Old/Trash\"\r\n* LIST () \"/\" \"Work/Trash\"\r\n";
    moved_to(
        MOVES,
        &format!("{other}* LIST () \"/\" \"Deleted Items\"\r\n"),
        "Deleted Items",
    );
    moved_to(
        MOVES,
        "* LIST () \".\" INBOX.a.Trash\r\n* LIST () \".\" INBOX.Bin\r\n",
        "INBOX.Bin",
    );
    moved_to(MOVES, "* LIST () \".\" INBOX.a.Trash\r\n", "Trash");
}

/// If a server lists folders without end, the gateway gives up.
#[test]
fn more_folders_than_anybody_has_are_an_error() {
    for line in [
        "* LIST () \"/\" a\r\n".repeat(100_001),
        format!("* LIST () \"/\" {}\r\n", "a".repeat(200_000)).repeat(90),
    ] {
        let peer = Peer::start(refusing(MOVES).on("LIST", line + "{tag} OK\r\n"));
        let gateway = Setup::new(peer.address()).maildrop("on_delete = \"trash\"").start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 2");
        pop.err(
            "QUIT",
            "-ERR [SYS/TEMP] upstream sent something that is not IMAP, try later",
        );
        gateway.stop();
        assert_eq!(peer.count("UID MOVE"), 0);
    }
}

/// Folder names as literals. One of them ends like the head of a literal.
#[test]
fn a_trash_that_is_listed_by_a_literal() {
    moved_to(
        MOVES,
        "* LIST () \"/\" {5}\r\nINBOX\r\n* LIST (\\Trash) \"/\" {6}\r\nBin{3}\r\n",
        "Bin{3}",
    );
}

/// A server with UTF8=ONLY (RFC 6855 §6) refuses everything before ENABLE, and its names are not in modified UTF-7.
#[test]
fn a_server_that_takes_only_utf8() {
    let capabilities = "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS MOVE UTF8=ONLY";
    let listed = "* LIST (\\Trash) \"/\" \"Gelöscht &- weg\"\r\n";
    let peer = moved_to(capabilities, listed, "Gelöscht &- weg");
    let at = |prefix: &str| peer.commands().iter().position(|command| command.starts_with(prefix));
    assert!(at("ENABLE UTF8=ACCEPT").is_some_and(|enable| at("SELECT").is_some_and(|select| enable < select)));
}

/// The server says TRYCREATE: the folder must be created first (RFC 3501 §6.4.7).
#[test]
fn a_folder_is_made_when_the_server_says_so() {
    let first = refusing(MOVES).once("UID MOVE", vec![send("{tag} NO [TRYCREATE] what folder?\r\n")]);
    let peer = Peer::start(first);
    let gateway = Setup::new(peer.address()).maildrop("on_delete = \"move:Old\"").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.quit();
    assert_eq!(
        (peer.count("UID MOVE"), peer.count("CREATE \"Old\"")),
        (2, 1),
        "{:?}",
        peer.commands()
    );
}
