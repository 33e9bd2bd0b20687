//! Folders: names in the configuration are written with `/`; the server's names have its prefix and separator (RFC
//! 2342).

use super::{each, mailbox};
use crate::support::{
    PASSWORD,
    answers::{Answers, CAPABILITIES},
    gateway::{Gateway, Setup},
    hoster::{Hoster, utf7},
    mail,
    peer::Peer,
    pop::Pop,
};

/// Capabilities without MOVE and with it.
const SERVERS: [&str; 2] = [
    "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS NAMESPACE",
    "IMAP4rev1 SASL-IR AUTH=PLAIN UIDPLUS NAMESPACE MOVE",
];

/// Two sessions delete one message each, and both must get `+OK`. Returns the folders to which the messages went.
fn moved(hoster: &Hoster, capabilities: &'static str, keys: &[&str]) -> Vec<String> {
    let peer = Peer::start(hoster.over(mailbox().capabilities(capabilities)));
    let gateway = keys
        .iter()
        .fold(Setup::new(peer.address()), |setup, key| setup.maildrop(key))
        .start();
    for _ in 0..2 {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 2");
        pop.quit();
    }
    gateway.stop();
    let commands = peer.commands();
    let is_move = |command: &&String| command.starts_with("UID MOVE 2 ") || command.starts_with("UID COPY 2 ");
    let moves: Vec<&String> = commands.iter().filter(is_move).collect();
    let folder = |command: &str| command.splitn(4, ' ').nth(3).unwrap().trim_matches('"').to_owned();
    let targets: Vec<String> = moves.iter().map(|command| folder(command)).collect();
    let last_two = targets[targets.len() - 2..].to_vec();
    assert!(hoster.folders().contains(&last_two[1]), "{commands:?}");
    last_two
}

fn assert_moved(hoster: &Hoster, keys: &[&str], folder: &str) {
    for capabilities in SERVERS {
        assert_eq!(
            moved(hoster, capabilities, keys),
            [folder, folder],
            "{keys:?} {capabilities}"
        );
    }
}

#[test]
fn names_are_below_the_prefix() {
    each(
        [
            ("INBOX.", ".", "Old", "INBOX.Old"),
            ("INBOX.", ".", "Erledigt/2024", "INBOX.Erledigt.2024"),
            ("INBOX.", ".", "Erledigt/Größe", "INBOX.Erledigt.Gr&APYA3w-e"),
            ("INBOX/", "/", "Old", "INBOX/Old"),
            ("INBOX/", "/", "Erledigt/2024", "INBOX/Erledigt/2024"),
            ("", ".", "Old", "Old"),
            ("", ".", "Erledigt/2024", "Erledigt.2024"),
            ("", "/", "Erledigt/2024", "Erledigt/2024"),
            ("Mail/", "/", "Erledigt/2024", "Mail/Erledigt/2024"),
        ],
        |&(prefix, separator, key, folder)| {
            // The folder exists, or is created at the first QUIT.
            for hoster in [
                Hoster::new(prefix, separator, [folder]),
                Hoster::new(prefix, separator, []),
            ] {
                assert_moved(&hoster, &[&format!("on_delete = \"move:{key}\"")], folder);
                assert_eq!(hoster.folders(), [folder]);
            }
        },
    );
}

/// A configured name that is already the server's name stays as it is.
#[test]
fn names_in_the_servers_own_form() {
    each(
        [
            ("INBOX.", ".", "INBOX.Old"),
            ("INBOX.", ".", "INBOX.Erledigt.2024"),
            ("INBOX/", "/", "INBOX/Old"),
            ("", ".", "Erledigt.2024"),
        ],
        |&(prefix, separator, key)| {
            for hoster in [
                Hoster::new(prefix, separator, [key]),
                Hoster::new(prefix, separator, []),
            ] {
                assert_moved(&hoster, &[&format!("on_delete = \"move:{key}\"")], key);
                assert_eq!(hoster.folders(), [key]);
            }
        },
    );
    let hoster = Hoster::new("INBOX.", ".", []);
    assert_moved(&hoster, &["on_delete = \"move:INBOX/Old\""], "INBOX.Old");
}

