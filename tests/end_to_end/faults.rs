//! Failures while mail is read. A device never takes half a message for a whole one, and no mail is lost.

use crate::support::{
    answers::{Answers, Message, body_of},
    gateway::Setup,
    mail,
    peer::{Gate, Peer, Step, Steps, send},
    pop::Pop,
};

/// How many commands would remove a message.
fn removals(peer: &Peer) -> usize {
    peer.count("UID STORE") + peer.count("UID EXPUNGE") + peer.count("EXPUNGE") + peer.count("UID MOVE")
}

fn mailbox() -> Answers {
    Answers::of((1..=3).map(mail::simple))
}

/// The beginning of a response with half a body, which is larger than any buffer; and that half.
fn half_a_body() -> (Vec<u8>, Vec<u8>) {
    let body = [
        &b"Subject: half\r\n\r\n"[..],
        &b"half a line of text\r\n".repeat(20_000),
    ]
    .concat();
    let mut octets = format!("* 1 FETCH (UID 1 BODY[] {{{}}}\r\n", body.len() * 2).into_bytes();
    octets.extend_from_slice(&body);
    (octets, body)
}

#[test]
fn an_upstream_that_is_lost_within_a_body() {
    let (half, body) = half_a_body();
    for end in [
        vec![Step::Close],
        vec![send("\r\n* BYE shutting down\r\n"), Step::Close],
        vec![Step::Reset],
    ] {
        let steps = [send(&half).steps(), end].concat();
        let peer = Peer::start(
            mailbox()
                .on("UID FETCH 1 (UID BODY.PEEK[])", steps.clone())
                .on("UID FETCH 1:3 (UID BODY", steps),
        );
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.ok("DELE 2");
        // After half a message neither the final dot nor a reply may come, and the QUIT that was sent already must not
        // take effect.
        pop.send(b"RETR 1\r\nQUIT\r\n");
        let came = pop.broken_off();
        // Within a literal, the octets of a BYE belong to the message.
        let head = format!("+OK {} octets\r\n", body.len() * 2);
        let whole = [head.as_bytes(), &body, b"\r\n* BYE shutting down\r\n"].concat();
        assert!(whole.starts_with(&came), "other octets came");
        let session = &gateway.sessions(1)[0];
        assert_eq!(session["end"], "upstream");
        assert_eq!(session["retrieved"], 0);
        gateway.stop();
        assert_eq!(removals(&peer), 0, "{:?}", peer.commands());
    }
}

#[test]
fn an_upstream_that_falls_silent_within_a_body() {
    let (half, _) = half_a_body();
    let steps = vec![send(&half), Step::Silence];
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", steps));
    let gateway = Setup::new(peer.address()).limit("upstream_seconds = 1").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("DELE 2");
    pop.send(b"RETR 1\r\nQUIT\r\n");
    assert!(pop.broken_off().len() > 100_000);
    gateway.stop();
    assert_eq!(removals(&peer), 0, "{:?}", peer.commands());
}

#[test]
fn silence_before_a_body_is_temporary() {
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", Step::Silence));
    let gateway = Setup::new(peer.address()).limit("upstream_seconds = 1").start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.err("RETR 1", "-ERR [SYS/TEMP]");
    // The next message comes on a new connection.
    assert_eq!(pop.retr(2).1, mail::simple(2));
    pop.quit();
}

#[test]
fn a_connection_lost_between_commands_is_replaced_without_a_word() {
    for farewell in ["", "* BYE Autologout; idle for too long\r\n"] {
        let lost = mailbox().on(
            "UID SEARCH",
            vec![send("* SEARCH\r\n{tag} OK\r\n"), send(farewell), Step::Close],
        );
        let peer = Peer::start_each(vec![lost, mailbox()]);
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        peer.wait_for_end(1);
        assert_eq!(pop.retr(3).1, mail::simple(3));
        assert_eq!(peer.connections(), 2);
        pop.quit();
    }
}

