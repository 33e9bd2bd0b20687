//! What old devices need: messages without NUL, and with the empty line after the header. Sizes stay true.

use crate::support::{
    answers::Answers,
    gateway::{Setup, account},
    mail,
    peer::{Peer, Step, send},
    pop::Pop,
};

const NUL: &[u8] = b"Subject: nul\r\n\r\na\0b\r\n.\0\r\n\0";
/// A message that is only a header.
const HEADER: &[u8] = b"Subject: a header\r\nFrom: a@example.org\r\n";

fn peer() -> Peer {
    Peer::start(Answers::of([NUL.to_vec(), HEADER.to_vec(), mail::simple(3)]).on("UID STORE", "{tag} OK\r\n"))
}

/// The reply to RETR, and the message.
type Retrieved = (String, Vec<u8>);

fn retr(pop: &mut Pop, number: usize) -> Retrieved {
    (pop.ok(&format!("RETR {number}")), pop.body().unwrap())
}

fn without_nul(message: &[u8]) -> Vec<u8> {
    message.iter().copied().filter(|&octet| octet != 0).collect()
}

/// Fetches all messages of a maildrop with `key`. Returns the LIST before and after that, and what was fetched.
fn fetch_all(key: &str) -> (Vec<String>, Vec<String>, Vec<Retrieved>) {
    let peer = peer();
    let gateway = Setup::new(peer.address()).maildrop(key).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let before = pop.list("LIST");
    let fetched = (1..=3).map(|number| retr(&mut pop, number)).collect();
    pop.quit();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    let (after, (count, octets)) = (pop.list("LIST"), pop.stat());
    let size = |line: &String| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    assert_eq!((count, octets), (3, after.iter().map(size).sum()));
    pop.quit();
    (before, after, fetched)
}

/// The reply to RETR if the size is known.
fn ok(message: &[u8]) -> String {
    format!("+OK {} octets", message.len())
}

fn sizes(messages: [&[u8]; 3]) -> Vec<String> {
    (1..)
        .zip(messages)
        .map(|(number, octets)| format!("{number} {}", octets.len()))
        .collect()
}

#[test]
fn nul_octets_may_become_another_octet() {
    let simple = mail::simple(3);
    let (before, after, fetched) = fetch_all("nul = \"0x80\"");
    let altered: Vec<u8> = NUL.iter().map(|&octet| if octet == 0 { 0x80 } else { octet }).collect();
    assert_eq!(fetched[0], (ok(NUL), mail::delivered(&altered)));
    assert_eq!(fetched[2], (ok(&simple), simple.clone()));
    assert_eq!(before, sizes([NUL, HEADER, &simple]));
    assert_eq!(after, sizes([&mail::delivered(NUL), HEADER, &simple]));
}

/// After RETR, LIST shows the size without the NULs.
#[test]
fn nul_octets_may_be_left_out() {
    let simple = mail::simple(3);
    let (before, after, fetched) = fetch_all("nul = \"drop\"");
    let altered = without_nul(NUL);
    assert_eq!(fetched[0], (ok(&altered), mail::delivered(&altered)));
    assert_eq!(fetched[1], (ok(HEADER), HEADER.to_vec()));
    assert_eq!(fetched[2], (ok(&simple), simple.clone()));
    assert_eq!(before, sizes([NUL, HEADER, &simple]));
    assert_eq!(after, sizes([&altered, HEADER, &simple]));
}

#[test]
fn a_header_may_get_its_empty_line() {
    let simple = mail::simple(3);
    let (before, after, fetched) = fetch_all("pad_header = true");
    let padded = [HEADER, b"\r\n"].concat();
    assert_eq!(fetched[0], (ok(NUL), mail::delivered(NUL)));
    assert_eq!(fetched[1], (ok(&padded), padded.clone()));
    assert_eq!(fetched[2], (ok(&simple), simple.clone()));
    assert_eq!(before, sizes([NUL, HEADER, &simple]));
    assert_eq!(after, sizes([&mail::delivered(NUL), &padded, &simple]));
}