/// Servers say in many ways that a folder is missing. RFC 3501 §6.4.7 asks for TRYCREATE only.
#[test]
fn a_missing_folder_is_made_whatever_is_said_of_it() {
    each(
        [
            "NO [TRYCREATE] Mailbox does not exist",
            "NO [NONEXISTENT] Unknown Mailbox: Old",
            "NO Mailbox does not exist, or must be subscribed to.",
            "NO COPY failed: can't open destination mailbox",
            "NO [CANNOT] no",
        ],
        |&refusal| {
            for (prefix, separator, folder) in [("", "/", "Old"), ("INBOX.", ".", "INBOX.Old")] {
                let hoster = Hoster::new(prefix, separator, []).refusal(refusal);
                assert_moved(&hoster, &["on_delete = \"move:Old\""], folder);
                assert_eq!(hoster.folders(), [folder], "{refusal}");
            }
        },
    );
}

#[test]
fn the_trash_is_below_the_prefix() {
    let trash = "on_delete = \"trash\"";
    assert_moved(&Hoster::new("INBOX.", ".", ["INBOX.Trash"]), &[trash], "INBOX.Trash");
    assert_moved(&Hoster::new("INBOX.", ".", []), &[trash], "INBOX.Trash");
    assert_moved(
        &Hoster::new("INBOX/", "/", ["INBOX/Work/Trash"]),
        &[trash],
        "INBOX/Trash",
    );
    let named = "trash_folder = \"Alt/Weg\"";
    assert_moved(&Hoster::new("INBOX.", ".", []), &[trash, named], "INBOX.Alt.Weg");
    let own = "trash_folder = \"INBOX.Alt.Weg\"";
    assert_moved(&Hoster::new("INBOX.", ".", []), &[trash, own], "INBOX.Alt.Weg");
}

/// The names that mail programs and providers use in other languages.
#[test]
fn the_trash_in_other_languages() {
    each(
        [
            "Trash",
            "Deleted Items",
            "Papierkorb",
            "Gelöschte Elemente",
            "Corbeille",
            "Éléments supprimés",
            "Papelera",
            "Elementos eliminados",
            "Cestino",
            "Posta eliminata",
            "Prullenbak",
            "Verwijderde items",
            "Lixeira",
            "Itens Excluídos",
            "Itens Eliminados",
            "Papperskorgen",
            "Borttaget",
            "Papirkurv",
            "Slettet post",
            "Slettede elementer",
            "Roskakori",
            "Poistetut",
            "Kosz",
            "Elementy usunięte",
            "Koš",
            "Odstraněná pošta",
            "Törölt elemek",
            "Çöp Kutusu",
            "Silinmiş Öğeler",
            "Корзина",
            "Удаленные",
            "Кошик",
            "ごみ箱",
            "ゴミ箱",
            "削除済みアイテム",
            "已删除邮件",
            "휴지통",
            "지운 편지함",
        ],
        |&name| {
            let name = utf7(name);
            for folder in [name.clone(), format!("INBOX.{name}")] {
                let (prefix, separator) = if folder == name { ("", "/") } else { ("INBOX.", ".") };
                let hoster = Hoster::new(prefix, separator, [folder.as_str(), "Archive", "Work/Trash"]);
                let targets = moved(&hoster, SERVERS[1], &["on_delete = \"trash\""]);
                assert_eq!(targets, [folder.clone(), folder]);
            }
        },
    );
    // Below a folder that the provider puts above others.
    let hoster = Hoster::new("", "/", ["[Gmail]/Papierkorb", "Work"]);
    assert_moved(&hoster, &["on_delete = \"trash\""], "[Gmail]/Papierkorb");
}