#[test]
fn uids_of_another_mailbox_are_not_used() {
    let lost = mailbox().on("UID SEARCH", vec![send("* SEARCH\r\n{tag} OK\r\n"), Step::Close]);
    let peer = Peer::start_each(vec![lost, mailbox().uid_validity(1001)]);
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    peer.wait_for_end(1);
    pop.err("RETR 1", "-ERR [SYS/TEMP]");
    pop.ok("DELE 1");
    pop.err("QUIT", "-ERR [SYS/TEMP]");
    gateway.stop();
    assert_eq!(removals(&peer), 0, "{:?}", peer.commands());
    let is_body = |command: &String| command.contains("BODY");
    assert!(!peer.commands().iter().any(is_body), "{:?}", peer.commands());
}

/// What has come of a body is passed on at once, so that a device does not take a slow upstream for a gateway that
/// hangs.
#[test]
fn what_has_come_of_a_body_does_not_wait_for_the_rest() {
    let gate = Gate::default();
    let steps = vec![
        send("* 1 FETCH (UID 1 BODY[] {11}\r\nA: 1\r\n"),
        Step::Wait(gate.clone()),
        send("\r\nB\r\n)\r\n{tag} OK fetched\r\n"),
    ];
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", steps));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.ok("RETR 1");
    assert_eq!(pop.line(), b"A: 1");
    gate.open();
    assert_eq!(pop.body().unwrap(), b"\r\nB\r\n");
    pop.quit();
}

#[test]
fn octets_that_come_one_at_a_time() {
    let peer = Peer::start(mailbox().trickle());
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in 1..=3 {
        assert_eq!(pop.retr(number).1, mail::simple(number));
        assert_eq!(pop.top(number, 2), mail::top(&mail::simple(number), 2));
    }
    pop.ok("DELE 2");
    pop.quit();
    assert_eq!(peer.count("UID EXPUNGE 2"), 1);
}

#[test]
fn news_between_the_data() {
    let answer = [
        &b"* 9 EXISTS\r\n* 1 FETCH (FLAGS (\\Seen))\r\n* 2 FETCH (UID 2 FLAGS (\\Deleted))\r\n* 3 EXPUNGE\r\n"[..],
        b"* OK [ALERT] the disk is {10}\r\n* 1 FETCH (FLAGS (\\Seen) UID 1 BODY[] {6}\r\nA: 1\r\n MODSEQ (7))\r\n",
        b"* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n* 8 EXPUNGE\r\n* 3 FETCH (BODY[HEADER] {3}\r\n)\r\n UID 3)\r\n",
        b"{tag} OK fetched\r\n",
    ];
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", answer.concat()));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1), (6, b"A: 1\r\n".to_vec()));
    assert_eq!(pop.stat().0, 3, "numbers never shift");
    assert_eq!(pop.retr(3).1, mail::simple(3));
    pop.quit();
}

#[test]
fn a_uid_that_comes_last() {
    let answer = "* 1 FETCH (BODY[] {6}\r\nA: 1\r\n UID 1)\r\n{tag} OK fetched\r\n";
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", answer));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1), (6, b"A: 1\r\n".to_vec()));
    pop.quit();
}

/// If the server sends another message than the one that was asked for, the device must not get it as a whole message.
#[test]
fn the_body_of_another_message() {
    for (answer, told_at_once) in [
        ("* 2 FETCH (UID 2 BODY[] {6}\r\nB: 2\r\n)\r\n{tag} OK fetched\r\n", true),
        (
            "* 2 FETCH (BODY[] {6}\r\nB: 2\r\n UID 2)\r\n{tag} OK fetched\r\n",
            false,
        ),
    ] {
        let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", answer));
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.send(b"RETR 1\r\n");
        if told_at_once {
            pop.expect("-ERR [SYS/TEMP]");
        } else {
            pop.broken_off();
        }
    }
}

