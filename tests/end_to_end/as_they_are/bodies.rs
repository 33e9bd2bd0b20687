//! Bodies: the forms in which servers send a body, and what happens if a body does not come.

use super::{each, mailbox};
use crate::support::{
    answers::{Answers, Message, body_of},
    gateway::{Gateway, Setup},
    mail,
    peer::{Peer, Step, Steps, send},
    pop::Pop,
};

/// The octets of the second message, if a test writes its response by hand.
const TEXT: &str = "B: 2\r\n\r\n(a \"text\"\r\n{3}\r\n)\r\n";

/// Three messages; `content` is the response with the second.
fn with_content(content: &str) -> Answers {
    Answers::new((1..=3).map(|uid| match uid {
        2 => Message::new(2, TEXT.as_bytes()).content(content),
        _ => Message::new(uid, mail::simple(uid as usize)),
    }))
}

#[test]
fn bodies_in_odd_forms() {
    let literal = format!("{{{}}}\r\n{TEXT}", TEXT.len());
    each(
        [
            // A line end after the literal.
            format!("* 2 FETCH (UID 2 BODY[] {literal}\r\n)\r\n"),
            format!("* 2 FETCH (UID 2 BODY[] {literal}\r\n\r\n)\r\n"),
            format!("* 2 FETCH (UID 2 BODY[] {literal}\n)\r\n"),
            format!("* 2 FETCH (BODY[] {literal}\r\n UID 2)\r\n"),
            format!("* 2 FETCH (UID 2 BODY[] {literal})\r\n\r\n"),
            // Too few blanks, or too many.
            format!("* 2 FETCH (UID 2 BODY[]{literal})\r\n"),
            format!("* 2 FETCH (UID 2 BODY[]  {literal} )\r\n"),
            format!("* 2 FETCH (BODY[] {literal}UID 2)\r\n"),
            // Other names of the item.
            format!("* 2 FETCH (UID 2 BODY.PEEK[] {literal})\r\n"),
            format!("* 2 FETCH (UID 2 RFC822 {literal})\r\n"),
            format!("* 2 FETCH (UID 2 RFC822.PEEK {literal})\r\n"),
            format!("* 2 FETCH (UID 2 body[] {literal})\r\n"),
            format!("* 2 FETCH (UID 2 BODY[]<0> {literal})\r\n"),
            format!("* 2 FETCH (UID 2 BINARY[] ~{literal})\r\n"),
            format!("* 2 FETCH (UID 2 BODY[] {{{}+}}\r\n{TEXT})\r\n", TEXT.len()),
            format!("* 2 FETCH (UID 2 BODY[] {{0{}}}\r\n{TEXT})\r\n", TEXT.len()),
            // Unneeded parentheses.
            format!("* 2 FETCH ((UID 2 BODY[] {literal}))\r\n"),
            format!("* 2 FETCH (UID 2 (BODY[] {literal}))\r\n"),
            format!("* 2 FETCH (UID (2) BODY[] ({literal}))\r\n"),
            // Other items beside the body, in any order and form.
            format!("* 2 FETCH (FLAGS (\\Seen {{3}}\r\n)) {{) UID 2 BODY[] {literal})\r\n"),
            format!("* 2 FETCH (FLAGS (\\Seen [x] \\*) UID 2 RFC822.SIZE NIL BODY[] {literal})\r\n"),
            format!("* 2 FETCH (ENVELOPE (NIL {{7}}\r\nBODY[] \"UID 9\" NIL) BODY[] {literal} MODSEQ (7) UID 2)\r\n"),
            format!("* 2 FETCH (X-THING (a (b {{2}}\r\n)) \"c)\")) UID 2 BODY[] {literal})\r\n"),
            format!("* 2 FETCH (BODY[] {literal} FLAGS (\\Seen) UID 2 INTERNALDATE {{3}}\r\nnow)\r\n"),
            format!("* 2 FETCH (UID 2 BODY[HEADER] NIL BODY[] {literal})\r\n"),
            // Other responses before and after it.
            format!(
                "* 2 FETCH (FLAGS (\\Recent))\r\n* 2 FETCH (UID 2 BODY[] {literal})\r\n* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n"
            ),
            format!("* 2 FETCH (UID 2)\r\n* 2 FETCH (UID 2 BODY[] {literal})\r\n"),
        ],
        |response| {
            let peer = Peer::start(with_content(response));
            let gateway = Setup::new(peer.address()).limit("upstream_seconds = 2").start();
            let mut pop = Pop::log_in(gateway.address(), "eva");
            assert_eq!(pop.retr(2), (TEXT.len() as u64, TEXT.into()), "{response}");
            // The connection can still be used.
            assert_eq!(pop.retr(3).1, mail::simple(3), "{response}");
            pop.quit();
            assert_eq!(peer.connections(), 1, "{response}");
        },
    );
}