fn serves(gateway: &Gateway, login: &str) {
    let mut pop = Pop::log_in(gateway.address(), login);
    assert_eq!((pop.stat().0, pop.retr(3).1), (3, mail::simple(3)));
    pop.quit();
}

#[test]
fn the_maildrops_folder_is_below_the_prefix() {
    each(
        [
            ("Lists/rust", "INBOX.Lists.rust"),
            ("INBOX.Lists.rust", "INBOX.Lists.rust"),
            ("INBOX/Lists/rust", "INBOX.Lists.rust"),
            ("INBOX", "INBOX"),
        ],
        |&(key, folder)| {
            let hoster = Hoster::new("INBOX.", ".", ["INBOX.Lists.rust"]);
            let peer = Peer::start(hoster.over(mailbox().capabilities(SERVERS[0])));
            let gateway = Setup::new(peer.address())
                .maildrop(&format!("folder = \"{key}\""))
                .start();
            serves(&gateway, "eva");
            // The next login needs no second try.
            serves(&gateway, "eva");
            let commands = peer.commands_of(peer.connections() - 1);
            let selects: Vec<_> = commands
                .iter()
                .filter(|command| command.starts_with("SELECT"))
                .collect();
            assert_eq!(selects, [&format!("SELECT \"{folder}\"")], "{commands:?}");
        },
    );
}

#[test]
fn a_folder_by_login_is_below_the_prefix() {
    let hoster = Hoster::new("INBOX.", ".", ["INBOX.Invoices", "INBOX.Lists.rust"]);
    let peer = Peer::start(hoster.over(mailbox().capabilities(SERVERS[0])));
    let gateway = Setup::new(peer.address()).maildrop("folder_separator = \"+\"").start();
    for (login, folder) in [
        ("eva+Invoices", "INBOX.Invoices"),
        ("eva+Lists/rust", "INBOX.Lists.rust"),
        ("eva+INBOX.Invoices", "INBOX.Invoices"),
        ("eva", "INBOX"),
    ] {
        let before = peer.count(&format!("SELECT \"{folder}\""));
        serves(&gateway, login);
        assert!(
            peer.count(&format!("SELECT \"{folder}\"")) > before,
            "{login}: {:?}",
            peer.commands()
        );
    }
    let reply = Pop::connect(gateway.address()).try_log_in("eva+Elsewhere", PASSWORD);
    assert!(reply.starts_with("-ERR [SYS/PERM]"), "{reply}");
}

/// If a server does not support NAMESPACE, or refuses it, names are used as configured.
#[test]
fn a_server_without_namespaces() {
    let refuse = |answers: Answers| answers.on("NAMESPACE", "{tag} BAD Unknown command\r\n");
    for capabilities in [SERVERS[0], CAPABILITIES] {
        let hoster = Hoster::new("", "/", []);
        let peer = Peer::start(refuse(hoster.over(mailbox().capabilities(capabilities))));
        let gateway = Setup::new(peer.address())
            .maildrop("on_delete = \"move:Old/2024\"")
            .start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 2");
        pop.quit();
        assert_eq!(hoster.folders(), ["Old/2024"], "{:?}", peer.commands());
    }
}

/// If the folder cannot be created, the error says so, and nothing is removed.
#[test]
fn a_folder_that_cannot_be_made() {
    each(SERVERS, |&capabilities| {
        let hoster = Hoster::new("INBOX.", ".", []);
        let answers = hoster
            .over(mailbox().capabilities(capabilities))
            .on("CREATE", "{tag} NO [NOPERM] Permission denied\r\n");
        let peer = Peer::start(answers);
        let gateway = Setup::new(peer.address()).maildrop("on_delete = \"move:Old\"").start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 2");
        pop.err("QUIT", "-ERR [SYS/");
        gateway.stop();
        peer.assert_nothing_removed();
    });
}