/// The same for TOP if the server sends the UID last. The gateway fetches the parts, or cuts them from the whole
/// message.
#[test]
fn the_top_of_another_message() {
    let other = "Subject: other\r\n\r\none\r\ntwo\r\n";
    let (header, text) = other.split_at(18);
    let parts = format!(
        "* 1 FETCH (BODY[HEADER] {{{}}}\r\n{header} BODY[TEXT]<0> {{{}}}\r\n{text} UID 2)\r\n{{tag}} OK\r\n",
        header.len(),
        text.len()
    );
    let whole = format!(
        "* 1 FETCH (BODY[] {{{}}}\r\n{other} UID 2)\r\n{{tag}} OK\r\n",
        other.len()
    );
    let mut long = Message::new(1, mail::simple(1));
    long.size = 100_000;
    let peer = Peer::start(
        Answers::new([long, Message::new(2, mail::simple(2))])
            .on("UID FETCH 1 (UID BODY.PEEK[HEADER]", parts)
            .on("UID FETCH 1 (UID BODY.PEEK[]", whole),
    );
    let gateway = Setup::new(peer.address()).start();
    for command in ["TOP 1 1", "TOP 1 2", "TOP 1 20", "TOP 1 5000"] {
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.send(format!("{command}\r\n").as_bytes());
        pop.broken_off();
    }
}

#[test]
fn a_body_in_quotes() {
    let answer = "* 1 FETCH (UID 1 BODY[] \"A: \\\"1\\\"\")\r\n{tag} OK fetched\r\n";
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", answer));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(1).1, b"A: \"1\"\r\n");
    assert_eq!(pop.retr(2).1, mail::simple(2));
    pop.quit();
}

#[test]
fn nothing_is_no_message_unless_it_is_empty() {
    let contents = ["NIL", "{0}\r\n", "\"\""];
    for (content, (size, is_empty)) in contents
        .into_iter()
        .flat_map(|content| [(content, (100, false)), (content, (0, true))])
    {
        let mut message = Message::new(1, mail::simple(1));
        message.size = size;
        let answers = Answers::new([message, Message::new(2, mail::simple(2))]).on(
            "UID FETCH 1 (UID BODY.PEEK[])",
            format!("* 1 FETCH (UID 1 BODY[] {content})\r\n{{tag}} OK fetched\r\n"),
        );
        let peer = Peer::start(answers);
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        if is_empty {
            assert_eq!(pop.retr(1), (0, Vec::new()));
        } else {
            pop.err("RETR 1", "-ERR [SYS/TEMP]");
        }
        assert_eq!(pop.retr(2).1, mail::simple(2));
        pop.quit();
    }
}

#[test]
fn sizes_that_are_wrong() {
    let real = mail::simple(1);
    for size in [1, real.len() - 1, real.len() + 1, 1_000_000] {
        let mut message = Message::new(1, real.clone());
        message.size = size;
        let peer = Peer::start(Answers::new([message]));
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        assert_eq!(pop.ok("LIST 1"), format!("+OK 1 {size}"));
        assert_eq!(pop.retr(1), (real.len() as u64, real.clone()), "size {size}");
        assert_eq!(pop.top(1, 3), mail::top(&real, 3), "size {size}");
        assert_eq!(pop.top(1, 100_000_000), real, "size {size}");
        pop.quit();
    }
}

#[test]
fn what_is_not_delivered_is_an_error_and_the_session_lives_on() {
    for answer in [
        "{tag} OK fetched\r\n",
        "* 1 FETCH (UID 1)\r\n{tag} OK fetched\r\n",
        "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n{tag} OK fetched\r\n",
        "* 1 FETCH ()\r\n{tag} OK fetched\r\n",
        "{tag} NO [SERVERBUG] can't read it\r\n",
        "{tag} NO gone\r\n",
        "{tag} BAD what?\r\n",
    ] {
        let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY", answer));
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.err("RETR 1", "-ERR [SYS/TEMP]");
        pop.err("RETR 1", "-ERR [SYS/TEMP]");
        assert_eq!(pop.retr(2).1, mail::simple(2), "{answer}");
        pop.ok("NOOP");
        pop.quit();
    }
}