#[test]
fn tops_in_odd_forms() {
    let header = "Subject: long\r\n\r\n";
    let text = "one\r\ntwo\r\nthree\r\n";
    let message = format!("{header}{text}{}", "more\r\n".repeat(2000));
    let (head, body) = (
        format!("{{{}}}\r\n{header}", header.len()),
        format!("{{{}}}\r\n{text}", text.len()),
    );
    each(
        [
            format!("UID 1 BODY[HEADER] {head} BODY[TEXT]<0> {body}"),
            format!("UID 1 RFC822.HEADER {head} RFC822.TEXT {body}"),
            format!("UID 1 BODY.PEEK[HEADER] {head} BODY.PEEK[TEXT]<0> {body}"),
            format!("UID 1 BODY.PEEK[HEADER] {head} BODY[TEXT]<0.17> {body}"),
            format!("UID 1 RFC822.HEADER {head}\r\n BODY[TEXT] {body}"),
            format!("UID 1 BODY[HEADER]{head} BODY[TEXT]<0>{body}\r\n"),
            format!("BODY[HEADER] {head} FLAGS (\\Seen {{1}}\r\n)) BODY[TEXT]<0> {body} UID 1"),
            format!("(UID 1 BODY[HEADER] {head} BODY[TEXT]<0> {body})"),
        ],
        |items| {
            let content = format!("* 1 FETCH ({items})\r\n");
            let answers = Answers::new([
                Message::new(1, message.as_bytes().to_vec()).content(content),
                Message::new(2, mail::simple(2)),
            ]);
            let peer = Peer::start(answers);
            let gateway = Setup::new(peer.address()).limit("upstream_seconds = 2").start();
            let mut pop = Pop::log_in(gateway.address(), "eva");
            for lines in [1, 2] {
                assert_eq!(
                    pop.top(1, lines),
                    mail::top(message.as_bytes(), lines as usize),
                    "{items}"
                );
            }
            assert_eq!(pop.retr(2).1, mail::simple(2), "{items}");
            pop.quit();
            assert_eq!(peer.connections(), 1, "{items}");
        },
    );
}

/// Part of a literal, well past any buffer of ours.
fn short_literal() -> String {
    let text = "half a line of text\r\n".repeat(4000);
    let announced = text.len() + 1000;
    format!("* 2 FETCH (UID 2 BODY[] {{{announced}}}\r\n{text}")
}

/// Sends a RETR 2 that fails, in a session that has marked the third message: no dot comes, the session ends, and
/// nothing is deleted. Returns the reason that the log gives.
fn broken_off(gateway: &Gateway, peer: &Peer, sessions: usize) -> String {
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 3");
    pop.send(b"RETR 2\r\nQUIT\r\n");
    assert!(pop.broken_off().len() > 40_000);
    assert_eq!(gateway.sessions(sessions)[sessions - 1]["end"], "upstream");
    peer.assert_nothing_removed();
    let events = gateway.events("message broken off", sessions);
    events[sessions - 1]["error"].to_string()
}

/// The log has the server's own words, as it has for a RETR that fails.
#[test]
fn a_header_that_does_not_come_breaks_off_the_list_of_header_fields() {
    let is_for_body = |command: &str| command.starts_with("UID FETCH") && command.contains("BODY");
    let peer = Peer::start(mailbox().when(is_for_body, "{tag} NO [UNAVAILABLE] asleep\r\n"));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.send(b"XTND XLST Subject\r\n");
    pop.broken_off();
    assert_eq!(gateway.sessions(1)[0]["end"], "upstream");
    let event = &gateway.events("the upstream failed", 1)[0];
    assert_eq!(event["level"], "WARN");
    assert!(event["error"].as_str().unwrap().contains("asleep"), "{event}");
}