/// For a large message, the gateway knows only at the end how many octets were left out. So RETR's reply has no size,
/// and the next LIST has the right one.
#[test]
fn of_a_large_message_no_wrong_size_is_told() {
    let header = b"Subject: large\r\n\r\n";
    let large = [&header[..], &b"a line\0 of it\r\n".repeat(20_000)].concat();
    let altered = without_nul(&large);
    let no_header = b"X: a header without an end\r\n".repeat(10_000);
    let padded = [&no_header[..], b"\r\n"].concat();
    for (key, replies, bodies) in [
        ("nul = \"drop\"", ["+OK".into(), "+OK".into()], [&altered, &no_header]),
        ("pad_header = true", [ok(&large), "+OK".into()], [&large, &padded]),
    ] {
        let messages = [large.clone(), no_header.clone()];
        let peer = Peer::start(Answers::of(messages).on("UID STORE", "{tag} OK\r\n"));
        let gateway = Setup::new(peer.address()).maildrop(key).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        for (number, (reply, body)) in (1..).zip(replies.iter().zip(bodies)) {
            let (said, came) = retr(&mut pop, number);
            assert_eq!(said, *reply, "{key}");
            assert!(came == *body, "{key}: message {number}");
        }
        pop.quit();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        let expected = [format!("1 {}", bodies[0].len()), format!("2 {}", bodies[1].len())];
        assert_eq!(pop.list("LIST"), expected);
        pop.quit();
    }
}

/// If the upstream breaks off before the size is known, the device gets an error, not half a message.
#[test]
fn what_is_held_back_can_still_fail() {
    let cut = vec![send("* 1 FETCH (UID 1 BODY[] {100}\r\nSubject: cut\r\n"), Step::Close];
    let peer = Peer::start(Answers::of([NUL.to_vec()]).on("UID FETCH 1 (UID BODY", cut));
    let gateway = Setup::new(peer.address()).maildrop("nul = \"drop\"").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.err("RETR 1", "-ERR [SYS/TEMP]");
    pop.ok("NOOP");
}

#[test]
fn by_default_every_octet_stays() {
    let simple = mail::simple(3);
    let (before, after, fetched) = fetch_all("nul = \"keep\"\npad_header = false");
    for ((reply, body), message) in fetched.iter().zip([NUL, HEADER, &simple]) {
        assert_eq!(*reply, ok(message));
        assert_eq!(*body, mail::delivered(message));
    }
    assert_eq!(before, sizes([NUL, HEADER, &simple]));
    assert_eq!(after, sizes([&mail::delivered(NUL), HEADER, &simple]));
}

#[test]
fn each_account_has_its_own_way_and_top_follows() {
    let peer = peer();
    let changed = account("old", "eva") + "\nmaildrop = { nul = \"drop\", pad_header = true }";
    let gateway = Setup::new(peer.address())
        .table(&changed)
        .table(&account("new", "eva"))
        .start();
    let mut pop = Pop::log_in(gateway.address(), "old");
    assert_eq!(pop.top(1, 9), mail::delivered(&without_nul(NUL)));
    assert_eq!(pop.top(2, 0), [HEADER, b"\r\n"].concat());
    assert_eq!(pop.top(3, 0), mail::top(&mail::simple(3), 0));
    pop.quit();
    let mut pop = Pop::log_in(gateway.address(), "new");
    assert_eq!(pop.top(1, 9), mail::delivered(NUL));
    assert_eq!(pop.top(2, 0), HEADER);
    pop.quit();
    let mut pop = Pop::log_in(gateway.address(), "new");
    let expected = sizes([&mail::delivered(NUL), HEADER, &mail::simple(3)]);
    assert_eq!(
        pop.list("LIST"),
        expected,
        "a TOP of all of it tells what was delivered last"
    );
    pop.quit();
}