/// All octets of the literal have come, but the response with it does not end.
#[test]
fn a_body_whose_response_does_not_end() {
    for rest in ["garbage\r\n", "", " UID 1"] {
        let answer = vec![
            send(format!("* 1 FETCH (UID 1 BODY[] {{6}}\r\nA: 1\r\n{rest}")),
            Step::Close,
        ];
        let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", answer));
        let gateway = Setup::new(peer.address()).start();
        let mut pop = Pop::log_in(gateway.address(), "eva");
        pop.send(b"RETR 1\r\n");
        pop.broken_off();
    }
}

#[test]
fn a_literal_beyond_all_bounds() {
    let answer = "* 1 FETCH (UID 1 BODY[] {99999999999999999999}\r\nA: 1\r\n)\r\n{tag} OK fetched\r\n";
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", answer));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.err("RETR 1", "-ERR [SYS/TEMP]");
}

#[test]
fn a_line_without_end() {
    let peer = Peer::start(mailbox().on("UID FETCH 1 (UID BODY.PEEK[])", vec![b'x'; 4 << 20]));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    pop.err("RETR 1", "-ERR [SYS/TEMP]");
}

#[test]
fn an_upstream_that_ignores_the_partial() {
    let text = "line\r\n".repeat(2000);
    let message = format!("Subject: long\r\n\r\n{text}").into_bytes();
    let mut answer = format!(
        "* 1 FETCH (UID 1 BODY[HEADER] {{17}}\r\nSubject: long\r\n\r\n BODY[TEXT] {{{}}}\r\n{text}",
        text.len()
    );
    answer.push_str(")\r\n{tag} OK fetched\r\n");
    let peer = Peer::start(Answers::of([message.clone()]).on("UID FETCH 1 (UID BODY.PEEK[HEADER] BODY", answer));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for lines in [1, 5, 20] {
        assert_eq!(pop.top(1, lines), mail::top(&message, lines as usize));
    }
    pop.quit();
}

#[test]
fn top_of_lines_longer_than_guessed() {
    let text = format!("{}\r\n", "long ".repeat(3000)).repeat(9);
    let message = format!("Subject: long lines\r\n\r\n{text}").into_bytes();
    let peer = Peer::start(Answers::of([message.clone()]));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for lines in [0, 1, 2, 5, 9, 10] {
        assert_eq!(pop.top(1, lines), mail::top(&message, lines as usize), "{lines}");
    }
    pop.quit();
}

#[test]
fn a_body_of_other_octets_than_listed() {
    let peer = Peer::start(mailbox().on("UID FETCH 2 (UID BODY.PEEK[])", body_of(2, b"B: 2\r\n\r\n.\r\n")));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    assert_eq!(pop.retr(2), (11, b"B: 2\r\n\r\n.\r\n".to_vec()));
    pop.quit();
}

#[test]
fn a_server_that_sends_the_text_before_the_header() {
    let answer = "* 1 FETCH (UID 1 BODY[TEXT]<0> {9}\r\nthe text\n BODY[HEADER] {8}\r\nA: 1\r\n\r\n)\r\n{tag} OK\r\n";
    let long = |number| [mail::simple(number), b"more\r\n".repeat(1000)].concat();
    let mailbox = Answers::of([long(1), long(2)]);
    let peer = Peer::start(mailbox.on("UID FETCH 1 (UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]", answer));
    let gateway = Setup::new(peer.address()).start();
    let mut pop = Pop::log_in(gateway.address(), "eva");
    for number in [1, 2] {
        assert_eq!(pop.top(number, 1), mail::top(&long(number), 1));
    }
    // For TOP with no lines, the gateway still asks for the header alone.
    assert_eq!(pop.top(1, 0), mail::top(&long(1), 0));
    pop.quit();
    assert_eq!(
        (
            peer.count("UID FETCH 1 (UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]"),
            peer.count("UID FETCH 1 (UID BODY.PEEK[HEADER])")
        ),
        (1, 1),
        "{:?}",
        peer.commands()
    );
}