/// What the server sends after a literal that is too short belongs to no message. The connection is still good; only
/// the message is at fault.
#[test]
fn a_literal_that_ends_early_is_no_lost_connection() {
    let literal = short_literal();
    let lost = vec![send(&literal), Step::Close];
    let mut reasons = Vec::new();
    for end in [Step::Silence, Step::Close, send("* 3 EXISTS\r\n")] {
        let early = vec![send(&literal), send(")\r\n{tag} OK FETCH completed\r\n"), end];
        let peer = Peer::start(
            mailbox()
                .on("UID FETCH 2 (UID BODY", early)
                .on("UID FETCH 1:3 (UID BODY", "{tag} NO no\r\n"),
        );
        let gateway = Setup::new(peer.address()).limit("upstream_seconds = 1").start();
        reasons.push(broken_off(&gateway, &peer, 1));
        // Whatever happened to the second message, the others can be retrieved.
        let mut pop = Pop::log_in(gateway.address(), "eva");
        for number in [1, 3] {
            assert_eq!(pop.retr(number).1, mail::simple(number));
        }
        pop.quit();
    }
    let peer = Peer::start(mailbox().on("UID FETCH 2 (UID BODY", lost));
    let gateway = Setup::new(peer.address()).limit("upstream_seconds = 1").start();
    let of_loss = broken_off(&gateway, &peer, 1);
    for reason in &reasons {
        assert_ne!(*reason, of_loss, "an early end and a loss are told alike");
        assert_eq!(*reason, reasons[0]);
    }
}

/// If one message is never delivered, the others are delivered nevertheless, in this session or the next.
#[test]
fn the_others_are_reachable_behind_a_message_that_never_comes() {
    let literal = short_literal();
    for answer in [
        "* 2 FETCH (UID 2 BODY[] NIL)\r\n{tag} OK done\r\n".steps(),
        "{tag} OK FETCH completed.\r\n".steps(),
        "* 2 FETCH (UID 2)\r\n{tag} OK done\r\n".steps(),
        "{tag} NO [SERVERBUG] Internal error occurred. Refer to server log for more information.\r\n".steps(),
        "{tag} NO Temporary failure, try again later\r\n".steps(),
        "{tag} NO [UNAVAILABLE] can't read it now\r\n".steps(),
        "{tag} BAD Command Error. 11\r\n".steps(),
        vec![send("* BYE Connection is closed. 13\r\n"), Step::Close],
        vec![Step::Close],
        vec![Step::Reset],
        vec![send(&literal), Step::Close],
        vec![send(&literal), Step::Reset],
        vec![send("* 2 FETCH (UID 2 BODY[] {999999}\r\n"), Step::Close],
        vec![send(&literal), send(")\r\n{tag} OK done\r\n"), Step::Silence],
    ] {
        // A set that contains the message fails in the same way at the message's place.
        let first = body_of(1, &mail::simple(1));
        let first = first.strip_suffix(b"{tag} OK fetched\r\n").unwrap().to_vec();
        let of_set = [first.steps(), answer.clone()].concat();
        let peer = Peer::start(
            mailbox()
                .on("UID FETCH 2", answer.clone())
                .on("UID FETCH 2:3 (UID BODY", answer.clone())
                .on("UID FETCH 1:2 (UID BODY", of_set.clone())
                .on("UID FETCH 1:3 (UID BODY", of_set),
        );
        let gateway = Setup::new(peer.address()).limit("upstream_seconds = 1").start();
        // A device that retrieves from the first message on, and starts again after a failure.
        for session in 1..=2 {
            let mut pop = Pop::log_in(gateway.address(), "eva");
            assert_eq!(pop.stat().0, 3, "session {session}");
            assert_eq!(pop.retr(1).1, mail::simple(1), "session {session}");
            pop.send(b"RETR 2\r\n");
            pop.in_vain();
        }
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.retr(3).1, mail::simple(3));
        assert_eq!(pop.retr(1).1, mail::simple(1));
        pop.ok("DELE 3");
        pop.quit();
        assert_eq!(peer.count("UID EXPUNGE 3"), 1, "{:?}", peer.commands());
        assert_eq!(peer.count("UID EXPUNGE"), 1, "{:?}", peer.commands());
    }
}
